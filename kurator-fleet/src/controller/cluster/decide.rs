//! What to do about the number of worker nodes. Pure.

/// Something that is under way in this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Under {
    Draining,
    RollingBack,
}

/// What is known when it is decided.
#[derive(Clone, Copy, Debug)]
pub(super) struct Facts {
    /// Worker nodes wanted.
    pub(super) wanted: u32,
    /// Worker nodes there are.
    pub(super) workers: u32,
    /// Of them are marked by a plan.
    pub(super) marked: u32,
    pub(super) under: Option<Under>,
    /// Nothing is to be taken away any more.
    pub(super) hold: bool,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Call off the drain that is under way.
    Cancel,
    /// There are as many as wanted.
    Rest,
    /// Continue the plan on the nodes.
    Resume,
    /// Give up the plan on the nodes.
    RollBack,
    ScaleDown,
    ScaleUp,
    /// What is under way is what is wanted.
    Wait,
}

pub(super) fn decide(facts: &Facts) -> Step {
    // Nodes a plan has marked are as good as gone.
    let after = facts.workers.saturating_sub(facts.marked);
    let too_many_go = facts.marked > 0 && (facts.hold || facts.wanted > after);
    match facts.under {
        Some(Under::Draining) if too_many_go => Step::Cancel,
        Some(_) => Step::Wait,
        None if too_many_go => Step::RollBack,
        None if facts.marked > 0 => Step::Resume,
        None if facts.workers > facts.wanted => Step::ScaleDown,
        None if facts.workers < facts.wanted => Step::ScaleUp,
        None => Step::Rest,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(wanted: u32, workers: u32, marked: u32) -> Facts {
        Facts {
            wanted,
            workers,
            marked,
            under: None,
            hold: false,
        }
    }

    #[test]
    fn a_number_decides_up_down_or_nothing() {
        assert_eq!(decide(&facts(5, 5, 0)), Step::Rest);
        assert_eq!(decide(&facts(7, 5, 0)), Step::ScaleUp);
        assert_eq!(decide(&facts(0, 5, 0)), Step::ScaleDown);
    }

    #[test]
    fn a_plan_of_a_process_that_died_is_continued_unless_it_takes_too_many() {
        assert_eq!(decide(&facts(5, 8, 3)), Step::Resume);
        // Fewer are wanted meanwhile: first the plan, then another.
        assert_eq!(decide(&facts(4, 8, 3)), Step::Resume);
        assert_eq!(decide(&facts(6, 8, 3)), Step::RollBack);
        // Nothing is added while nodes leave.
        assert_eq!(decide(&facts(9, 8, 3)), Step::RollBack);
        let held = Facts {
            hold: true,
            ..facts(5, 8, 3)
        };
        assert_eq!(decide(&held), Step::RollBack);
    }

    #[test]
    fn a_drain_under_way_is_called_off_when_more_nodes_are_wanted() {
        let draining = |wanted, marked| Facts {
            under: Some(Under::Draining),
            ..facts(wanted, 8, marked)
        };
        assert_eq!(decide(&draining(5, 3)), Step::Wait);
        assert_eq!(decide(&draining(6, 3)), Step::Cancel);
        // Its marks are not seen yet, or no longer.
        assert_eq!(decide(&draining(6, 0)), Step::Wait);
        let back = Facts {
            under: Some(Under::RollingBack),
            ..facts(9, 8, 3)
        };
        assert_eq!(decide(&back), Step::Wait);
    }
}
