//! Cache directories that cannot be used, and what is said about them.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};

use greentic_dist_testkit::process::{Outcome, Run, find};
use greentic_dist_testkit::real::skip_line;
use greentic_dist_testkit::scenario::{Lie, Scenario};
use greentic_dist_testkit::{TreeSnapshot, fixture};

use crate::support::{BIN, Bench, error_of, is_root, registry, sample, skip};

/// Somebody who is not us: `nobody` of every Linux.
const STRANGER: u32 = 65_534;

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// A cache directory with this mode.
fn cache_with_mode(bench: &Bench, mode: u32) {
    fs::create_dir(bench.cache()).unwrap();
    chmod(&bench.cache(), mode);
}

/// The program as an ordinary user whom permissions stop: ourselves, or when we are the superuser, a stranger who owns the
/// cache. `None` where we cannot become one.
struct Ordinary {
    program: PathBuf,
    as_stranger: bool,
}

impl Ordinary {
    fn new(test: &str, bench: &Bench) -> Option<Self> {
        if !is_root() {
            return Some(Self { program: BIN.into(), as_stranger: false });
        }
        if find("setpriv").is_none() {
            skip_line(test, "setpriv");
            return None;
        }
        // Where the program was built is often closed to others.
        chmod(bench.path(), 0o755);
        let program = bench.path().join("greentic-dist");
        fs::hard_link(BIN, &program).or_else(|_| fs::copy(BIN, &program).map(|_| ())).unwrap();
        let ordinary = Self { program, as_stranger: true };
        if ordinary.run(&["--version"]).code != Some(0) {
            skip(test, "nobody cannot run programs in this place");
            return None;
        }
        Some(ordinary)
    }

    fn owns(&self, path: &Path) {
        if self.as_stranger {
            chown(path, Some(STRANGER), Some(STRANGER)).unwrap();
        }
    }

    fn run(&self, args: &[&str]) -> Outcome {
        if !self.as_stranger {
            return Run::new(&self.program).args(args).output();
        }
        let id = STRANGER.to_string();
        Run::new("setpriv")
            .args(["--reuid", &id, "--regid", &id, "--clear-groups"])
            .arg(&self.program)
            .args(args)
            .output()
    }
}

/// The failure of a pull into a cache that cannot be used: exit 10, the directory named, a hint, nothing downloaded.
#[track_caller]
fn unusable(outcome: &Outcome, cache: &Path, reason: &str) {
    let error = error_of(outcome, 10, "internal");
    let told = format!("{} {}", error["message"], error["causes"]);
    assert!(told.contains(&cache.display().to_string()), "the directory is not named: {told}");
    assert!(told.contains(reason), "`{reason}` is not said: {told}");
    assert!(error["hints"].to_string().contains("--cache-dir"), "{error}");
}

#[test]
fn a_cache_that_cannot_be_written_to_is_said_to_be_so() {
    const TEST: &str = "a_cache_that_cannot_be_written_to_is_said_to_be_so";
    let (bench, registry) = (Bench::new(), registry());
    let Some(ordinary) = Ordinary::new(TEST, &bench) else { return };
    cache_with_mode(&bench, 0o555);
    ordinary.owns(&bench.cache());
    let cache = bench.cache().display().to_string();
    let outcome = ordinary.run(&["--json", "--cache-dir", &cache, "pull", &registry.reference()]);
    unusable(&outcome, &bench.cache(), "ermission denied");
    assert!(TreeSnapshot::of(&bench.cache()).is_empty());
    assert_eq!(registry.journal().count_containing("/blobs/"), 0);
    // Made writable, it is used.
    chmod(&bench.cache(), 0o700);
    ordinary.run(&["--cache-dir", &cache, "pull", &registry.reference()]).expect_code(0);
}

#[test]
fn in_a_read_only_cache_a_mirror_that_lied_is_not_written_down_and_nothing_else_happens() {
    const TEST: &str = "in_a_read_only_cache_a_mirror_that_lied_is_not_written_down_and_nothing_else_happens";
    let (bench, registry) = (Bench::new(), registry());
    let liar = Scenario::new(sample()).lie(Lie::WrongManifestEchoed).start();
    let Some(ordinary) = Ordinary::new(TEST, &bench) else { return };
    cache_with_mode(&bench, 0o555);
    ordinary.owns(&bench.cache());
    let (cache, hosts) = (bench.cache().display().to_string(), bench.hosts_dir(&registry, &[&liar]));
    for asked in 1..3 {
        let line = ["--cache-dir", &cache, "--hosts-dir", &hosts, "resolve", &registry.pinned()];
        let outcome = ordinary.run(&line);
        assert_eq!(outcome.expect_code(0).line(), sample().manifest_digest.to_string());
        assert!(!outcome.stderr.contains("ermission"), "{}", outcome.stderr);
        assert_eq!(liar.journal().len(), asked, "nobody knows of it");
    }
    assert!(TreeSnapshot::of(&bench.cache()).is_empty());
    chmod(&bench.cache(), 0o700);
}

#[test]
fn a_read_only_cache_with_the_artifact_in_it_is_read() {
    const TEST: &str = "a_read_only_cache_with_the_artifact_in_it_is_read";
    let (bench, registry) = (Bench::new(), registry());
    let Some(ordinary) = Ordinary::new(TEST, &bench) else { return };
    fs::create_dir(bench.cache()).unwrap();
    chmod(&bench.cache(), 0o700);
    ordinary.owns(&bench.cache());
    let cache = bench.cache().display().to_string();
    ordinary.run(&["--cache-dir", &cache, "pull", &registry.pinned()]).expect_code(0);
    let dirs: Vec<_> = std::iter::once(bench.cache())
        .chain(fs::read_dir(bench.cache()).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()))
        .collect();
    for dir in &dirs {
        chmod(dir, 0o555);
    }
    for args in [vec!["pull", "--offline"], vec!["pull"]] {
        let pinned = registry.pinned();
        let line: Vec<&str> = args.into_iter().chain(["--cache-dir", &cache, &pinned]).collect();
        ordinary.run(&line).expect_code(0);
    }
    for dir in &dirs {
        chmod(dir, 0o700);
    }
}

#[test]
fn a_cache_of_another_owner_is_refused() {
    const TEST: &str = "a_cache_of_another_owner_is_refused";
    if !is_root() {
        return skip(TEST, "only the superuser can make a directory of somebody else");
    }
    let (bench, registry) = (Bench::new(), registry());
    cache_with_mode(&bench, 0o700);
    chown(bench.cache(), Some(STRANGER), Some(STRANGER)).unwrap();
    let outcome = bench.run(["--json", "pull", &registry.reference()]);
    unusable(&outcome, &bench.cache(), "belongs to user 65534");
    assert!(TreeSnapshot::of(&bench.cache()).is_empty());
}

#[test]
fn a_cache_that_others_may_write_to_is_refused() {
    for mode in [0o777, 0o770, 0o1777] {
        let (bench, registry) = (Bench::new(), registry());
        cache_with_mode(&bench, mode);
        let outcome = bench.run(["--json", "pull", &registry.reference()]);
        unusable(&outcome, &bench.cache(), "others may write to it");
        assert!(TreeSnapshot::of(&bench.cache()).is_empty());
        let sum = format!("sha256:{}", "a".repeat(64));
        error_of(&bench.run(["--json", "pull", &sum]), 10, "internal");
    }
}

#[test]
fn a_cache_that_is_a_file_is_refused() {
    let (bench, registry) = (Bench::new(), registry());
    fs::write(bench.cache(), "a file").unwrap();
    let outcome = bench.run(["--json", "pull", &registry.reference()]);
    unusable(&outcome, &bench.cache(), "not a directory");
    assert_eq!(fs::read_to_string(bench.cache()).unwrap(), "a file");
}

#[test]
fn a_cache_below_a_file_cannot_be_made() {
    let (bench, registry) = (Bench::new(), registry());
    let cache = bench.sentinel().join("cache");
    let outcome = Run::new(BIN).args(["--json", "pull", &registry.reference(), "--cache-dir"]).arg(&cache).output();
    error_of(&outcome, 10, "internal");
    bench.assert_nothing_outside_changed();
}

/// A tiny file system, unmounted when dropped.
struct Tiny(PathBuf);

impl Tiny {
    fn mount(test: &str, at: &Path, size: &str) -> Option<Self> {
        if !is_root() {
            skip(test, "only the superuser can mount a file system");
            return None;
        }
        fs::create_dir(at).unwrap();
        let options = format!("size={size},mode=0700");
        let mounted = Run::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(at).output();
        if mounted.code != Some(0) {
            skip(test, &format!("no file system can be mounted here: {}", mounted.stderr.trim()));
            return None;
        }
        Some(Self(at.to_owned()))
    }

    fn resize(&self, size: &str) {
        let options = format!("remount,size={size}");
        Run::new("mount").args(["-o", &options]).arg(&self.0).output().expect_code(0);
    }
}

impl Drop for Tiny {
    fn drop(&mut self) {
        Run::new("umount").arg(&self.0).output();
    }
}

#[test]
fn a_full_cache_is_said_to_be_full_and_works_again_with_space() {
    const TEST: &str = "a_full_cache_is_said_to_be_full_and_works_again_with_space";
    let (bench, registry) = (Bench::new(), registry());
    let Some(tiny) = Tiny::mount(TEST, &bench.cache(), "64k") else { return };
    let outcome = bench.run(["--json", "pull", &registry.reference()]);
    let error = error_of(&outcome, 10, "internal");
    let told = error.to_string();
    assert!(told.contains(&bench.cache().display().to_string()) && told.contains("bytes are needed"), "{told}");
    assert!(error["hints"].to_string().contains("free some space"), "{told}");
    assert_eq!(registry.journal().count_containing("/blobs/"), 0);
    assert_eq!(bench.run(["cache", "ls", "--json"]).stdout.trim(), "[]");
    let left = TreeSnapshot::of(&bench.cache());
    assert!(left.files().iter().all(|file| *file == "CACHEDIR.TAG"), "{:?}", left.files());
    tiny.resize("1m");
    bench.run(["pull", &registry.reference()]).expect_code(0);
}

#[test]
fn a_cache_that_fills_up_in_the_middle_leaves_nothing_of_the_artifact() {
    const TEST: &str = "a_cache_that_fills_up_in_the_middle_leaves_nothing_of_the_artifact";
    let (bench, registry) =
        (Bench::new(), Scenario::new(fixture::artifact(fixture::WASM_TYPE, vec![7; 60 << 10])).start());
    let Some(_tiny) = Tiny::mount(TEST, &bench.cache(), "64k") else { return };
    // The bytes fit, what stands beside them does not.
    let outcome = bench.run(["--json", "pull", &registry.reference()]);
    error_of(&outcome, 10, "internal");
    assert_eq!(bench.run(["cache", "ls", "--json"]).stdout.trim(), "[]");
    let left = TreeSnapshot::of(&bench.cache());
    assert!(!left.files().iter().any(|file| file.ends_with("entry.json")), "{:?}", left.files());
}

#[test]
fn row_67_a_file_size_limit_is_a_full_disk() {
    let (bench, registry) = (Bench::new(), registry());
    // 64 blocks of 512 bytes, and the signal for it ignored, so that the write fails.
    let script = "trap '' XFSZ; ulimit -f 64; exec \"$0\" \"$@\"";
    let outcome = Run::new("sh")
        .args(["-c", script, BIN, "--json", "pull", &registry.reference(), "--cache-dir"])
        .arg(bench.cache())
        .output();
    let error = error_of(&outcome, 10, "internal");
    assert!(error.to_string().contains("space"), "{error}");
    assert_eq!(bench.run(["cache", "ls", "--json"]).stdout.trim(), "[]");
    let left = TreeSnapshot::of(&bench.cache());
    assert!(left.files().iter().all(|file| *file == "CACHEDIR.TAG"), "{:?}", left.files());
    bench.pull(&registry.reference());
}
