//! Backup, restore and migration of fleets of Kubernetes clusters on Velero.
//!
//! What is here so far: [`cron`], the schedules, and [`driver`], what stands between a fleet and the backup server of
//! one member.

#![allow(clippy::duplicated_attributes, reason = "every printer column has a type")]

pub mod cron;
pub mod driver;
