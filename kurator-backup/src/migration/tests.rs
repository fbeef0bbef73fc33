use jiff::Timestamp;
use kurator_core::reason::{Reason as _, is_token};

use super::*;
use crate::api::{
    Consistency, ExecutionPhase, MigrationGate, MigrationPhase, MigrationSpec, MigrationStatus, RestorePhase,
};

/// A hub with one migration. Its executions are played by hand.
struct Sim {
    spec: MigrationSpec,
    status: MigrationStatus,
    seen: Seen,
    log: Vec<&'static str>,
    /// A process that dies after the status is written does none of the actions.
    dies: bool,
}

fn now() -> Timestamp {
    "2026-11-23T03:00:00Z".parse().unwrap()
}

impl Sim {
    fn new(gate: MigrationGate) -> Self {
        let [fleet, from, to] = ["production", "cluster-old", "cluster-new"];
        let mut spec = MigrationSpec::new(fleet.parse().unwrap(), from.parse().unwrap(), to.parse().unwrap());
        spec.proceed_to = gate;
        Self {
            spec,
            status: MigrationStatus::default(),
            seen: Seen::default(),
            log: Vec::new(),
            dies: false,
        }
    }

    fn migration(&self) -> Migration {
        Migration::new("default", "move", "uid-1", &self.spec).with_generation(Some(1))
    }

    /// One pass. Its reason, as a token.
    fn pass(&mut self) -> &'static str {
        let next = step(&self.migration(), &self.status, &self.seen, now());
        self.status = next.status;
        let actions = if self.dies { Vec::new() } else { next.actions };
        for action in actions {
            self.log.push(match action {
                Action::BackUp { .. } => {
                    self.seen.backup = Some(SeenBackup::new(ExecutionPhase::Pending));
                    "back up"
                }
                Action::Plan { spec, .. } => {
                    self.seen.restore = Some(SeenRestore::new(RestorePhase::Pending, spec.dry_run));
                    "plan"
                }
                Action::Restore { .. } => {
                    self.seen.restore.as_mut().unwrap().dry_run = false;
                    "restore"
                }
                Action::CancelBackup { .. } => {
                    self.seen.backup.as_mut().unwrap().cancelled = true;
                    "cancel backup"
                }
                Action::DeleteRestore { .. } => {
                    self.seen.restore = None;
                    "delete restore"
                }
                Action::DeleteBackup { .. } => {
                    self.seen.backup.as_mut().unwrap().deleting = true;
                    "delete backup"
                }
            });
        }
        let token = next.reason.map_or("", |reason| reason.token());
        assert!(token.is_empty() || is_token(token), "{token}");
        token
    }

    fn backup_is(&mut self, phase: ExecutionPhase) {
        self.seen.backup.as_mut().unwrap().phase = phase;
    }

    fn restore_is(&mut self, phase: RestorePhase) {
        self.seen.restore.as_mut().unwrap().phase = phase;
    }

    /// As far as the gate lets it, with executions that succeed.
    fn run(&mut self) {
        for _ in 0..10 {
            if let Some(backup) = &mut self.seen.backup {
                backup.phase = ExecutionPhase::Completed;
            }
            if let Some(restore) = &mut self.seen.restore {
                restore.phase = if restore.dry_run {
                    RestorePhase::Planned
                } else {
                    RestorePhase::Completed
                };
            }
            self.pass();
        }
    }
}

#[test]
fn each_gate_is_waited_at_and_the_target_is_written_behind_the_third() {
    let mut sim = Sim::new(MigrationGate::Backup);
    for (gate, phase, done, written) in [
        (
            MigrationGate::Backup,
            MigrationPhase::BackedUp,
            vec!["back up"],
            false,
        ),
        (
            MigrationGate::Plan,
            MigrationPhase::Planned,
            vec!["back up", "plan"],
            false,
        ),
        (
            MigrationGate::Restore,
            MigrationPhase::Restored,
            vec!["back up", "plan", "restore"],
            true,
        ),
        (
            MigrationGate::Finish,
            MigrationPhase::Completed,
            vec!["back up", "plan", "restore"],
            true,
        ),
    ] {
        sim.spec.proceed_to = gate;
        sim.run();
        assert_eq!((sim.status.phase, sim.status.target_written), (phase, written));
        assert_eq!(sim.log, done);
    }
    sim.spec.go_back = true;
    sim.run();
    assert_eq!(sim.status.phase, MigrationPhase::Completed, "too late");
}

#[test]
fn the_plan_is_on_record_before_the_target_is_written() {
    let mut sim = Sim::new(MigrationGate::Finish);
    sim.pass();
    sim.backup_is(ExecutionPhase::Completed);
    sim.pass();
    sim.restore_is(RestorePhase::Planned);
    sim.seen.restore.as_mut().unwrap().totals.create = 7;
    sim.pass();
    assert_eq!(sim.status.planned.unwrap().create, 7);
    assert_eq!(sim.log, ["back up", "plan"]);
    sim.pass();
    assert_eq!(sim.log, ["back up", "plan", "restore"]);
}

#[test]
fn a_backup_that_is_not_complete_is_never_restored() {
    for phase in [ExecutionPhase::Failed, ExecutionPhase::PartiallyFailed] {
        let mut sim = Sim::new(MigrationGate::Finish);
        sim.pass();
        sim.backup_is(phase);
        assert_eq!(sim.pass(), "BackupFailed");
        assert_eq!(
            (sim.status.phase, sim.log.len()),
            (MigrationPhase::Failed, 1),
            "{phase}"
        );
    }
    let mut sim = Sim::new(MigrationGate::Plan);
    sim.run();
    sim.seen.backup = None;
    sim.spec.proceed_to = MigrationGate::Finish;
    assert_eq!(sim.pass(), "BackupGone");
    assert_eq!(sim.log, ["back up", "plan"], "and nothing is backed up again");
}

#[test]
fn a_restore_that_did_not_bring_everything_is_no_migration() {
    for phase in [RestorePhase::Failed, RestorePhase::PartiallyFailed] {
        let mut sim = Sim::new(MigrationGate::Finish);
        sim.run_until_restoring();
        sim.restore_is(phase);
        assert_eq!(sim.pass(), "RestoreFailed");
        assert_eq!(sim.status.phase, MigrationPhase::Failed);
        // The way back is open, and says what stays.
        sim.spec.go_back = true;
        sim.go_back();
        let ready = sim
            .status
            .conditions
            .iter()
            .find(|it| it.type_ == "Ready")
            .unwrap();
        assert!(ready.message.contains("left on cluster-new"), "{}", ready.message);
    }
}

impl Sim {
    fn run_until_restoring(&mut self) {
        self.pass();
        self.backup_is(ExecutionPhase::Completed);
        self.pass();
        self.restore_is(RestorePhase::Planned);
        self.pass();
        self.pass();
        assert_eq!(self.status.phase, MigrationPhase::Restoring);
    }

    /// The servers delete what they are told to.
    fn go_back(&mut self) {
        for _ in 0..10 {
            self.pass();
            if self.seen.backup.as_ref().is_some_and(|backup| backup.deleting) {
                assert_eq!(self.status.phase, MigrationPhase::GoingBack);
                self.seen.backup = None;
            }
        }
        assert_eq!(self.status.phase, MigrationPhase::WentBack);
        assert!(self.seen == Seen::default());
    }
}

#[test]
fn the_way_back_is_open_in_every_phase_and_a_running_restore_is_waited_for() {
    for gate in [MigrationGate::Backup, MigrationGate::Plan, MigrationGate::Restore] {
        let mut sim = Sim::new(gate);
        sim.run();
        sim.spec.go_back = true;
        sim.go_back();
        assert_eq!(sim.log.last(), Some(&"delete backup"), "{gate:?}");
    }

    let mut sim = Sim::new(MigrationGate::Finish);
    sim.pass();
    sim.spec.go_back = true;
    sim.pass();
    sim.pass();
    assert_eq!(sim.log, ["back up", "cancel backup"]);
    sim.backup_is(ExecutionPhase::Failed);
    sim.go_back();
    assert_eq!(sim.log, ["back up", "cancel backup", "delete backup"]);

    let mut sim = Sim::new(MigrationGate::Finish);
    sim.run_until_restoring();
    sim.restore_is(RestorePhase::InProgress);
    sim.spec.go_back = true;
    for _ in 0..3 {
        assert_eq!(sim.pass(), "GoingBack");
    }
    assert_eq!(sim.log, ["back up", "plan", "restore"]);
    sim.restore_is(RestorePhase::Completed);
    sim.go_back();
    // Whoever changes their mind on the way comes too late.
    sim.spec.go_back = false;
    sim.run();
    assert_eq!(sim.status.phase, MigrationPhase::WentBack);
}

#[test]
fn a_process_that_dies_after_every_write_of_the_status_does_nothing_twice() {
    let mut sim = Sim::new(MigrationGate::Finish);
    for pass in 0..40 {
        sim.dies = pass % 2 == 0;
        if !sim.dies && pass % 4 == 3 {
            if let Some(backup) = &mut sim.seen.backup {
                backup.phase = ExecutionPhase::Completed;
            }
            if let Some(restore) = &mut sim.seen.restore {
                restore.phase = if restore.dry_run {
                    RestorePhase::Planned
                } else {
                    RestorePhase::Completed
                };
            }
        }
        sim.pass();
    }
    assert_eq!(sim.status.phase, MigrationPhase::Completed);
    assert_eq!(sim.log, ["back up", "plan", "restore"]);
}

#[test]
fn executions_of_others_are_neither_used_nor_deleted() {
    let mut sim = Sim::new(MigrationGate::Finish);
    let mut other = SeenBackup::new(ExecutionPhase::Completed);
    other.ours = false;
    sim.seen.backup = Some(other);
    assert_eq!(sim.pass(), "NameTaken");
    sim.spec.go_back = true;
    sim.pass();
    assert_eq!(sim.status.phase, MigrationPhase::WentBack);
    assert!(sim.log.is_empty() && sim.seen.backup.is_some());

    let mut sim = Sim::new(MigrationGate::Finish);
    sim.pass();
    sim.backup_is(ExecutionPhase::Completed);
    let mut other = SeenRestore::new(RestorePhase::Completed, false);
    other.ours = false;
    sim.seen.restore = Some(other);
    assert_eq!(sim.pass(), "NameTaken");
    assert_eq!(sim.log, ["back up"]);
}

#[test]
fn a_policy_that_nobody_can_carry_out_says_so_and_creates_nothing() {
    let mut sim = Sim::new(MigrationGate::Finish);
    sim.spec.backup.consistency = Consistency::Fleet;
    assert_eq!(sim.pass(), "NothingQuiesces");
    assert!(sim.log.is_empty() && sim.status.backup.is_none());
}

#[test]
fn names_fit_a_label_and_never_change() {
    let spec = Sim::new(MigrationGate::Plan).spec;
    let migration = Migration::new("default", "m".repeat(200), "uid-1", &spec);
    assert!(migration.backup_name().len() <= 63 && migration.restore_name().len() <= 63);
    assert_ne!(migration.backup_name(), migration.restore_name());
    let other = Migration::new("default", "m".repeat(200), "uid-2", &spec);
    assert_ne!(migration.backup_name(), other.backup_name());
}
