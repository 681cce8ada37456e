//! Debian's `docker-registry`, `skopeo`, `nginx` and `htpasswd`, where they are installed.
//!
//! A test that needs one of them begins with [`ready`] and returns when they are not; the line it prints is all such a
//! run leaves behind. `ci/test` installs the programs, so that in CI nothing is skipped.

mod access_log;
mod docker_registry;
mod nginx;
mod skopeo;
mod token_server;

use std::io::Write as _;
use std::time::{Duration, Instant};

pub use access_log::LoggedRequest;
pub use docker_registry::{DockerRegistry, DockerRegistryConfig, RegistryAuth};
pub use nginx::{Compression, TlsFront};
pub use skopeo::{skopeo, skopeo_copy, skopeo_digest, skopeo_pull, skopeo_push, skopeo_push_artifacts};
pub use token_server::TokenServer;

pub use crate::process::find;

/// How long a server may take to start, to answer, or to write its log.
const PATIENCE: Duration = Duration::from_secs(30);

/// Whether a program is installed.
pub fn available(program: &str) -> bool {
    find(program).is_some()
}

/// Says in one line, on stderr, that a test is skipped for want of a program. The test harness does not capture the line,
/// so that it stands in the log of a run in which everything passes.
pub fn skip_line(test: &str, program: &str) {
    let line = format!("skipped: {test}: {program} is not installed (ci/test installs it on Debian)\n");
    // Without a stderr there is nobody to tell.
    let _unheard = std::io::stderr().write_all(line.as_bytes());
}

/// Whether all these programs are installed; says in one line which one is not, and which test is skipped for it.
pub fn ready(test: &str, programs: &[&str]) -> bool {
    let absent = programs.iter().find(|program| !available(program));
    if let Some(absent) = absent {
        skip_line(test, absent);
    }
    absent.is_none()
}

/// Asks every few milliseconds until there is an answer. Panics with `what` when there is none for long.
fn await_some<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(started.elapsed() < PATIENCE, "{what}: nothing for {} s", PATIENCE.as_secs());
        std::thread::sleep(Duration::from_millis(3));
    }
}
