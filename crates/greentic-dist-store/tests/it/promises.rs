//! A promise is kept or was never made: bundle records through deaths and errors of every system call they take.

use greentic_dist_store::{Proof, StoreErrorKind};
use greentic_dist_types::{BundleId, BundleLifecycleState as State};

use crate::bundles::bundle_of;
use crate::child::big;
use crate::crash::{can_trace, run_injected};
use crate::support::*;

/// Whatever happened: the record is whole, names what opens, and can be written again. Whether it was there.
fn assert_kept(cache: &Cache, context: &str) -> bool {
    let artifact = big();
    let records = cache.bundles().unwrap_or_else(|error| panic!("{context}: a torn record: {error}"));
    for record in &records {
        assert_eq!(record.bundle_id, BundleId::of(artifact.pin), "{context}");
        assert!([State::Staged, State::Warming].contains(&record.lifecycle_state), "{context}");
        assert_eq!(bytes_of(cache, &artifact.pin, Proof::Full), artifact.bytes, "{context}");
        assert_eq!(cache.advisory_mark("feed").unwrap().unwrap().issued_at, 1, "{context}");
    }
    let entry = artifact.publish_in(cache).entry;
    cache.make_durable(&entry).unwrap();
    let lock = cache.lock_bundles(&mut |_| ()).unwrap();
    cache.put_bundle(&lock, &bundle_of(artifact.pin, State::Ready)).unwrap();
    drop(lock);
    cache.mark_advisory("feed", "2", 2).unwrap();
    cache.gc().unwrap();
    assert_tidy(cache);
    !records.is_empty()
}

#[test]
fn a_kill_at_any_system_call_of_a_promise_leaves_a_whole_record_or_none() {
    if !can_trace() {
        return;
    }
    let (mut deaths, mut kept) = (0, 0);
    for syscall in ["openat", "write", "fdatasync", "fsync", "rename", "mkdir", "unlink", "flock", "fchmod"] {
        for nth in 1..400 {
            let cache = cache();
            let context = format!("killed at {syscall} {nth}");
            if !run_injected(&cache, "promise", syscall, "signal=KILL", nth) {
                break;
            }
            deaths += 1;
            if cache.root().exists() {
                kept += usize::from(assert_kept(&cache, &context));
            }
        }
    }
    println!("{deaths} deaths, {kept} of them after the promise");
    assert!(deaths > 40 && kept > 5, "{deaths} deaths, {kept} kept: is the injection working?");
}

#[test]
fn an_error_of_any_system_call_of_a_promise_is_an_error_and_tears_no_record() {
    if !can_trace() {
        return;
    }
    for (syscall, errno) in [
        ("write", "ENOSPC"),
        ("write", "EIO"),
        ("write", "EDQUOT"),
        ("fsync", "EIO"),
        ("fdatasync", "EIO"),
        ("rename", "ENOSPC"),
        ("rename", "EROFS"),
    ] {
        for nth in [2, 4, 6, 8, 10, 12] {
            let cache = cache();
            run_injected(&cache, "promise", syscall, &format!("error={errno}"), nth);
            if cache.root().exists() {
                assert_kept(&cache, &format!("{errno} at {syscall} {nth}"));
            }
        }
    }
}

#[test]
fn a_promise_for_an_entry_that_is_gone_is_refused() {
    let cache = cache_with(greentic_dist_store::StoreOptions::default());
    let entry = big().publish_in(&cache).entry;
    cache.remove(&entry.pin).unwrap();
    assert_eq!(kind(cache.make_durable(&entry)), StoreErrorKind::Missing);
}
