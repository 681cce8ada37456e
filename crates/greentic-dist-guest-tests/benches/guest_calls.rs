//! How long a call through the component boundary takes: the guest of the tests asks its host again and again.
//!
//!     cargo bench -p greentic-dist-guest-tests --bench guest_calls -- 10000
//!
//! The first line is a question with its answer, the second a call the guest refuses by itself: the bare crossing.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    dead_code,
    reason = "a measurement"
)]

#[path = "../tests/it/build.rs"]
mod build;
#[path = "../tests/it/host.rs"]
mod host;

use std::time::Instant;

use greentic_distributor_dev::{DevConfig, DevDistributorSource};

fn main() {
    let calls: u32 = std::env::args().skip(1).find_map(|text| text.parse().ok()).unwrap_or(10_000);
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(dir.path().join("packs")).unwrap();
    std::fs::write(dir.path().join("packs/kit-1.0.0.gtpack"), b"a pack").unwrap();
    let config = DevConfig { root_dir: dir.path().to_path_buf(), ..DevConfig::default() };
    let Some(mut world) = host::World::start(host::Host::new(DevDistributorSource::new(config))) else { return };
    for call in ["get-pack-status", "no-such-call"] {
        world.ask(call, "kit", "", "").unwrap().ok();
        let began = Instant::now();
        for _ in 0..calls {
            world.ask(call, "kit", "", "").unwrap().ok();
        }
        println!("{call}: {:?} a call", began.elapsed() / calls);
    }
}
