//! Logging in and out, killed and failed at every system call on the files of logins: the old login or the new one, whole, for
//! this user alone, and nothing else for long.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use greentic_dist_testkit::process::{Outcome, Run, find};
use greentic_dist_testkit::real::skip_line;
use serde_json::{Value, json};

use crate::support::{BIN, Bench, skip};

/// The system calls on files that a login makes, those that only look included.
const CALLS: [&str; 12] =
    ["openat", "read", "write", "fsync", "fchmod", "rename", "mkdir", "unlink", "flock", "statx", "fstat", "close"];
/// Most calls of one kind that are tried; a program that makes more would never end the test.
const MOST: usize = 60;

const OLD: &str = "the-old-secret-3f9a";
const NEW: &str = "the-new-secret-b71c";

/// A change of a file of logins.
#[derive(Clone, Copy, Debug)]
enum Change {
    /// The login of a tenant is replaced.
    Tenant,
    /// The first login of all: neither the file nor its directories are there.
    First,
    /// The login of a registry is replaced.
    Registry,
    /// The login of a tenant is forgotten.
    Logout,
}

impl Change {
    const ALL: [Self; 4] = [Self::Tenant, Self::First, Self::Registry, Self::Logout];

    const fn file(self) -> &'static str {
        match self {
            Self::Registry => "registry-auth.json",
            _ => "store-auth.json",
        }
    }

    fn args(self) -> &'static [&'static str] {
        match self {
            Self::Tenant | Self::First => &["auth", "login", "acme", "--token-stdin"],
            // Offline it is saved without being tried.
            Self::Registry => &["--offline", "auth", "login", "ghcr.io", "-u", "ann", "--password-stdin"],
            Self::Logout => &["auth", "logout", "acme"],
        }
    }

    /// The document with this secret of the login in question, and with the one of somebody else.
    fn document(self, secret: &str) -> Value {
        let logins = match self {
            Self::Registry => json!([
                { "registry": "ghcr.io", "username": "ann", "password": secret },
                { "registry": "quay.io", "token": "of-another" },
            ]),
            _ => json!([
                { "tenant": "acme", "username": "acme", "token": secret },
                { "tenant": "globex", "username": "globex", "token": "of-another" },
            ]),
        };
        json!({ "version": 1, "logins": logins })
    }
}

/// A home with an old login in it.
struct Rig {
    bench: Bench,
    change: Change,
}

/// What a file of logins says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    Old,
    New,
    None,
}

impl Rig {
    fn new(change: Change) -> Self {
        let rig = Self { bench: Bench::new(), change };
        if !matches!(change, Change::First) {
            fs::create_dir_all(rig.dir()).unwrap();
            fs::write(rig.file(), change.document(OLD).to_string()).unwrap();
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
            fs::set_permissions(rig.file(), mode).unwrap();
        }
        rig
    }

    fn dir(&self) -> PathBuf {
        self.bench.path().join(".config/greentic/dist")
    }

    fn file(&self) -> PathBuf {
        self.dir().join(self.change.file())
    }

    fn sibling(&self, suffix: &str) -> PathBuf {
        self.dir().join(format!(".{}.{suffix}", self.change.file()))
    }

    fn dist(&self, args: &[&str]) -> Run {
        Run::new(BIN).args(args).env("HOME", self.bench.path()).env("GREENTIC_CACHE_DIR", self.bench.cache())
    }

    /// Makes the change with `what` happening to the `nth` call of `syscall` on the files of the logins. Whether it happened.
    fn injected(&self, syscall: &str, what: &str, nth: usize) -> (Outcome, bool) {
        let log = self.bench.path().join("strace.log");
        let mut options = vec!["-f".to_owned(), "-qq".to_owned(), "-o".to_owned(), log.display().to_string()];
        let dirs = [".config", ".config/greentic", ".config/greentic/dist"].map(|dir| self.bench.path().join(dir));
        for path in dirs.into_iter().chain([self.file(), self.sibling("tmp"), self.sibling("lock")]) {
            options.extend(["-P".to_owned(), path.display().to_string()]);
        }
        options.extend(["-e".to_owned(), format!("trace={syscall}")]);
        options.extend(["-e".to_owned(), format!("inject={syscall}:{what}:when={nth}")]);
        let outcome = self.dist(self.change.args()).stdin(NEW).below("strace", options).output();
        let happened = outcome.code.is_none() || fs::read_to_string(&log).unwrap().contains("(INJECTED)");
        fs::remove_file(&log).unwrap();
        (outcome, happened)
    }

    /// Which login there is. Nothing is torn, the other login is there still, and nobody else can read any of it.
    fn look(&self, context: &str) -> Found {
        for path in [self.file(), self.sibling("tmp"), self.sibling("lock")] {
            if let Ok(meta) = fs::symlink_metadata(&path) {
                assert_eq!(meta.mode() & 0o7777, 0o600, "{context}: {}", path.display());
            }
        }
        let mut dir = self.dir();
        while dir != self.bench.path() {
            if let Ok(meta) = fs::metadata(&dir)
                && matches!(self.change, Change::First)
            {
                assert_eq!(meta.mode() & 0o7777, 0o700, "{context}: {}", dir.display());
            }
            dir.pop();
        }
        let Ok(text) = fs::read_to_string(self.file()) else {
            assert!(matches!(self.change, Change::First), "{context}: the file is gone");
            return Found::None;
        };
        let document: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{context}: torn: {error}"));
        let logins = document["logins"].as_array().unwrap();
        let is_first = matches!(self.change, Change::First);
        assert!(is_first || text.contains("of-another"), "{context}: the other login is lost");
        let found = match (text.contains(OLD), text.contains(NEW)) {
            (true, false) => Found::Old,
            (false, true) => Found::New,
            (false, false) => Found::None,
            (true, true) => panic!("{context}: both secrets are there"),
        };
        let others = usize::from(!is_first);
        assert_eq!(logins.len(), others + usize::from(found != Found::None), "{context}: {}", logins.len());
        found
    }

    /// The next run finds its way, whatever it is, and leaves no secret but those that are saved.
    fn recovers(&self, context: &str) {
        let before = self.look(context);
        let nobody = match self.change {
            Change::Registry => "registry.example",
            _ => "nobody",
        };
        self.dist(&["auth", "logout", nobody]).output().expect_code(0);
        assert!(!self.sibling("tmp").exists(), "{context}: a temporary file is left");
        assert_eq!(self.look(context), before, "{context}: forgetting nobody changed something");
        let outcome = self.dist(self.change.args()).stdin(NEW).output();
        outcome.expect_code(0);
        let wanted = if matches!(self.change, Change::Logout) { Found::None } else { Found::New };
        assert_eq!(self.look(context), wanted, "{context}");
        assert!(!holds(&self.dir(), OLD), "{context}: the old secret is left");
        let mut names: Vec<_> = fs::read_dir(self.dir()).unwrap().map(|entry| entry.unwrap().path()).collect();
        names.sort();
        assert_eq!(names, [self.sibling("lock"), self.file()], "{context}");
    }
}

fn holds(dir: &Path, text: &str) -> bool {
    let mut paths = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    paths.any(|path| fs::read_to_string(path).unwrap().contains(text))
}

fn can_inject(test: &str) -> bool {
    if find("strace").is_none() {
        skip_line(test, "strace");
        return false;
    }
    let works = Run::new("strace").args(["-qq", "-o", "/dev/null", "true"]).output().code == Some(0);
    if !works {
        skip(test, "strace may not tamper with processes here");
    }
    works
}

#[test]
fn d24_a_kill_at_any_system_call_of_a_login_leaves_the_old_one_or_the_new_one_and_no_secret_for_long() {
    const TEST: &str =
        "d24_a_kill_at_any_system_call_of_a_login_leaves_the_old_one_or_the_new_one_and_no_secret_for_long";
    if !can_inject(TEST) {
        return;
    }
    let sweep = |change: Change| {
        let (mut deaths, mut done) = (0, 0);
        for syscall in CALLS {
            for nth in 1..=MOST {
                assert!(nth < MOST, "{syscall} is called without end");
                let rig = Rig::new(change);
                let (outcome, _) = rig.injected(syscall, "signal=KILL", nth);
                let context = format!("{change:?} killed at {syscall} {nth}");
                let found = rig.look(&context);
                let before = if matches!(change, Change::First) { Found::None } else { Found::Old };
                if outcome.code == Some(0) {
                    assert!(found != before, "{context}: it said that it was done");
                    break;
                }
                assert_eq!(outcome.code, None, "{context}: {outcome:?}");
                deaths += 1;
                done += usize::from(found != before);
                rig.recovers(&context);
            }
        }
        println!("{change:?}: {deaths} deaths, {done} of them after the change");
        assert!(deaths > 12 && done > 0 && done < deaths, "{deaths} deaths, {done} after: is the injection working?");
    };
    std::thread::scope(|scope| {
        for change in Change::ALL {
            scope.spawn(move || sweep(change));
        }
    });
}

#[test]
fn an_error_of_any_system_call_of_a_login_is_told_and_the_old_login_stays() {
    const TEST: &str = "an_error_of_any_system_call_of_a_login_is_told_and_the_old_login_stays";
    if !can_inject(TEST) {
        return;
    }
    let faults = [
        ("openat", "EMFILE"),
        ("openat", "EACCES"),
        ("openat", "EROFS"),
        ("read", "EIO"),
        ("write", "ENOSPC"),
        ("write", "EDQUOT"),
        ("write", "EIO"),
        ("fsync", "EIO"),
        ("fsync", "ENOSPC"),
        ("fchmod", "EPERM"),
        ("rename", "EXDEV"),
        ("rename", "EACCES"),
        ("rename", "EIO"),
        ("mkdir", "ENOSPC"),
        ("unlink", "EACCES"),
        ("flock", "ENOLCK"),
        ("flock", "EIO"),
        ("statx", "EIO"),
    ];
    let sweep = |change: Change| {
        let (mut tried, mut failed) = (0, 0);
        for (syscall, errno) in faults {
            for nth in 1..=MOST {
                assert!(nth < MOST, "{syscall} is called without end");
                let rig = Rig::new(change);
                let (outcome, happened) = rig.injected(syscall, &format!("error={errno}"), nth);
                if !happened {
                    break;
                }
                tried += 1;
                let context = format!("{change:?} with {errno} at {syscall} {nth}: {outcome:?}");
                let before = if matches!(change, Change::First) { Found::None } else { Found::Old };
                let found = rig.look(&context);
                match outcome.code {
                    Some(0) => assert!(found != before, "{context}: it said that it was done"),
                    // By kind: the file is refused, somebody else writes, or the system failed.
                    Some(5 | 7 | 10) => {
                        failed += 1;
                        assert!(outcome.stderr.contains("error: "), "{context}");
                        // The last step is to make the rename last; what failed there is done all the same.
                        let is_last = matches!(syscall, "fsync" | "openat") && found != before;
                        assert!(found == before || is_last, "{context}");
                        assert!(!rig.sibling("tmp").exists(), "{context}: a temporary file is left");
                    }
                    _ => panic!("{context}"),
                }
                assert!(!outcome.says(NEW) && !outcome.says(OLD) && !outcome.says("panicked"), "{context}");
                rig.recovers(&context);
            }
        }
        println!("{change:?}: {tried} faults, {failed} of them told");
        assert!(tried > 12 && failed > 8, "{tried} faults, {failed} told: is the injection working?");
    };
    std::thread::scope(|scope| {
        for change in Change::ALL {
            scope.spawn(move || sweep(change));
        }
    });
}
