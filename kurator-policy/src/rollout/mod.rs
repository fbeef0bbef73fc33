//! Bringing a change to the members in steps: which of them get the new revision now.
//!
//! A change is a change whoever made it: a template, a placement or an override. All of them end in a revision for
//! each member, and this planner says whose turn it is. Pure: it looks at what the members are known to run and at a
//! time, and answers with the members to update, what it waits for and until when.
//!
//! ```
//! use std::collections::BTreeMap;
//! use kurator_core::names::ClusterName;
//! use kurator_policy::rollout::{Limit, Member, Rollout, Stage, Strategy, Verdict, plan};
//!
//! let strategy = Strategy::stages(vec![
//!     Stage::new("canary").selecting("tier", "canary"),
//!     Stage::new("rest").with_concurrency(Limit::Percent(50)).after_approval(),
//! ]);
//! let mut members = BTreeMap::new();
//! for (name, tier) in [("a", "canary"), ("b", "prod"), ("c", "prod")] {
//!     members.insert(name.parse::<ClusterName>()?, Member::new(Some("v1")).with_label("tier", tier));
//! }
//! let rollout = Rollout::new(&strategy, "v2", &members).rolling_back_to("v1");
//! let planned = plan(&rollout, "2026-11-23T12:00:00Z".parse()?);
//! assert_eq!(planned.verdict, Verdict::Progressing { stage: "canary".to_owned() });
//! assert_eq!(planned.update, ["a".parse::<ClusterName>()?]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Guarantees
//! - No more members are in flight (told to change and not yet proven good) than a stage allows.
//! - A stage starts when every member of the stages before it is done, given up as failed within the limit, or away.
//! - Beyond the limit of failures nothing more is updated; with a last good revision to return to, the members that
//!   got the bad one are told to return, and nobody gets it again while [`Rollout::condemned`] is set; [`History`]
//!   keeps that over a restart. Members that join meanwhile get the last good one.
//! - A member that is away is passed over with its age and gets its turn when it returns; it never fails a stage.

mod check;
mod history;
mod member;
mod plan;
mod strategy;

pub use self::{
    check::{Breach, check},
    history::{History, Outcome, Past},
    member::{Health, Member},
    plan::{Planned, Rollout, StageReport, Verdict, plan},
    strategy::{Limit, Stage, Strategy},
};
