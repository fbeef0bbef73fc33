//! Edge nodes that are cut off on purpose: what runs on them, nobody sees.
//!
//! OpenYurt and KubeEdge let the pods of a node run on while it cannot be reached. Such a node is not lost before the
//! bound of its autonomy; its pods are "presumed running", a number of its own beside ready and not ready. What is
//! deleted through the API meanwhile is killed when the node returns, so nothing is. Real death and a lost network
//! cannot be told apart: each workload says how long it waits.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

/// What becomes of replicas on nodes that are cut off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum LostEdge {
    /// They are waited for, for ever.
    #[default]
    Wait,
    /// They are replaced when they have been cut off for so many seconds; two copies may run then.
    ReplaceAfterSeconds(u32),
    /// They are replaced at once; two copies may run.
    ReplaceNow,
}

impl LostEdge {
    /// When replicas that were cut off at `since` are replaced; `None` for never.
    #[must_use]
    pub fn due(self, since: Timestamp) -> Option<Timestamp> {
        match self {
            Self::Wait => None,
            Self::ReplaceNow => Some(since),
            Self::ReplaceAfterSeconds(seconds) => {
                let wait = SignedDuration::from_secs(i64::from(seconds));
                Some(since.checked_add(wait).unwrap_or(Timestamp::MAX))
            }
        }
    }
}

/// How long a node runs its pods on while it cannot be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "not, for a while, or for ever")]
pub enum Autonomy {
    /// It does not.
    None,
    /// For so long.
    For(SignedDuration),
    /// Until it returns.
    Unbounded,
}

impl Autonomy {
    /// Reads labels and annotations of a node as OpenYurt writes them; of KubeEdge's nodes, each pod says for itself,
    /// see [`pod_is_autonomous`].
    ///
    /// ```
    /// use std::collections::BTreeMap;
    /// use jiff::SignedDuration;
    /// use kurator_policy::failover::edge::Autonomy;
    ///
    /// let of = |key: &str, value: &str| Autonomy::of_node(&BTreeMap::from([(key.to_owned(), value.to_owned())]));
    /// assert_eq!(of("node.openyurt.io/autonomy-duration", "2h"), Autonomy::For(SignedDuration::from_hours(2)));
    /// assert_eq!(of("node.openyurt.io/autonomy-duration", "0"), Autonomy::Unbounded);
    /// assert_eq!(of("node.beta.openyurt.io/autonomy", "true"), Autonomy::Unbounded);
    /// assert_eq!(of("other", "true"), Autonomy::None);
    /// ```
    #[must_use]
    pub fn of_node(annotations: &BTreeMap<String, String>) -> Self {
        let get = |key: &str| annotations.get(key).map(String::as_str);
        if let Some(text) = get("node.openyurt.io/autonomy-duration") {
            return match text.trim().parse::<i64>() {
                // A bare number is 0 or less, for ever.
                Ok(number) if number <= 0 => Self::Unbounded,
                Ok(number) => Self::For(SignedDuration::from_secs(number)),
                Err(_) => match text.trim().parse::<SignedDuration>() {
                    Ok(duration) if duration > SignedDuration::ZERO => Self::For(duration),
                    Ok(_) => Self::Unbounded,
                    Err(_) => Self::None,
                },
            };
        }
        let set = |key: &str| get(key) == Some("true");
        if set("node.beta.openyurt.io/autonomy") || set("apps.openyurt.io/binding") {
            return Self::Unbounded;
        }
        Self::None
    }

    /// Whether the pods of a node that was cut off at `since` are presumed to run at `now`.
    #[must_use]
    pub fn covers(self, since: Timestamp, now: Timestamp) -> bool {
        match self {
            Self::None => false,
            Self::Unbounded => true,
            Self::For(bound) => since.checked_add(bound).is_ok_and(|until| now < until),
        }
    }
}

/// Whether a pod of KubeEdge runs on while its node cannot be reached, by its labels.
#[must_use]
pub fn pod_is_autonomous(labels: &BTreeMap<String, String>) -> bool {
    labels.get("app-offline.kubeedge.io").map(String::as_str) == Some("autonomy")
}

/// Paths of a pod template that edge systems rewrite and that must not be applied over, as JSON pointers inside the pod
/// spec: their tolerations keep pods where they are.
#[must_use]
pub fn untouched_paths() -> [&'static str; 1] {
    ["/tolerations"]
}

/// A pod as far as counting goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "the three facts the count is made of")]
pub struct PodSeen {
    /// Whether it says it is ready.
    pub ready: bool,
    /// Since when its node cannot be reached, if it cannot.
    pub cut_off_since: Option<Timestamp>,
    /// How long it runs on then.
    pub autonomy: Autonomy,
}

/// Replicas by what is known of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counts {
    /// Seen and ready.
    pub ready: u32,
    /// Not seen, presumed to run.
    pub presumed: u32,
    /// Seen and not ready, or given up.
    pub lost: u32,
    /// Since when the first of those that are presumed to run has been cut off.
    pub cut_off_since: Option<Timestamp>,
}

/// Counts pods. Those on autonomous nodes that are cut off are presumed to run: never ready, never lost.
///
/// ```
/// use kurator_policy::failover::edge::{Autonomy, PodSeen, count};
/// let now = "2026-01-02T03:04:05Z".parse()?;
/// let cut = Some("2026-01-02T03:00:00Z".parse()?);
/// let pods = [
///     PodSeen { ready: true, cut_off_since: None, autonomy: Autonomy::None },
///     PodSeen { ready: false, cut_off_since: cut, autonomy: Autonomy::Unbounded },
///     PodSeen { ready: true, cut_off_since: cut, autonomy: Autonomy::None },
/// ];
/// let counts = count(pods, now);
/// assert_eq!((counts.ready, counts.presumed, counts.lost), (1, 1, 1));
/// # Ok::<(), jiff::Error>(())
/// ```
#[must_use]
pub fn count(pods: impl IntoIterator<Item = PodSeen>, now: Timestamp) -> Counts {
    let mut counts = Counts::default();
    for pod in pods {
        match pod.cut_off_since {
            Some(since) if pod.autonomy.covers(since, now) => {
                counts.presumed = counts.presumed.saturating_add(1);
                counts.cut_off_since = [counts.cut_off_since, Some(since)].into_iter().flatten().min();
            }
            None if pod.ready => counts.ready = counts.ready.saturating_add(1),
            _ => counts.lost = counts.lost.saturating_add(1),
        }
    }
    counts
}
