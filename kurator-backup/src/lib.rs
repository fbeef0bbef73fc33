//! Backup, restore and migration of fleets of Kubernetes clusters on Velero.
//!
//! What is here so far: [`cron`], the schedules. Nothing else is exported yet.

pub mod cron;
