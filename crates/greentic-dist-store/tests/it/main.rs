//! The store on real directories, with real processes, kills, full disks and foreign owners.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::missing_panics_doc,
    let_underscore_drop,
    missing_docs
)]

mod advisories;
mod audit;
mod batch;
mod bundles;
mod child;
mod collect;
mod crash;
mod endpoints;
mod flow;
mod gauntlet;
mod ingest;
mod intruder;
mod kinds;
mod last_use;
mod layouts;
mod lock;
mod place;
mod promises;
mod references;
mod second_name;
mod spec;
mod stamp;
mod support;
mod tamper;
