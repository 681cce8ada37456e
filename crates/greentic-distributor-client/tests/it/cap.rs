//! The cap: kept by every call that brings something, and never at the cost of what is in use.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::{Arc, Mutex};

use greentic_distributor_client::dist::{DistClient, DistOptions, Event, Reporter, ResolvedArtifact};

use crate::retention::{edit, fetch, put_bundle, record_path};
use crate::support::Home;

fn capped(home: &Home, cap: u64) -> DistClient {
    DistClient::new(DistOptions { cache_max_bytes: cap, ..home.options() })
}

fn digests(artifacts: &[&ResolvedArtifact]) -> Vec<String> {
    let mut digests: Vec<String> = artifacts.iter().map(|artifact| artifact.digest.clone()).collect();
    digests.sort();
    digests
}

/// Collects warnings.
#[derive(Default)]
pub(crate) struct Warnings(pub(crate) Mutex<Vec<String>>);

impl Reporter for Warnings {
    fn event(&self, event: &Event<'_>) {
        if let Event::Warning { message } = event {
            self.0.lock().unwrap().push((*message).to_owned());
        }
    }
}

#[tokio::test]
async fn when_a_fetch_returns_the_oldest_are_gone_and_the_fetched_one_is_there() {
    let home = Home::new();
    let client = capped(&home, 8);
    let first = fetch(&home, &client, "first").await;
    let second = fetch(&home, &client, "second").await;
    assert_eq!(client.list_cache(), digests(&[&second]));
    assert!(!first.local_path.exists() && second.local_path.exists());
    // Also when it does not fit by itself.
    let tight = capped(&home, 3);
    let third = fetch(&home, &tight, "third").await;
    assert_eq!(client.list_cache(), digests(&[&third]));
    assert!(fs::read_dir(home.cache().join("trash")).unwrap().next().is_none());
}

#[tokio::test]
async fn without_a_cap_nothing_goes_and_nothing_is_counted() {
    let home = Home::new();
    let client = capped(&home, 0);
    for name in ["a", "b", "c"] {
        fetch(&home, &client, name).await;
    }
    assert_eq!(client.list_cache().len(), 3);
    assert!(!home.cache().join("usage").exists());
}

#[tokio::test]
async fn the_one_that_was_unused_longest_goes_first() {
    let home = Home::new();
    let client = capped(&home, 24);
    let first = fetch(&home, &client, "a").await;
    let second = fetch(&home, &client, "b").await;
    let third = fetch(&home, &client, "c").await;
    // At once, and still told apart.
    client.open_cached(&first.digest).unwrap();
    let fourth = fetch(&home, &client, "d").await;
    assert_eq!(client.list_cache(), digests(&[&first, &third, &fourth]), "the second was unused longest");
    assert!(!second.local_path.exists());
    let fifth = fetch(&home, &client, "e").await;
    assert_eq!(client.list_cache(), digests(&[&first, &fourth, &fifth]));
}

#[tokio::test]
async fn a_cap_far_from_reached_evicts_nothing() {
    let home = Home::new();
    let client = capped(&home, 24);
    let kept = [fetch(&home, &client, "a").await, fetch(&home, &client, "b").await, fetch(&home, &client, "c").await];
    assert_eq!(client.list_cache(), digests(&kept.each_ref()), "exactly the cap is within it");
}

#[tokio::test]
async fn what_bundles_stand_on_stays_although_the_cap_is_passed() {
    for state in ["Staged", "Warming", "Ready", "Draining"] {
        let home = Home::new();
        let client = capped(&home, 1);
        let one = fetch(&home, &client, "one").await;
        put_bundle(&home, &one, state);
        let two = fetch(&home, &client, "two").await;
        put_bundle(&home, &two, state);
        let three = fetch(&home, &client, "three").await;
        assert_eq!(client.list_cache(), digests(&[&one, &two, &three]), "{state}");
        let four = fetch(&home, &client, "four").await;
        assert_eq!(client.list_cache(), digests(&[&one, &two, &four]), "{state}");
        assert!(record_path(&home, &one.digest).exists() && record_path(&home, &two.digest).exists());
    }
}

#[tokio::test]
async fn an_inactive_bundle_goes_with_its_record_even_if_it_was_opened_just_now() {
    let home = Home::new();
    let client = capped(&home, 4);
    let first = fetch(&home, &client, "first").await;
    client.open_cached(&first.digest).unwrap();
    put_bundle(&home, &first, "Inactive");
    let second = fetch(&home, &client, "second").await;
    assert_eq!(client.list_cache(), digests(&[&second]));
    assert!(!record_path(&home, &first.digest).exists());
}

#[tokio::test]
async fn while_a_bundle_record_cannot_be_read_nothing_is_evicted_and_the_fetch_succeeds() {
    let home = Home::new();
    let warnings = Arc::new(Warnings::default());
    let options = DistOptions { cache_max_bytes: 8, ..home.options() };
    let client = DistClient::builder().options(options).reporter(Arc::clone(&warnings) as _).build();
    let one = fetch(&home, &client, "one").await;
    put_bundle(&home, &one, "Inactive");
    let path = record_path(&home, &one.digest);
    for torn in ["", "{", "{\"bundle_id\": 7}"] {
        fs::write(&path, torn).unwrap();
        let before = client.list_cache().len();
        fetch(&home, &client, &format!("n{before}")).await;
        assert_eq!(client.list_cache().len(), before + 1);
        let said = warnings.0.lock().unwrap().pop().unwrap();
        assert!(said.contains("not kept to its cap") && said.contains(path.to_str().unwrap()), "{said}");
    }
    // A directory of records that is none protects everything, too.
    let bundles = path.parent().unwrap();
    fs::remove_dir_all(bundles).unwrap();
    fs::write(bundles, b"").unwrap();
    fetch(&home, &client, "more").await;
    assert_eq!(client.list_cache().len(), 5);
    // What is no record by its name is no reason.
    fs::remove_file(bundles).unwrap();
    fs::create_dir(bundles).unwrap();
    fs::write(bundles.join(".DS_Store"), b"x").unwrap();
    let last = fetch(&home, &client, "last").await;
    assert_eq!(client.list_cache(), digests(&[&last]));
}

#[tokio::test]
async fn an_entry_that_was_opened_a_moment_ago_stays_and_goes_when_that_is_long_ago() {
    let home = Home::new();
    let client = capped(&home, 8);
    let one = fetch(&home, &client, "one").await;
    let opened = home.client().open_cached(&one.digest).unwrap();
    let two = fetch(&home, &client, "two").await;
    assert_eq!(client.list_cache(), digests(&[&one, &two]));
    assert!(opened.local_path.exists());
    let six_minutes_ago = std::time::SystemTime::now() - std::time::Duration::from_mins(6);
    let marker = one.local_path.with_file_name("last_used");
    let record = fs::metadata(one.local_path.with_file_name("entry.json")).unwrap().modified().unwrap();
    let times = fs::FileTimes::new().set_modified(six_minutes_ago).set_accessed(record);
    fs::File::options().write(true).open(marker).unwrap().set_times(times).unwrap();
    let three = fetch(&home, &client, "three").await;
    assert_eq!(client.list_cache(), digests(&[&three]));
}

#[tokio::test]
async fn a_leased_entry_and_one_that_is_worked_on_stay_and_others_go_for_them() {
    let home = Home::new();
    let client = capped(&home, 16);
    let (leased, locked) = (fetch(&home, &client, "leased").await, fetch(&home, &client, "locked").await);
    let lease = client.lease(&leased.digest).unwrap();
    // The lease opened it; it is old all the same.
    edit(&leased, &[("last_accessed_at", 1.into())]);
    let store = greentic_dist_store::Store::new(home.cache());
    let lock = store.try_lock(&locked.digest.parse().unwrap()).unwrap().unwrap();
    let third = fetch(&home, &client, "third").await;
    assert_eq!(client.list_cache(), digests(&[&leased, &locked, &third]));
    let fourth = fetch(&home, &client, "fourth").await;
    assert_eq!(client.list_cache(), digests(&[&leased, &locked, &fourth]));
    drop((lease, lock));
    let fifth = fetch(&home, &client, "fifth").await;
    assert_eq!(client.list_cache(), digests(&[&fourth, &fifth]));
}

#[tokio::test]
async fn a_pull_of_many_returns_with_all_of_them_there() {
    let home = Home::new();
    let client = capped(&home, 16);
    let older = fetch(&home, &client, "older").await;
    let references: Vec<String> = (0..8)
        .map(|number| {
            let path = home.path().join(format!("many{number}"));
            fs::write(&path, format!("many{number}...")).unwrap();
            path.to_str().unwrap().to_owned()
        })
        .collect();
    let pulled: Vec<ResolvedArtifact> = client.pull_all(&references).await.into_iter().map(Result::unwrap).collect();
    assert!(pulled.iter().all(|artifact| artifact.local_path.exists()));
    assert!(!older.local_path.exists());
    // The next call finds them a burden like any other.
    fetch(&home, &client, "next").await;
    assert_eq!(client.list_cache().len(), 2);
}

#[tokio::test]
async fn corrupt_entries_and_those_that_can_never_open_go_before_good_ones() {
    let home = Home::new();
    let client = capped(&home, 24);
    let good = fetch(&home, &client, "good").await;
    let corrupt = fetch(&home, &client, "corrupt").await;
    let hopeless = fetch(&home, &client, "hopeless").await;
    edit(&corrupt, &[("state", "Corrupt".into())]);
    // The record of another entry, put there long ago.
    edit(&hopeless, &[("digest", good.digest.clone().into())]);
    let dir = hopeless.local_path.parent().unwrap();
    let long_ago = std::time::SystemTime::now() - std::time::Duration::from_hours(1);
    fs::File::open(dir).unwrap().set_modified(long_ago).unwrap();
    let last = fetch(&home, &client, "last").await;
    assert_eq!(client.list_cache(), digests(&[&good, &last]));
}

#[tokio::test]
async fn a_running_total_that_is_lost_or_wrong_never_decides_what_goes() {
    let home = Home::new();
    let client = capped(&home, 24);
    let usage = home.cache().join("usage");
    let (first, second) = (fetch(&home, &client, "a").await, fetch(&home, &client, "b").await);
    let said = fs::read_to_string(&usage).unwrap();
    assert!(said.starts_with("1 00000000000000000016 "), "{said}");
    // Far too much, garbage, nothing, a link: the entries are counted, and none has to go.
    let outside = home.outside().join("usage");
    for wrong in ["1 99999999999999999999 001790000000\n", "1 00000000000000999999 999999999999\n", "garbage", ""] {
        fs::write(&usage, wrong).unwrap();
        let third = fetch(&home, &client, "c").await;
        assert_eq!(client.list_cache(), digests(&[&first, &second, &third]), "{wrong:?}");
        client.remove(std::slice::from_ref(&third.digest)).unwrap();
    }
    fs::remove_file(&usage).unwrap();
    std::os::unix::fs::symlink(&outside, &usage).unwrap();
    let third = fetch(&home, &client, "c").await;
    assert_eq!(client.list_cache(), digests(&[&first, &second, &third]));
    assert!(!outside.exists());
    fs::remove_file(&usage).unwrap();
    // Too little: noticed late, and then right.
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    fs::write(&usage, format!("1 00000000000000000000 {now:012}\n")).unwrap();
    fs::set_permissions(&usage, fs::Permissions::from_mode(0o600)).unwrap();
    let fourth = fetch(&home, &client, "d").await;
    assert_eq!(client.list_cache(), digests(&[&first, &second, &third, &fourth]));
    for name in ["e", "f"] {
        fetch(&home, &client, name).await;
    }
    let last = fetch(&home, &client, "g").await;
    assert_eq!(client.list_cache().len(), 3);
    assert!(last.local_path.exists());
    // A count a week old is no count.
    fs::write(&usage, format!("1 00000000000000000000 {:012}\n", now - 8 * 24 * 3600)).unwrap();
    fetch(&home, &client, "h").await;
    assert_eq!(client.list_cache().len(), 3);
}

#[tokio::test]
async fn the_total_follows_what_comes_and_goes() {
    let home = Home::new();
    let client = capped(&home, 1 << 20);
    let usage = || {
        let text = fs::read_to_string(home.cache().join("usage")).unwrap();
        text.split(' ').nth(1).unwrap().parse::<u64>().unwrap()
    };
    let a = fetch(&home, &client, "a").await;
    let b = fetch(&home, &client, "b").await;
    assert_eq!(usage(), 16);
    fetch(&home, &client, "b").await;
    assert_eq!(usage(), 16, "a hit brings nothing");
    client.remove(std::slice::from_ref(&a.digest)).unwrap();
    assert_eq!(usage(), 8);
    // A damaged one is replaced, and put aside.
    fs::remove_file(&b.local_path).unwrap();
    fs::write(&b.local_path, b"wrong").unwrap();
    fetch(&home, &client, "b").await;
    assert_eq!(usage(), 11, "the wrong bytes are smaller than the right ones were");
    fs::remove_dir_all(b.local_path.parent().unwrap()).unwrap();
    client.gc().unwrap();
    assert_eq!(usage(), 0, "a collection counts");
}

#[tokio::test]
async fn a_cache_of_many_entries_makes_room_for_more_than_one() {
    let home = Home::new();
    let client = capped(&home, 70 * 8);
    for number in 0..70 {
        fetch(&home, &client, &format!("f{number}")).await;
    }
    assert_eq!(client.list_cache().len(), 70);
    let last = fetch(&home, &client, "last").await;
    assert_eq!(client.list_cache().len(), 65, "a sixteenth of the cap is free");
    assert!(last.local_path.exists());
    fetch(&home, &client, "one more").await;
    assert_eq!(client.list_cache().len(), 66, "nothing had to go");
}
