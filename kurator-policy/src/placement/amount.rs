//! An amount of a resource in a reason.

use std::fmt;

use serde::{Deserialize, Serialize};

/// An amount as planners count it: thousandths of a CPU, whole units of everything else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[expect(clippy::exhaustive_enums, reason = "planners count in these two")]
pub enum Amount {
    /// Thousandths of a CPU.
    Milli(u64),
    /// Whole units: bytes, devices, pods.
    Units(u64),
}

impl Amount {
    pub(super) fn of(resource: &str, count: u64) -> Self {
        if resource == "cpu" {
            Self::Milli(count)
        } else {
            Self::Units(count)
        }
    }
}

/// As a quantity: `3`, `250m`, `512Mi`.
impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Milli(milli) if milli % 1000 != 0 => write!(f, "{milli}m"),
            Self::Milli(milli) => write!(f, "{}", milli / 1000),
            Self::Units(units) => {
                let steps = [(1 << 40, "Ti"), (1 << 30, "Gi"), (1 << 20, "Mi"), (1 << 10, "Ki")];
                for (step, suffix) in steps {
                    if units >= step && units % step == 0 {
                        return write!(f, "{}{suffix}", units / step);
                    }
                }
                write!(f, "{units}")
            }
        }
    }
}
