//! Endpoints that lied are left alone by later processes, for ten minutes, whatever happens to the file that says so.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use greentic_dist_store::{Clock, Store, StoreErrorKind, StoreOptions};
use serde_json::{Value, json};

use crate::child::Child;
use crate::support::*;

const MIRROR: &str = "http://rack7.mirror.example:5000";
const NOW: u64 = 1_790_000_000;
const TEN_MINUTES: Duration = Duration::from_mins(10);

fn at(root: &Path, unix_seconds: u64) -> Store {
    let now: SystemTime = UNIX_EPOCH + Duration::from_secs(unix_seconds);
    Store::with_options(root, StoreOptions { clock: Clock::fixed(now), ..unsynced() })
}

fn file_of(root: &Path) -> PathBuf {
    root.join("state").join("endpoints.json")
}

fn read(root: &Path) -> Value {
    serde_json::from_slice(&fs::read(file_of(root)).unwrap()).unwrap()
}

fn write(root: &Path, text: &str) {
    fs::create_dir_all(root.join("state")).unwrap();
    fs::write(file_of(root), text).unwrap();
}

#[test]
fn an_endpoint_is_left_alone_until_its_time_is_over() {
    let cache = cache();
    let root = cache.root();
    assert_eq!(at(root, NOW).quarantined_endpoints().unwrap(), []);
    assert!(!root.exists(), "nothing is made to look");
    at(root, NOW).quarantine_endpoint(MIRROR, TEN_MINUTES).unwrap();
    for (later, left) in [(0, 600), (1, 599), (599, 1)] {
        let known = at(root, NOW + later).quarantined_endpoints().unwrap();
        assert_eq!(known, [(MIRROR.to_owned(), Duration::from_secs(left))]);
    }
    assert_eq!(at(root, NOW + 600).quarantined_endpoints().unwrap(), []);
    at(root, NOW + 600).quarantine_endpoint("https://b.example", TEN_MINUTES).unwrap();
    let expected = json!({"format_version": 1, "endpoints": [{"endpoint": "https://b.example", "quarantined_until": NOW + 1_200}]});
    assert_eq!(read(root), expected, "what is over is left out");
    for (path, mode) in [(root.join("state"), 0o700), (file_of(root), 0o600)] {
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o7777, mode, "{}", path.display());
    }
    assert_tidy(&cache);
}

#[test]
fn an_end_that_is_farther_away_than_any_is_written_does_not_count() {
    let cache = cache();
    let root = cache.root();
    at(root, NOW).quarantine_endpoint(MIRROR, Duration::from_hours(9_999)).unwrap();
    assert_eq!(at(root, NOW).quarantined_endpoints().unwrap(), [(MIRROR.to_owned(), TEN_MINUTES)]);
    // The clock went back, or somebody wrote what they liked.
    assert_eq!(at(root, NOW - 1).quarantined_endpoints().unwrap(), []);
    write(
        root,
        &json!({"format_version": 1, "endpoints": [{"endpoint": MIRROR, "quarantined_until": u64::MAX}]}).to_string(),
    );
    assert_eq!(at(root, NOW).quarantined_endpoints().unwrap(), []);
    at(root, NOW).quarantine_endpoint(MIRROR, TEN_MINUTES).unwrap();
    assert_eq!(at(root, NOW).quarantined_endpoints().unwrap(), [(MIRROR.to_owned(), TEN_MINUTES)]);
}

#[test]
fn what_is_no_such_file_is_as_good_as_empty_and_written_anew() {
    let cache = cache();
    let store = at(cache.root(), NOW);
    store.quarantine_endpoint(MIRROR, TEN_MINUTES).unwrap();
    let file = file_of(cache.root());
    let whole = fs::read_to_string(&file).unwrap();
    let mut broken: Vec<String> = (0..whole.len() - 2).map(|end| whole[..end].to_owned()).collect();
    broken.extend(["[]", "7", "{\"format_version\":1,\"endpoints\":[{\"endpoint\":7}]}", "\u{0}"].map(str::to_owned));
    broken.push(format!("{whole}{}", " ".repeat(64 << 10)));
    for text in broken {
        fs::write(&file, &text).unwrap();
        assert_eq!(kind(store.quarantined_endpoints()), StoreErrorKind::MalformedRecord, "{text:.80}");
    }
    store.quarantine_endpoint(MIRROR, TEN_MINUTES).unwrap();
    assert_eq!(store.quarantined_endpoints().unwrap().len(), 1);
    let replacements: [fn(&Path); 2] = [make_fifo, |path| std::os::unix::fs::symlink("/dev/zero", path).unwrap()];
    for replace in replacements {
        fs::remove_file(&file).unwrap();
        replace(&file);
        assert_eq!(kind(store.quarantined_endpoints()), StoreErrorKind::MalformedRecord);
        store.quarantine_endpoint(MIRROR, TEN_MINUTES).unwrap();
        assert_eq!(store.quarantined_endpoints().unwrap().len(), 1);
    }
    assert_tidy(&cache);
}

#[test]
fn a_directory_that_leads_elsewhere_is_neither_read_nor_written() {
    let cache = cache();
    let store = at(cache.root(), NOW);
    store.quarantine_endpoint(MIRROR, TEN_MINUTES).unwrap();
    let elsewhere = cache.dir.path().join("elsewhere");
    fs::rename(cache.root().join("state"), &elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, cache.root().join("state")).unwrap();
    let before = tree(&elsewhere);
    assert_eq!(kind(store.quarantined_endpoints()), StoreErrorKind::MalformedRecord);
    assert_eq!(kind(store.quarantine_endpoint("https://b.example", TEN_MINUTES)), StoreErrorKind::NotOurs);
    assert_eq!(tree(&elsewhere), before);
}

#[test]
fn a_newer_version_is_left_alone_and_fields_nobody_knows_are_kept() {
    let cache = cache();
    let store = at(cache.root(), NOW);
    let newer = "{\"format_version\": 2, \"endpoints\": {}}";
    store.quarantine_endpoint(MIRROR, TEN_MINUTES).unwrap();
    write(cache.root(), newer);
    assert_eq!(kind(store.quarantined_endpoints()), StoreErrorKind::NewerFormat);
    assert_eq!(kind(store.quarantine_endpoint(MIRROR, TEN_MINUTES)), StoreErrorKind::NewerFormat);
    assert_eq!(fs::read_to_string(file_of(cache.root())).unwrap(), newer);
    let noted = json!({"format_version": 1, "why": "x", "endpoints": [
        {"endpoint": MIRROR, "quarantined_until": NOW + 9, "seen_by": "a"},
        {"endpoint": "https://b.example", "quarantined_until": NOW + 500, "seen_by": "b"},
    ]});
    write(cache.root(), &noted.to_string());
    store.quarantine_endpoint(MIRROR, TEN_MINUTES).unwrap();
    store.quarantine_endpoint("https://b.example", Duration::from_secs(1)).unwrap();
    let expected = json!({"format_version": 1, "why": "x", "endpoints": [
        {"endpoint": "https://b.example", "quarantined_until": NOW + 500, "seen_by": "b"},
        {"endpoint": MIRROR, "quarantined_until": NOW + 600, "seen_by": "a"},
    ]});
    assert_eq!(read(cache.root()), expected);
}

#[test]
fn no_more_is_kept_than_sixty_four_endpoints_and_sixty_four_kib() {
    let cache = cache();
    let store = at(cache.root(), NOW);
    for number in 1..=70_u64 {
        store.quarantine_endpoint(&format!("https://m{number}.example"), Duration::from_secs(number)).unwrap();
    }
    let known = store.quarantined_endpoints().unwrap();
    assert_eq!((known.len(), known[0].0.as_str()), (64, "https://m7.example"), "the first to end are left out");
    assert_eq!(kind(store.quarantine_endpoint(&"m".repeat(513), TEN_MINUTES)), StoreErrorKind::Io);
    // Fields of somebody else are given up before what counts is.
    let mark = json!({"endpoint": "https://m70.example", "quarantined_until": NOW + 70, "x": "x".repeat(65_000)});
    write(cache.root(), &json!({"format_version": 1, "endpoints": [mark]}).to_string());
    let long = "m".repeat(512);
    store.quarantine_endpoint(&long, TEN_MINUTES).unwrap();
    let known: Vec<String> = store.quarantined_endpoints().unwrap().into_iter().map(|(endpoint, _)| endpoint).collect();
    assert_eq!(known, ["https://m70.example".to_owned(), long]);
    assert!(fs::metadata(file_of(cache.root())).unwrap().len() < 2_000);
}

/// What each of the writers below does.
pub(crate) fn quarantine_ten(store: &Store) {
    let number = std::env::var("STORE_TEST_NUMBER").unwrap();
    for round in 0..10 {
        store.quarantine_endpoint(&format!("https://m{number}-{round}.example"), TEN_MINUTES).unwrap();
    }
}

#[test]
fn writers_of_several_processes_lose_nothing_of_each_other() {
    let cache = cache();
    let mut children: Vec<Child> = (0..4)
        .map(|number| Child::start("quarantine", cache.root(), &[("STORE_TEST_NUMBER", &number.to_string())]))
        .collect();
    for child in &mut children {
        child.finish();
    }
    let mut known: Vec<String> = cache.quarantined_endpoints().unwrap().into_iter().map(|(name, _)| name).collect();
    known.sort();
    let mut expected: Vec<String> =
        (0..4).flat_map(|number| (0..10).map(move |round| format!("https://m{number}-{round}.example"))).collect();
    expected.sort();
    assert_eq!(known, expected);
    assert_tidy(&cache);
}
