//! Collection of garbage.

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use greentic_dist_store::{Clock, Proof, RefRecord, Store, StoreErrorKind, StoreOptions};
use greentic_dist_types::Digest;

use crate::child::Child;
use crate::support::*;

/// A handle on the same cache, `later`.
fn later(cache: &Cache, later: Duration) -> Store {
    let clock = Clock::fixed(SystemTime::now() + later);
    Store::with_options(cache.root(), StoreOptions { clock, ..unsynced() })
}

const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);

#[test]
fn good_entries_in_every_layout_survive() {
    let cache = cache();
    let artifact = artifact(b"component");
    artifact.publish_in(&cache);
    let plain = publish_content(&cache, b"plain");
    let flat = Digest::sha256(b"flat");
    fs::create_dir(cache.root().join(flat.to_hex())).unwrap();
    fs::write(cache.root().join(flat.to_hex()).join("component.wasm"), b"flat").unwrap();
    let report = later(&cache, 400 * DAY).gc().unwrap();
    assert_eq!((report.removed, report.temp_removed, report.partials_removed), (vec![], 0, 0));
    for pin in [artifact.pin, plain.pin, flat] {
        assert!(cache.open(&pin, Proof::Full).unwrap().is_some());
    }
    assert!(cache.find_content(&artifact.content).unwrap().is_some());
    assert_tidy(&cache);
}

#[test]
fn entries_that_can_never_prove_themselves_are_collected_after_a_while() {
    let damages: [fn(&Path); 6] = [
        |dir| fs::remove_file(dir.join("component.wasm")).unwrap(),
        |dir| fs::write(dir.join("manifest.json"), b"{}").unwrap(),
        |dir| fs::remove_file(dir.join("manifest.json")).unwrap(),
        |dir| {
            fs::remove_file(dir.join("component.wasm")).unwrap();
            fs::write(dir.join("component.wasm"), b"short").unwrap();
        },
        |dir| {
            for name in names(dir) {
                fs::remove_file(dir.join(name)).unwrap();
            }
        },
        |dir| {
            fs::remove_file(dir.join("component.wasm")).unwrap();
            fs::create_dir(dir.join("component.wasm")).unwrap();
        },
    ];
    for (index, damage) in damages.into_iter().enumerate() {
        let cache = cache();
        let artifact = artifact(b"component");
        let good = publish_content(&cache, b"good");
        let entry = artifact.publish_in(&cache).entry;
        damage(&entry.dir);
        let early = cache.gc().unwrap();
        assert!(early.removed.is_empty() && early.kept_busy == 1, "{index}: somebody may be copying it there");
        let held = cache.lock(&artifact.pin, &mut |_| ()).unwrap();
        let report = later(&cache, HOUR).gc().unwrap();
        assert!(report.removed.is_empty() && report.kept_busy == 1, "{index}: it is in use");
        drop(held);
        let report = later(&cache, HOUR).gc().unwrap();
        assert_eq!(report.removed, [artifact.pin], "{index}");
        assert!(!entry.dir.exists() && good.dir.exists());
        assert_eq!(names(&cache.root().join("refs/by-content")), Vec::<String>::new(), "{index}");
        assert_tidy(&cache);
    }
}

#[test]
fn partial_downloads_wait_a_week() {
    let cache = cache();
    let artifact = artifact(b"0123456789");
    let lock = cache.lock(&artifact.content, &mut |_| ()).unwrap();
    let mut ingest = cache.ingest(&lock, artifact.expected()).unwrap();
    ingest.write(b"0123").unwrap();
    assert_eq!(later(&cache, 8 * DAY).gc().unwrap().partials_removed, 0, "somebody is at it");
    drop(ingest);
    drop(lock);
    assert_eq!(later(&cache, 6 * DAY).gc().unwrap().partials_removed, 0);
    let report = later(&cache, 8 * DAY).gc().unwrap();
    assert_eq!((report.partials_removed, report.bytes), (1, 4));
    assert_eq!(names(&cache.root().join("partial")), Vec::<String>::new());
}

#[test]
fn a_note_of_holes_goes_with_its_partial_download_and_not_before() {
    let cache = cache();
    let artifact = artifact(b"0123456789");
    let mut child = Child::start("scattered half", cache.root(), &[]);
    child.wait_for_line("half way");
    child.kill();
    let partial = cache.root().join("partial");
    assert_eq!(later(&cache, 6 * DAY).gc().unwrap().partials_removed, 0);
    let left = names(&partial);
    // Of two files nobody went on with, a fresh partial keeps its old note.
    fs::File::open(partial.join(&left[0])).unwrap().set_modified(SystemTime::now() + 2 * DAY).unwrap();
    assert_eq!(later(&cache, 8 * DAY).gc().unwrap().partials_removed, 0);
    assert_eq!(names(&partial), left);
    let report = later(&cache, 10 * DAY).gc().unwrap();
    assert_eq!(report.partials_removed, 1);
    assert_eq!(names(&partial), Vec::<String>::new());
    // And one that is alone.
    fs::write(partial.join(format!("sha256-{}.upto", artifact.content.to_hex())), "").unwrap();
    assert_eq!(later(&cache, 8 * DAY).gc().unwrap().partials_removed, 0);
    assert_eq!(names(&partial), Vec::<String>::new());
}

#[test]
fn trash_is_emptied_whatever_is_in_it() {
    let cache = cache();
    let artifact = artifact(b"component");
    let entry = artifact.publish_in(&cache).entry;
    cache.remove(&artifact.pin).unwrap();
    let trash = cache.root().join("trash");
    fs::create_dir_all(trash.join("half/deleted/entry")).unwrap();
    fs::write(trash.join("half/file"), b"1234").unwrap();
    fs::write(trash.join("a file"), b"12").unwrap();
    let outside = cache.dir.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("precious"), b"precious").unwrap();
    std::os::unix::fs::symlink(&outside, trash.join("link")).unwrap();
    std::os::unix::fs::symlink(&outside, trash.join("half/link")).unwrap();
    make_fifo(&trash.join("pipe"));
    fs::write(trash.join(".nfs0001"), b"").unwrap();
    assert!(cache.gc().unwrap().bytes >= 6);
    assert_eq!(names(&trash), [".nfs0001"]);
    assert_eq!(fs::read(outside.join("precious")).unwrap(), b"precious");
    assert!(!entry.dir.exists());
}

#[test]
fn quarantine_keeps_sixteen_for_a_week() {
    let cache = cache();
    let quarantine = cache.root().join("quarantine");
    for number in 0..20_u32 {
        let artifact = artifact(&number.to_le_bytes());
        artifact.publish_in(&cache);
        let store = later(&cache, Duration::from_secs(number.into()));
        store.quarantine(&artifact.pin, "../../odd Reason\u{202e}\n").unwrap();
        assert!(cache.open(&artifact.pin, Proof::Stamped).unwrap().is_none());
    }
    let kept = names(&quarantine);
    assert_eq!(kept.len(), 16);
    assert!(kept.iter().all(|name| name.contains("-odd-reason-")), "{kept:?}");
    // The oldest four went.
    for number in 0..4_u32 {
        let pin = artifact(&number.to_le_bytes()).pin.to_hex();
        assert!(!kept.iter().any(|name| name.contains(&pin)));
    }
    fs::create_dir(quarantine.join("not ours")).unwrap();
    later(&cache, 6 * DAY).gc().unwrap();
    assert_eq!(names(&quarantine).len(), 17);
    later(&cache, 8 * DAY).gc().unwrap();
    assert_eq!(names(&quarantine), ["not ours"]);
    assert!(cache.list().unwrap().is_empty());
    cache.quarantine(&Digest::sha256(b"not there"), "why").unwrap();
}

#[test]
fn one_collection_runs_at_a_time_and_entries_in_use_are_not_removed() {
    let cache = cache();
    let artifact = artifact(b"component");
    artifact.publish_in(&cache);
    let held = cache.lock(&artifact.pin, &mut |_| ()).unwrap();
    let error = cache.remove(&artifact.pin).unwrap_err();
    assert_eq!(*error.kind(), StoreErrorKind::Locked);
    assert!(error.to_string().contains(&format!("(process {})", std::process::id())), "{error}");
    drop(held);
    let gc = fs::File::create(cache.root().join("locks/gc.lock")).unwrap();
    gc.lock().unwrap();
    assert_eq!(kind(cache.gc()), StoreErrorKind::Locked);
    drop(gc);
    cache.gc().unwrap();
    assert!(cache.remove(&artifact.pin).unwrap().existed);
    assert_tidy(&cache);
}

#[test]
fn files_nobody_here_made_are_left_alone() {
    let cache = cache();
    publish_content(&cache, b"good");
    let root = cache.root();
    fs::create_dir_all(root.join("bundles")).unwrap();
    for path in ["bundles/.DS_Store", "README", "partial/notes.txt", "refs/other.txt", "refs/by-content/x", "locks/x"] {
        fs::create_dir_all(root.join(path).parent().unwrap()).unwrap();
        fs::write(root.join(path), b"x").unwrap();
    }
    fs::create_dir_all(root.join("a directory/deeper")).unwrap();
    let before = tree(root);
    later(&cache, 400 * DAY).gc().unwrap();
    let after = tree(root);
    for path in before.keys() {
        assert!(after.contains_key(path), "{} is gone", path.display());
    }
}

#[test]
fn the_sharded_layout_loses_only_what_has_no_artifact() {
    let cache = cache();
    publish_content(&cache, b"makes the root");
    let dir = |bytes: &[u8]| {
        let hex = Digest::sha256(bytes).to_hex();
        cache.root().join("artifacts/sha256").join(&hex[..2]).join(&hex[2..])
    };
    let (good, empty) = (dir(b"good"), dir(b"empty"));
    for dir in [&good, &empty] {
        fs::create_dir_all(dir).unwrap();
        fs::write(dir.join("entry.json"), b"{}").unwrap();
    }
    fs::write(good.join("blob"), b"good").unwrap();
    assert!(cache.gc().unwrap().removed.is_empty());
    assert_eq!(later(&cache, HOUR).gc().unwrap().removed, [Digest::sha256(b"empty")]);
    assert!(good.exists() && !empty.parent().unwrap().exists());
}

#[test]
fn references_to_what_is_gone_are_forgotten_and_others_stay() {
    let cache = cache();
    let kept = artifact(b"kept");
    kept.publish_in(&cache);
    let gone = artifact(b"gone");
    for (reference, pin) in [("oci://host/kept:1", kept.pin), ("oci://host/gone:1", gone.pin)] {
        cache.remember(&RefRecord::new(reference, pin, 1)).unwrap();
    }
    cache.gc().unwrap();
    assert!(cache.recall("oci://host/gone:1").unwrap().is_some(), "a fetch may be about to bring it");
    later(&cache, DAY).gc().unwrap();
    assert!(cache.recall("oci://host/gone:1").unwrap().is_none());
    assert_eq!(cache.recall("oci://host/kept:1").unwrap().unwrap().pin, kept.pin);
}

#[test]
fn a_survey_of_records_says_what_reading_all_of_them_says() {
    let cache = cache();
    let (plain, marked, published) =
        (publish_content(&cache, b"plain"), publish_content(&cache, b"marked"), publish_content(&cache, b"published"));
    artifact(b"component").publish_in(&cache);
    let torn = publish_content(&cache, b"torn");
    let newer = publish_content(&cache, b"newer");
    let flat = Digest::sha256(b"flat");
    fs::create_dir(cache.root().join(flat.to_hex())).unwrap();
    fs::write(cache.root().join(flat.to_hex()).join("component.wasm"), b"flat").unwrap();
    let edit = |dir: &Path, change: &dyn Fn(&mut serde_json::Value)| {
        let mut record = serde_json::from_slice(&fs::read(dir.join("entry.json")).unwrap()).unwrap();
        change(&mut record);
        fs::write(dir.join("entry.json"), serde_json::to_vec_pretty(&record).unwrap()).unwrap();
    };
    edit(&marked.dir, &|record| record["state"] = "Corrupt".into());
    // As a program writes it that knows the published fields alone.
    edit(&published.dir, &|record| {
        record.as_object_mut().unwrap().remove("content_digest").unwrap();
        record["last_accessed_at"] = 7.into();
    });
    edit(&newer.dir, &|record| record["format_version"] = 2.into());
    let text = fs::read(torn.dir.join("entry.json")).unwrap();
    fs::write(torn.dir.join("entry.json"), &text[..text.len() / 2]).unwrap();
    assert!(cache.touch(&plain));

    let read: Vec<_> = cache
        .entries_as(|entry| {
            let corrupt = entry.record.state == greentic_dist_types::CacheEntryState::Corrupt;
            (entry.pin, entry.record.size_bytes, cache.last_used(&entry), entry.record.fetched_at, corrupt)
        })
        .unwrap();
    let surveyed: Vec<_> = cache
        .survey_records()
        .unwrap()
        .into_iter()
        .map(|entry| (entry.pin, entry.size_bytes, entry.used_at, entry.fetched_at, entry.corrupt))
        .collect();
    assert_eq!(surveyed, read);
    assert_eq!(surveyed.len(), 6);
    assert_eq!(surveyed.iter().filter(|(.., corrupt)| *corrupt).count(), 1);
}

#[test]
fn a_collection_knows_the_size_of_what_stays() {
    let cache = cache();
    let kept = [b"one".as_slice(), b"three", b"fifteen bytes.."].map(|bytes| publish_content(&cache, bytes));
    let gone = publish_content(&cache, b"to be damaged");
    assert_eq!(cache.count().unwrap(), 36);
    let damaged = gone.dir.join("component.wasm");
    fs::remove_file(&damaged).unwrap();
    fs::create_dir(&damaged).unwrap();
    let later = later(&cache, DAY);
    assert_eq!(later.gc().unwrap().removed, [gone.pin]);
    assert_eq!(later.known_total().unwrap(), 23);
    // Also of one that is too large to prove itself, and is young.
    fs::remove_file(&kept[0].path).unwrap();
    fs::write(&kept[0].path, b"longer").unwrap();
    assert_eq!(cache.gc().unwrap().removed, []);
    assert_eq!(cache.known_total().unwrap(), cache.count().unwrap());
}
