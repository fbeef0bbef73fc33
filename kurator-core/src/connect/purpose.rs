use std::{fmt, time::Duration};

use kube::Config;

/// What a client of a member is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum ClientPurpose {
    /// Reads and writes of controllers and executors.
    Control,
    /// Evictions, and whatever else has a back-off of its own for each object: a 429 is an answer (a
    /// PodDisruptionBudget says not now), not a fault.
    Evict,
    /// Leases: a late answer is as bad as none.
    Lease,
    /// Health probes: must know within seconds.
    Probe,
    /// Lists and watches, which are silent for minutes and have a back-off of their own.
    Watch,
}

impl ClientPurpose {
    /// Every purpose.
    pub const ALL: [Self; 5] = [Self::Control, Self::Evict, Self::Lease, Self::Probe, Self::Watch];

    /// How a client for this purpose behaves.
    ///
    /// | purpose | connect | read | retries 429, 503 and 504 itself |
    /// |---|---|---|---|
    /// | `Control` | 10 s | 30 s | yes |
    /// | `Evict` | 10 s | 30 s | no |
    /// | `Lease` | 5 s | 5 s | no |
    /// | `Probe` | 5 s | 5 s | no |
    /// | `Watch` | 10 s | none | no |
    pub fn policy(self) -> ClientPolicy {
        let seconds = Duration::from_secs;
        match self {
            Self::Control => ClientPolicy {
                connect_timeout: seconds(10),
                read_timeout: Some(seconds(30)),
                retry: true,
            },
            Self::Evict => ClientPolicy {
                connect_timeout: seconds(10),
                read_timeout: Some(seconds(30)),
                retry: false,
            },
            Self::Lease | Self::Probe => ClientPolicy {
                connect_timeout: seconds(5),
                read_timeout: Some(seconds(5)),
                retry: false,
            },
            Self::Watch => ClientPolicy {
                connect_timeout: seconds(10),
                read_timeout: None,
                retry: false,
            },
        }
    }
}

impl fmt::Display for ClientPurpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Control => "control",
            Self::Evict => "evict",
            Self::Lease => "lease",
            Self::Probe => "probe",
            Self::Watch => "watch",
        })
    }
}

/// Timeouts and retries of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClientPolicy {
    /// How long a connection may take to stand.
    pub connect_timeout: Duration,
    /// How long the server may be silent during a request; `None` for ever.
    pub read_timeout: Option<Duration>,
    /// Whether the client itself repeats requests answered with 429, 503 or 504: kube then does so up to 15
    /// times, and the caller sees nothing of it. Off wherever such an answer means something.
    pub retry: bool,
}

impl ClientPolicy {
    /// Sets these values in a configuration of kube.
    pub fn apply_to(self, config: &mut Config) {
        config.connect_timeout = Some(self.connect_timeout);
        config.read_timeout = self.read_timeout;
        config.write_timeout = self.read_timeout;
        // Without this the time a pooled connection sat idle counts against the read timeout.
        config.reset_reader_on_write = true;
        config.default_retry = self.retry;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_control_clients_hide_a_429() {
        for purpose in ClientPurpose::ALL {
            let mut config = Config::new("https://10.0.0.1".parse().unwrap());
            purpose.policy().apply_to(&mut config);
            assert_eq!(
                config.default_retry,
                purpose == ClientPurpose::Control,
                "{purpose}"
            );
        }
    }

    #[test]
    fn only_watches_may_be_silent_for_ever() {
        for purpose in ClientPurpose::ALL {
            assert_eq!(
                purpose.policy().read_timeout.is_none(),
                purpose == ClientPurpose::Watch,
                "{purpose}"
            );
        }
    }
}
