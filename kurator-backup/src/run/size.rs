//! A status that always fits: what is for people goes first, what a successor needs stays.

use crate::api::{BackupExecutionStatus, ClusterExecution, ClusterPhase};

/// A status is smaller than this, as JSON: 64 KiB.
pub const MAX_STATUS_BYTES: usize = 64 * 1024;

/// The longest message of one member, in bytes.
pub(super) const MAX_MESSAGE: usize = 512;

/// Room for conditions, times and sums.
const FRAME: usize = 4 * 1024;

/// What one member may need at the least while it is at work: its name twice and the fixed fields.
const LEAST: usize = 330;

/// Whether a status has room for these members whatever becomes of them.
pub(super) fn has_room(entries: &[ClusterExecution]) -> bool {
    let names: usize = entries.iter().map(|entry| entry.cluster.as_str().len()).sum();
    names + entries.len() * least_fixed() + FRAME <= MAX_STATUS_BYTES
}

/// Fixed part of the smallest entry. All members may be at work at once, but those waiting or ended need little; the
/// backup's name can be computed again, so it is left out in the last resort.
const fn least_fixed() -> usize {
    LEAST - 2 * 63
}

fn bytes(status: &BackupExecutionStatus) -> usize {
    serde_json::to_vec(status).map_or(usize::MAX, |json| json.len())
}

/// Cuts what can be missed until the status fits.
pub(super) fn fit(status: &mut BackupExecutionStatus) {
    type Cut = fn(&mut ClusterExecution);
    let cuts: [Cut; 4] = [
        |entry| {
            if entry.phase == ClusterPhase::Completed || entry.phase == ClusterPhase::Waiting {
                entry.message.clear();
            }
        },
        |entry| entry.message = crate::driver::cut(std::mem::take(&mut entry.message), 96),
        |entry| entry.message.clear(),
        |entry| {
            entry.backup = None;
            if entry.phase.has_ended() {
                entry.progress = None;
                entry.changed_at = None;
            }
        },
    ];
    for cut in cuts {
        if bytes(status) < MAX_STATUS_BYTES {
            return;
        }
        status.clusters.iter_mut().for_each(cut);
    }
}
