//! What is left on a node, and how loaded that makes it.

use crate::scaling::model::{place::Used, resources::Resources, symbols::Sym};

/// What is left on a node.
#[derive(Clone, Debug, Default)]
pub(super) struct Room {
    /// CPU and memory of the node when it is empty.
    all: (i64, i64),
    pub(super) cpu: i64,
    pub(super) memory: i64,
    pub(super) storage: i64,
    pub(super) slots: i64,
    pub(super) extended: Vec<(Sym, i64)>,
}

impl Room {
    pub(super) fn new(all: &Resources, used: &Used) -> Self {
        let taken = |name: &Sym| used.extended.iter().find(|(own, _)| own == name);
        Self {
            all: (all.cpu, all.memory),
            cpu: all.cpu - used.cpu,
            memory: all.memory - used.memory,
            storage: all.storage - used.storage,
            slots: all.pods - used.pods,
            extended: all
                .extended
                .iter()
                .map(|(name, amount)| (*name, amount - taken(name).map_or(0, |(_, used)| *used)))
                .collect(),
        }
    }

    pub(super) fn take(&mut self, requests: &Resources, sign: i64) {
        self.cpu -= sign * requests.cpu;
        self.memory -= sign * requests.memory;
        self.storage -= sign * requests.storage;
        self.slots -= sign * requests.pods;
        for (name, amount) in &requests.extended {
            if let Some((_, left)) = self.extended.iter_mut().find(|(own, _)| own == name) {
                *left -= sign * amount;
            }
        }
    }

    /// Millionths of CPU and of memory in use, added.
    pub(super) fn load(&self) -> u32 {
        let (cpu, memory) = self.all;
        utilisation(cpu, cpu - self.cpu).saturating_add(utilisation(memory, memory - self.memory))
    }
}

/// Orders nodes by load, then by name.
pub(super) fn key(load: u32, rank: u32) -> u64 {
    u64::from(load) << 32 | u64::from(rank)
}

/// Orders them the other way round.
pub(super) fn reversed(key: u64) -> u64 {
    u64::MAX - 1 - key
}

/// Millionths of `all` that are in use; what has nothing is full.
pub(in super::super) fn utilisation(all: i64, used: i64) -> u32 {
    if all <= 0 {
        return 1_000_000;
    }
    let used = used.max(0);
    let share = match used.checked_mul(1_000_000) {
        Some(scaled) => i128::from(scaled / all),
        None => i128::from(used) * 1_000_000 / i128::from(all),
    };
    u32::try_from(share).unwrap_or(u32::MAX / 2)
}
