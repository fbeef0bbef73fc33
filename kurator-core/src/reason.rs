//! Why something is as it is: one value for the condition, the Event, the metric and the reader.
//!
//! A crate writes its reasons as an enum with the numbers in it, implements [`Display`](std::fmt::Display) for people
//! and [`Reason`] for machines:
//!
//! ```
//! use std::fmt;
//! use kurator_core::reason::{Blocked, Reason};
//!
//! #[derive(Clone, Debug)]
//! enum Waiting {
//!     BudgetExhausted { allowed: u32, wanted: u32 },
//! }
//!
//! impl fmt::Display for Waiting {
//!     fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
//!         match self {
//!             Self::BudgetExhausted { allowed, wanted } => {
//!                 write!(f, "{wanted} evictions are due and the budget allows {allowed}")
//!             }
//!         }
//!     }
//! }
//!
//! impl Reason for Waiting {
//!     fn token(&self) -> &'static str {
//!         match self {
//!             Self::BudgetExhausted { .. } => "BudgetExhausted",
//!         }
//!     }
//! }
//!
//! let blocked = Blocked::new(Waiting::BudgetExhausted { allowed: 1, wanted: 3 })
//!     .with_until("2026-01-02T03:04:05Z".parse()?);
//! assert_eq!(
//!     blocked.to_string(),
//!     "BudgetExhausted: 3 evictions are due and the budget allows 1; not before 2026-01-02T03:04:05Z",
//! );
//! # Ok::<(), jiff::Error>(())
//! ```

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// A reason that machines can tell apart and people can read.
///
/// `Display` is the sentence, with names and numbers in it. The token is the reason of a Kubernetes condition and
/// Event and the value of a metric label, so there are few of them and they never change.
pub trait Reason: fmt::Display {
    /// The CamelCase token; [`is_token`] holds for it.
    fn token(&self) -> &'static str;
}

impl<R: Reason + ?Sized> Reason for &R {
    fn token(&self) -> &'static str {
        (**self).token()
    }
}

impl<R: Reason + ?Sized> Reason for Box<R> {
    fn token(&self) -> &'static str {
        (**self).token()
    }
}

/// A reason that is put together where it is given: a token, and the sentence for it.
///
/// For a controller that sums up what several parts have said; what a part has to say by itself is better an enum.
///
/// ```
/// use kurator_core::reason::{Reason, Said};
///
/// let said = Said::new("MembersNotReady", format!("{} of {} members are ready", 2, 3));
/// assert_eq!((said.token(), said.to_string().as_str()), ("MembersNotReady", "2 of 3 members are ready"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "the pair is the whole idea")]
pub struct Said {
    /// The token; [`is_token`] holds for it.
    pub token: &'static str,
    /// The sentence.
    pub message: String,
}

impl Said {
    /// This reason, in these words.
    pub fn new(token: &'static str, message: impl Into<String>) -> Self {
        Self {
            token,
            message: message.into(),
        }
    }
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Reason for Said {
    fn token(&self) -> &'static str {
        self.token
    }
}

/// Whether `text` can be a token: a capital letter, then at most 127 letters and digits. Every such text is a valid
/// reason of a condition and of an Event. For the tests of reason enums.
pub fn is_token(text: &str) -> bool {
    text.len() <= 128
        && text.starts_with(|first: char| first.is_ascii_uppercase())
        && text.chars().all(|char| char.is_ascii_alphanumeric())
}

/// An error and its causes as one line, for the message of a condition or an Event.
///
/// A cause that its error has already repeated at its end is not said twice.
///
/// ```
/// use kurator_core::{names::ClusterName, reason::with_causes};
///
/// let error = "No Name".parse::<ClusterName>().unwrap_err();
/// assert_eq!(with_causes(&error), error.to_string(), "nothing caused this one");
/// ```
#[must_use]
pub fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let said = cause.to_string();
        if !text.ends_with(&said) {
            text = format!("{text}: {said}");
        }
        source = cause.source();
    }
    text
}

/// Something that is not possible now and may become possible later. Data, not an error: a report holds it and a
/// controller comes back.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Blocked<R> {
    /// What is in the way.
    pub reason: R,
    /// When to look again at the earliest; `None` if only a change of what was observed can help.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
}

impl<R> Blocked<R> {
    /// Blocked until something changes.
    pub fn new(reason: R) -> Self {
        Self { reason, until: None }
    }

    /// Sets when to look again.
    #[must_use]
    pub fn with_until(mut self, until: Timestamp) -> Self {
        self.until = Some(until);
        self
    }

    /// The same, with another reason: to wrap the reason of a part in the reason of the whole.
    pub fn map<S>(self, change: impl FnOnce(R) -> S) -> Blocked<S> {
        Blocked {
            reason: change(self.reason),
            until: self.until,
        }
    }
}

impl<R: Reason> Reason for Blocked<R> {
    fn token(&self) -> &'static str {
        self.reason.token()
    }
}

impl<R: Reason> fmt::Display for Blocked<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.reason.token(), self.reason)?;
        match self.until {
            Some(until) => write!(f, "; not before {until}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Told {
        text: &'static str,
        #[source]
        cause: Option<Box<Self>>,
    }

    fn told(texts: &[&'static str]) -> Told {
        let (text, causes) = texts.split_first().unwrap();
        Told {
            text,
            cause: (!causes.is_empty()).then(|| Box::new(told(causes))),
        }
    }

    #[test]
    fn an_error_is_told_with_each_cause_once() {
        assert_eq!(with_causes(&told(&["a"])), "a");
        assert_eq!(with_causes(&told(&["a", "b", "c"])), "a: b: c");
        assert_eq!(with_causes(&told(&["a: b", "b", "c"])), "a: b: c");
    }

    #[test]
    fn a_token_is_camel_case() {
        for token in ["Ready", "A1", "BudgetExhausted"] {
            assert!(is_token(token), "{token}");
        }
        for text in [
            "",
            "ready",
            "1A",
            "A b",
            "A-b",
            "A_b",
            "\u{c9}t\u{e9}",
            &"A".repeat(129),
        ] {
            assert!(!is_token(text), "{text}");
        }
    }
}
