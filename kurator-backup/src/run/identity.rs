use jiff::Timestamp;
use kurator_core::names::{ClusterName, MAX_LABEL, bounded_name};

use crate::driver::{BackupName, DeletionName, OwnerToken};

/// Who a run is. Every name on every member follows from it, the cluster and the attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RunId {
    /// Namespace of the execution.
    pub namespace: String,
    /// Name of the execution.
    pub name: String,
    /// UID of the execution: one that is deleted and created again under the same name is another run.
    pub uid: String,
    /// The time in the names: when the execution was created.
    pub created_at: Timestamp,
}

/// Characters of the hash at the end of a name.
const HASH: usize = 10;

impl RunId {
    /// The run of the execution `namespace/name`.
    pub fn new(
        namespace: impl Into<String>,
        name: impl Into<String>,
        uid: impl Into<String>,
        created_at: Timestamp,
    ) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
            uid: uid.into(),
            created_at,
        }
    }

    /// The backup of one attempt: `<cluster>-<unix time>-<attempt>-<hash>`, at most 63 characters. The hash stands for
    /// the run's UID, the cluster and the attempt, so no two attempts of any runs share a name, whatever was cut.
    #[must_use]
    pub fn backup_name(&self, cluster: &ClusterName, attempt: u32) -> BackupName {
        let number = attempt.to_string();
        let full = bounded_name([self.uid.as_str(), cluster.as_str(), &number]);
        let hash = full.get(full.len().saturating_sub(HASH)..).unwrap_or(&full);
        let tail = format!("-{}-{number}-{hash}", self.created_at.as_second());
        let room = MAX_LABEL.saturating_sub(tail.len());
        let head = cluster.as_str();
        let head = head
            .get(..room.min(head.len()))
            .unwrap_or(head)
            .trim_end_matches('-');
        let name = format!("{head}{tail}");
        // A time before 1970 would put two dashes in a row, which a name may have.
        BackupName::new(&name).unwrap_or_else(|_| BackupName::bounded([name]))
    }

    /// Whose a backup is.
    #[must_use]
    pub fn owner(&self, cluster: &ClusterName, attempt: u32) -> OwnerToken {
        OwnerToken::bounded([self.uid.as_str(), cluster.as_str(), &attempt.to_string()])
    }

    /// Whose a hold over a member is.
    #[must_use]
    pub fn quiesce_owner(&self, cluster: &ClusterName, round: u32) -> OwnerToken {
        OwnerToken::bounded([self.uid.as_str(), cluster.as_str(), "quiesce", &round.to_string()])
    }

    /// The `number`th request to delete `backup`.
    #[must_use]
    pub fn deletion_name(&self, backup: &BackupName, number: u32) -> DeletionName {
        DeletionName::bounded([backup.as_str(), "delete", &self.uid, &number.to_string()])
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_fit_a_label_and_differ_by_run_cluster_and_attempt() {
        let at = Timestamp::from_second(1_764_000_000).unwrap();
        let long = "c".repeat(62);
        let mut names = BTreeSet::new();
        for uid in ["a", "b"] {
            let run = RunId::new("default", "nightly", uid, at);
            for cluster in ["x", &format!("{long}a"), &format!("{long}b")] {
                for attempt in [1, 2, 100] {
                    let name = run.backup_name(&cluster.parse().unwrap(), attempt);
                    assert!(name.as_str().len() <= 63, "{name}");
                    names.insert(name);
                }
            }
        }
        assert_eq!(names.len(), 18);
    }

    #[test]
    fn a_name_reads_as_cluster_time_and_attempt_and_never_changes() {
        let run = RunId::new(
            "default",
            "nightly",
            "uid",
            Timestamp::from_second(1_764_000_000).unwrap(),
        );
        let name = run.backup_name(&"cluster-a".parse().unwrap(), 1);
        assert!(name.as_str().starts_with("cluster-a-1764000000-1-"), "{name}");
        assert_eq!(name, run.backup_name(&"cluster-a".parse().unwrap(), 1));
    }
}
