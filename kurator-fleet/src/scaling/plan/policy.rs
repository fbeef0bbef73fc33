//! What is asked for, and under which rules.

use std::{collections::BTreeSet, fmt, sync::Arc};

use super::{
    order::{CandidateOrder, Order},
    rule::DrainRule,
    window::Window,
};

/// Which nodes to remove.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Target {
    /// As many as are too many for this number of worker nodes.
    Desired(i64),
    /// Exactly these, and no others.
    Nodes(BTreeSet<String>),
    /// That many, the planner chooses which.
    Remove(i64),
}

/// A request to remove nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ScaleDown {
    /// Which, or how many.
    pub target: Target,
    /// Only among these; `None` for all.
    pub candidates: Option<BTreeSet<String>>,
    /// The most worker nodes there may be; only a desired number is held against it.
    pub quota: Option<u32>,
}

impl ScaleDown {
    /// Remove `count` nodes.
    pub fn remove(count: i64) -> Self {
        Self {
            target: Target::Remove(count),
            candidates: None,
            quota: None,
        }
    }

    /// Remove nodes until `count` worker nodes are left.
    pub fn to(count: i64) -> Self {
        Self {
            target: Target::Desired(count),
            candidates: None,
            quota: None,
        }
    }

    /// Remove exactly these nodes.
    pub fn nodes<N: Into<String>>(nodes: impl IntoIterator<Item = N>) -> Self {
        Self {
            target: Target::Nodes(nodes.into_iter().map(Into::into).collect()),
            candidates: None,
            quota: None,
        }
    }

    /// Refuse a desired number of worker nodes above this.
    #[must_use]
    pub fn within(self, quota: u32) -> Self {
        Self {
            quota: Some(quota),
            ..self
        }
    }

    /// Choose only among these nodes.
    #[must_use]
    pub fn among<N: Into<String>>(self, nodes: impl IntoIterator<Item = N>) -> Self {
        Self {
            candidates: Some(nodes.into_iter().map(Into::into).collect()),
            ..self
        }
    }
}

/// The rules of draining. [`DrainPolicy::default`] loses no data and no pod.
#[derive(Clone)]
#[non_exhaustive]
pub struct DrainPolicy {
    /// At most this many nodes are drained at once; 10 by default, and at least 1.
    pub max_parallel: u32,
    /// No plan while more than this share of the nodes is not Ready; 25% by default. Edge nodes do not count.
    pub max_unready_percent: u32,
    /// Seconds until an unhealthy cluster is looked at again; 300 by default.
    pub recheck_seconds: i64,
    /// Evict pods although data in `emptyDir` or `hostPath` is lost; off by default.
    pub evict_local_storage: bool,
    /// Evict pods that no controller makes again; off by default.
    pub evict_unreplicated: bool,
    /// For a budget that allows nothing because a Deployment runs a single replica, run one more during the drain;
    /// off by default.
    pub surge: bool,
    /// Keep nodes with a pod that might have to wait for room because the scheduler, which does not know the plan, puts
    /// others where it fits ([`Note::Tight`](super::Note::Tight)); off by default, and looked for in clusters of up to 64
    /// nodes.
    pub strict_landing: bool,
    /// Seconds one round of evictions is estimated to take: termination, scheduling, start, readiness. 30 by
    /// default; it only scales the time bound.
    pub round_seconds: u32,
    /// The order of candidates: the first that tells two apart decides, then the name.
    pub order: Vec<Arc<dyn CandidateOrder>>,
    /// Rules of the host about single pods; the first that has an answer decides.
    pub rules: Vec<Arc<dyn DrainRule>>,
    /// When nodes may be drained; without any, always. Nodes may be drained while no closed window runs, and an open
    /// one does if there are open ones at all.
    pub windows: Vec<Window>,
}

impl Default for DrainPolicy {
    fn default() -> Self {
        Self {
            max_parallel: 10,
            max_unready_percent: 25,
            recheck_seconds: 300,
            evict_local_storage: false,
            evict_unreplicated: false,
            surge: false,
            strict_landing: false,
            round_seconds: 30,
            order: vec![
                Arc::new(Order::DeleteMark),
                Arc::new(Order::Utilisation),
                Arc::new(Order::Disruption),
                Arc::new(Order::Oldest),
            ],
            rules: Vec::new(),
            windows: Vec::new(),
        }
    }
}

impl DrainPolicy {
    /// At most this many nodes at once.
    #[must_use]
    pub fn with_max_parallel(self, max_parallel: u32) -> Self {
        Self { max_parallel, ..self }
    }

    /// Replaces the order of candidates.
    #[must_use]
    pub fn with_order(self, order: impl IntoIterator<Item = Arc<dyn CandidateOrder>>) -> Self {
        Self {
            order: order.into_iter().collect(),
            ..self
        }
    }

    /// Adds a rule about single pods.
    #[must_use]
    pub fn with_rule(mut self, rule: impl DrainRule + 'static) -> Self {
        self.rules.push(Arc::new(rule));
        self
    }

    /// Adds a time in which nodes may, or may not, be drained.
    #[must_use]
    pub fn with_window(mut self, window: Window) -> Self {
        self.windows.push(window);
        self
    }

    /// Runs one more replica of single-replica Deployments during the drain.
    #[must_use]
    pub fn with_surge(self) -> Self {
        Self { surge: true, ..self }
    }

    /// Keeps nodes whose pods might have to wait for room.
    #[must_use]
    pub fn with_strict_landing(self) -> Self {
        Self {
            strict_landing: true,
            ..self
        }
    }

    /// Accepts the loss of data in local volumes.
    #[must_use]
    pub fn with_local_storage_lost(self) -> Self {
        Self {
            evict_local_storage: true,
            ..self
        }
    }

    /// Accepts the loss of pods without a controller.
    #[must_use]
    pub fn with_unreplicated_lost(self) -> Self {
        Self {
            evict_unreplicated: true,
            ..self
        }
    }
}

impl fmt::Debug for DrainPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DrainPolicy")
            .field("max_parallel", &self.max_parallel)
            .field("max_unready_percent", &self.max_unready_percent)
            .field("recheck_seconds", &self.recheck_seconds)
            .field("evict_local_storage", &self.evict_local_storage)
            .field("evict_unreplicated", &self.evict_unreplicated)
            .field("surge", &self.surge)
            .field("strict_landing", &self.strict_landing)
            .field("round_seconds", &self.round_seconds)
            .field(
                "order",
                &self.order.iter().map(|order| order.name()).collect::<Vec<_>>(),
            )
            .field(
                "rules",
                &self.rules.iter().map(|rule| rule.name()).collect::<Vec<_>>(),
            )
            .field("windows", &self.windows)
            .finish()
    }
}
