//! Death at any instruction.

use std::process::Command;

use greentic_dist_store::Proof;

use crate::child::{Child, big, command};
use crate::support::*;

#[test]
fn a_download_killed_half_way_is_gone_on_with_by_the_next_process() {
    let cache = cache();
    let artifact = big();
    let mut child = Child::start("half", cache.root(), &[]);
    child.wait_for_line("half way");
    child.kill();
    assert!(cache.list().unwrap().is_empty());
    let said = Child::start("bring", cache.root(), &[]).finish();
    assert!(said.contains("brought it from 250000"), "{said}");
    assert_eq!(bytes_of(&cache, &artifact.pin, Proof::Full), artifact.bytes);
    assert_eq!(names(&cache.root().join("partial")), Vec::<String>::new());
}

#[test]
fn a_download_killed_with_holes_in_it_counts_up_to_the_first() {
    let cache = cache();
    let artifact = big();
    let mut child = Child::start("scattered half", cache.root(), &[]);
    child.wait_for_line("half way");
    child.kill();
    let partial = cache.root().join("partial");
    let size = |name: &String| std::fs::metadata(partial.join(name)).unwrap().len();
    // As long as if all of it were there.
    assert_eq!(names(&partial).iter().map(size).collect::<Vec<_>>(), [400_000, 21]);
    let said = Child::start("scattered", cache.root(), &[]).finish();
    assert!(said.contains("brought it from 100000"), "{said}");
    assert_eq!(bytes_of(&cache, &artifact.pin, Proof::Full), artifact.bytes);
    assert_eq!(names(&partial), Vec::<String>::new());
}

#[test]
fn a_kill_at_any_system_call_of_a_scattered_download_leaves_nothing_wrong() {
    if !can_trace() {
        return;
    }
    let mut deaths = 0;
    for syscall in ["pwrite64", "openat", "write", "rename", "unlink", "ftruncate"] {
        for nth in 1.. {
            let cache = cache();
            // One before it was cut with holes, so that the cutting dies, too.
            let mut before = Child::start("scattered half", cache.root(), &[]);
            before.wait_for_line("half way");
            before.kill();
            if !run_injected(&cache, "scattered", syscall, "signal=KILL", nth) {
                break;
            }
            deaths += 1;
            assert_recovers(&cache, &format!("killed at {syscall} {nth}"));
        }
    }
    println!("{deaths} deaths");
    assert!(deaths > 15, "only {deaths} deaths: is the injection working?");
}

#[test]
fn what_a_dead_process_staged_is_collected_and_what_a_live_one_stages_is_not() {
    let cache = cache();
    let artifact = big();
    let mut dead = Child::start("staged", cache.root(), &[]);
    dead.wait_for_line("staged");
    dead.kill();
    let mut live = Child::start("staged", cache.root(), &[]);
    live.wait_for_line("staged");
    let ours = super::support::artifact(b"staged here").stage_in(&cache);
    assert_eq!(names(&cache.root().join("tmp")).len(), 3);
    let report = cache.gc().unwrap();
    assert_eq!((report.temp_removed, report.kept_busy), (1, 2));
    assert!(report.bytes >= artifact.bytes.len() as u64);
    assert_eq!(names(&cache.root().join("tmp")).len(), 2);
    cache.publish(ours).unwrap();
    live.kill();
    assert_eq!(cache.gc().unwrap().temp_removed, 1);
    assert_tidy(&cache);
}

/// Whether system calls of a child can be tampered with here.
pub(crate) fn can_trace() -> bool {
    let can =
        Command::new("strace").args(["-qq", "-o", "/dev/null", "true"]).status().is_ok_and(|status| status.success());
    if !can {
        println!("SKIPPED: strace is not here or may not trace; kills and errors at every system call are not tried");
    }
    can
}

/// Runs the whole of bringing an artifact with an injection into the `nth` call of `syscall`; false when it ended well
/// because there were not that many calls.
pub(crate) fn run_injected(cache: &Cache, role: &str, syscall: &str, what: &str, nth: usize) -> bool {
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qq", "-o", "/dev/null", "-e", &format!("trace={syscall}"), "-e"]);
    strace.arg(format!("inject={syscall}:{what}:when={nth}"));
    let role = command(role, cache.root());
    strace.arg(role.get_program()).args(role.get_args()).arg("--test-threads=1");
    strace.envs(role.get_envs().filter_map(|(key, value)| Some((key, value?))));
    let output = strace.output().unwrap();
    !output.status.success()
}

/// After any death: whatever opens is right, the next process succeeds, and nothing but what gc takes is left.
fn assert_recovers(cache: &Cache, context: &str) {
    let artifact = big();
    match try_bytes_of(cache, &artifact.pin, Proof::Stamped) {
        Ok(Some(bytes)) => assert_eq!(bytes, artifact.bytes, "{context}"),
        Ok(None) => {}
        Err(error) => panic!("{context}: a visible entry does not prove itself: {error}"),
    }
    for entry in cache.entries().unwrap() {
        assert!(!entry.rebuilt, "{context}: an entry without its record is visible");
    }
    let lock = cache.lock(&artifact.content, &mut |_| ()).unwrap();
    if cache.open(&artifact.pin, Proof::Stamped).unwrap().is_none() {
        let mut ingest = cache.ingest(&lock, artifact.expected()).unwrap();
        let offset = usize::try_from(ingest.offset()).unwrap();
        ingest.write(&artifact.bytes[offset..]).unwrap();
        cache.publish(ingest.finish().unwrap().stage(artifact.draft()).unwrap()).unwrap();
    }
    drop(lock);
    assert_eq!(bytes_of(cache, &artifact.pin, Proof::Full), artifact.bytes, "{context}");
    cache.gc().unwrap();
    assert_tidy(cache);
    assert_eq!(names(&cache.root().join("partial")), Vec::<String>::new(), "{context}");
}

#[test]
fn row_73_a_kill_at_any_system_call_leaves_nothing_wrong() {
    if !can_trace() {
        return;
    }
    let calls = [
        "openat",
        "write",
        "pwrite64",
        "fdatasync",
        "rename",
        "mkdir",
        "unlink",
        "flock",
        "ftruncate",
        "fchmod",
        "chmod",
        "lseek",
        "fadvise64",
    ];
    let mut deaths = 0;
    for syscall in calls {
        for nth in 1.. {
            let cache = cache();
            // Before its first write to the cache the child is only a program that starts.
            let died = run_injected(&cache, "synced", syscall, "signal=KILL", nth);
            if !died {
                break;
            }
            deaths += 1;
            if cache.root().exists() {
                assert_recovers(&cache, &format!("killed at {syscall} {nth}"));
            }
        }
    }
    println!("{deaths} deaths");
    assert!(deaths > 30, "only {deaths} deaths: is the injection working?");
}

#[test]
fn row_68_an_error_of_any_system_call_is_an_error_and_not_a_wrong_entry() {
    if !can_trace() {
        return;
    }
    let faults = [
        ("write", "error=ENOSPC"),
        ("write", "error=EIO"),
        ("pwrite64", "error=ENOSPC"),
        ("pwrite64", "error=EIO"),
        ("fdatasync", "error=EIO"),
        ("fdatasync", "error=EDQUOT"),
        ("rename", "error=EXDEV"),
        ("rename", "error=EIO"),
        ("mkdir", "error=ENOSPC"),
        ("unlink", "error=EACCES"),
        ("flock", "error=ENOLCK"),
        ("flock", "error=EOPNOTSUPP"),
        ("fchmod", "error=EPERM"),
        ("openat", "error=EMFILE"),
    ];
    for (syscall, fault) in faults {
        // Beyond the first of the program's own start; every run is a process, so a few of each are tried.
        for nth in [1, 2, 3, 5, 8] {
            let cache = cache();
            run_injected(&cache, "synced", syscall, fault, nth);
            if cache.root().exists() {
                assert_recovers(&cache, &format!("{fault} at {syscall} {nth}"));
            }
        }
    }
}
