//! A cache, a sentinel beside it, and the program.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use greentic_dist_testkit::fixture::{self, Artifact, WASM_TYPE};
use greentic_dist_testkit::process::{Outcome, Run};
use greentic_dist_testkit::scenario::{LyingRegistry, Scenario};
use serde_json::Value;
use tempfile::TempDir;

/// The program under test.
pub(crate) const BIN: &str = env!("CARGO_BIN_EXE_greentic-dist");
/// Its old name.
pub(crate) const OLD_BIN: &str = env!("CARGO_BIN_EXE_greentic-distributor-client");
/// A secret that must be seen by nobody it was not meant for.
pub(crate) const CANARY: &str = "canary-7d1f";

/// A directory with a cache in it and a sentinel beside it.
pub(crate) struct Bench(TempDir);

impl Bench {
    pub(crate) fn new() -> Self {
        let bench = Self(TempDir::new().unwrap());
        fs::write(bench.sentinel(), "do not touch\n").unwrap();
        bench
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn cache(&self) -> PathBuf {
        self.path().join("cache")
    }

    pub(crate) fn sentinel(&self) -> PathBuf {
        self.path().join("sentinel")
    }

    /// The program on this cache.
    pub(crate) fn dist<const N: usize>(&self, args: [&str; N]) -> Run {
        Run::new(BIN).arg("--cache-dir").arg(self.cache()).args(args)
    }

    /// Runs the program on this cache.
    pub(crate) fn run<const N: usize>(&self, args: [&str; N]) -> Outcome {
        self.dist(args).output()
    }

    /// Pulls what must be there and returns the path it printed.
    #[track_caller]
    pub(crate) fn pull(&self, reference: &str) -> PathBuf {
        let outcome = self.run(["pull", reference]);
        outcome.expect_code(0);
        PathBuf::from(outcome.line())
    }

    /// A tree of host configurations outside the cache, in which a registry has these mirrors for content.
    pub(crate) fn hosts_dir(&self, origin: &LyingRegistry, mirrors: &[&LyingRegistry]) -> String {
        self.hosts_dir_with(origin, mirrors, "\"pull\"")
    }

    /// As [`Bench::hosts_dir`], with mirrors that are asked for these.
    pub(crate) fn hosts_dir_with(
        &self,
        origin: &LyingRegistry,
        mirrors: &[&LyingRegistry],
        capabilities: &str,
    ) -> String {
        let tree = self.path().join("certs.d");
        fs::create_dir_all(tree.join(origin.host())).unwrap();
        let host = |mirror: &&LyingRegistry| format!("[host.\"{}\"]\ncapabilities = [{capabilities}]\n", mirror.url());
        let text: String = mirrors.iter().map(host).collect();
        fs::write(tree.join(origin.host()).join("hosts.toml"), text).unwrap();
        tree.display().to_string()
    }

    /// Panics when the sentinel changed, or anything but the cache appeared beside it.
    #[track_caller]
    pub(crate) fn assert_nothing_outside_changed(&self) {
        assert_eq!(fs::read_to_string(self.sentinel()).unwrap(), "do not touch\n");
        let mut names: Vec<_> = fs::read_dir(self.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .filter(|name| name != "cache")
            .collect();
        names.sort();
        assert_eq!(names, ["sentinel"]);
    }

    /// Panics when the secret stands in any file below this directory.
    #[track_caller]
    pub(crate) fn assert_canary_in_no_file(&self) {
        fn look(dir: &Path) {
            for entry in fs::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                let kind = fs::symlink_metadata(&path).unwrap().file_type();
                if kind.is_dir() {
                    look(&path);
                } else if kind.is_file() {
                    let bytes = fs::read(&path).unwrap();
                    let found = bytes.windows(CANARY.len()).any(|window| window == CANARY.as_bytes());
                    assert!(!found, "the secret stands in {}", path.display());
                }
            }
        }
        look(self.path());
    }
}

/// Adds the login of `alice` for a registry, as a person sets it.
pub(crate) fn with_login(run: Run, host: &str, password: &str) -> Run {
    let name: String = host.chars().map(|ch| if ch.is_ascii_alphanumeric() { ch } else { '_' }).collect();
    run.env(format!("GREENTIC_DIST_AUTH_{name}_USERNAME"), "alice")
        .env(format!("GREENTIC_DIST_AUTH_{name}_PASSWORD"), password)
}

/// A component of 200 000 bytes.
pub(crate) fn sample() -> Artifact {
    fixture::artifact(WASM_TYPE, fixture::random_bytes(1, 200_000))
}

/// An honest registry with [`sample`] as `acme/hello:1`.
pub(crate) fn registry() -> LyingRegistry {
    Scenario::new(sample()).start()
}

/// The one document on stdout of a failure, checked against its exit code. Stderr tells the same to people.
#[track_caller]
pub(crate) fn error_of(outcome: &Outcome, exit: i32, code: &str) -> Value {
    outcome.expect_code(exit);
    let document = outcome.json();
    let error = &document["error"];
    assert_eq!((error["exit"].as_i64(), error["code"].as_str()), (Some(exit.into()), Some(code)), "{document}");
    assert_eq!(error["retryable"].as_bool(), Some(exit == 7), "{document}");
    assert!(error["causes"].is_array() && error["hints"].is_array(), "{document}");
    let message = error["message"].as_str().unwrap();
    assert!(outcome.stderr.contains(&format!("error: {message}")), "{}", outcome.stderr);
    document["error"].clone()
}

/// Says past the harness that a test is skipped, and why.
pub(crate) fn skip(test: &str, why: &str) {
    let line = format!("skipped: {test}: {why}\n");
    // Without a stderr there is nobody to tell.
    let _unheard = std::io::stderr().write_all(line.as_bytes());
}

/// Whether tests run as the superuser, who can be somebody else for a moment and is stopped by no permission.
pub(crate) fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt as _;
    fs::metadata("/proc/self").is_ok_and(|meta| meta.uid() == 0)
}
