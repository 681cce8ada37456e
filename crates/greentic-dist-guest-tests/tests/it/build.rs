//! Builds the guest once for all tests: optimised, since the host compiles it once more, and small is quick there.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

const TARGET: &str = "wasm32-wasip2";

/// The component of the guest; `None`, said once, where its target is not installed.
pub(crate) fn guest() -> Option<&'static Path> {
    static BUILT: OnceLock<Option<PathBuf>> = OnceLock::new();
    BUILT.get_or_init(|| if is_installed() { Some(build()) } else { None }).as_deref()
}

fn is_installed() -> bool {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let printed = Command::new(rustc).args(["--print", "target-libdir", "--target", TARGET]).output().unwrap();
    let installed = printed.status.success() && Path::new(String::from_utf8_lossy(&printed.stdout).trim()).is_dir();
    if !installed {
        eprintln!("skipped: the target {TARGET} is not installed (rustup target add {TARGET})");
    }
    installed
}

fn build() -> PathBuf {
    let target_dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("guest");
    let status = Command::new(env!("CARGO"))
        .args([
            "build",
            "--quiet",
            "--release",
            "--locked",
            "--package",
            "greentic-dist-guest-probe",
            "--target",
            TARGET,
        ])
        .arg("--target-dir")
        .arg(&target_dir)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        // What the outer build was told is not for the guest.
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env_remove("CARGO_BUILD_TARGET")
        .status()
        .unwrap();
    assert!(status.success(), "the guest could not be built");
    target_dir.join(TARGET).join("release/greentic_dist_guest_probe.wasm")
}
