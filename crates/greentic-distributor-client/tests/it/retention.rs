//! Retention: what is decided, what is taken away, and what is never.

use std::fs;
use std::path::PathBuf;

use greentic_dist_store::Store;
use greentic_dist_testkit::TreeSnapshot;
use greentic_dist_types::Digest;
use greentic_distributor_client::dist::DistErrorKind::{InvalidInput, NotFound, Temporary};
use greentic_distributor_client::dist::{
    CacheEntryState, DistClient, RemoveOptions, ResolvedArtifact, RetentionDisposition, RetentionInput, RetentionReport,
};

use crate::support::{Home, assert_fails, chain, failure};

/// Fetches a file of eight bytes that starts with `name`.
pub(crate) async fn fetch(home: &Home, client: &DistClient, name: &str) -> ResolvedArtifact {
    let path = home.path().join(name);
    fs::write(&path, format!("{name:8}")).unwrap();
    client.resolve_ref(path.to_str().unwrap()).await.unwrap()
}

/// The path of the record of an artifact's bundle.
pub(crate) fn record_path(home: &Home, digest: &str) -> PathBuf {
    home.cache().join("bundles").join(format!("bundle__{}.json", digest.replace(':', "__")))
}

/// Writes a record as a host that stages does.
pub(crate) fn put_bundle(home: &Home, artifact: &ResolvedArtifact, state: &str) {
    let record = serde_json::json!({
        "bundle_id": format!("bundle:{}", artifact.digest), "cache_key": artifact.digest,
        "canonical_ref": "x", "source_kind": "File", "fetched_at": 1, "lifecycle_state": state,
    });
    let path = record_path(home, &artifact.digest);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, record.to_string()).unwrap();
}

/// Changes fields of the record of an entry behind everybody's back.
pub(crate) fn edit(artifact: &ResolvedArtifact, fields: &[(&str, serde_json::Value)]) {
    let path = artifact.local_path.with_file_name("entry.json");
    let mut record: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    for (name, value) in fields {
        record[name] = value.clone();
    }
    fs::write(path, serde_json::to_vec_pretty(&record).unwrap()).unwrap();
}

fn codes(client: &DistClient, input: &RetentionInput) -> Vec<(String, String)> {
    let outcome = client.evaluate_retention(input).unwrap();
    outcome.decisions.into_iter().map(|decision| (decision.cache_key, decision.reason_code)).collect()
}

#[tokio::test]
async fn decisions_follow_what_is_edited_on_disk() {
    let home = Home::new();
    let client = home.client();
    let (old, new, wrong) =
        (fetch(&home, &client, "old").await, fetch(&home, &client, "new").await, fetch(&home, &client, "wrong").await);
    // Opened just now, and edited after that: the edit is what counts.
    client.open_cached(&old.digest).unwrap();
    edit(&old, &[("last_accessed_at", 1.into())]);
    edit(&wrong, &[("state", "Corrupt".into())]);
    let input = RetentionInput { max_cache_bytes: 8, max_entry_age: Some(3600), ..client.retention_input().unwrap() };
    let before = TreeSnapshot::of(&home.cache());
    let mut expected = vec![
        (old.digest.clone(), "max_age_exceeded".to_owned()),
        (new.digest, "within_policy".to_owned()),
        (wrong.digest, "corrupt_entry".to_owned()),
    ];
    expected.sort();
    assert_eq!(codes(&client, &input), expected);
    before.assert_unchanged(&home.cache());
}

#[tokio::test]
async fn what_is_evicted_takes_its_bundle_record_with_it() {
    let home = Home::new();
    let client = home.client();
    for state in ["Inactive", "Staged"] {
        let (one, two) = (fetch(&home, &client, "one").await, fetch(&home, &client, "two").await);
        put_bundle(&home, &one, state);
        edit(&one, &[("last_accessed_at", 1.into())]);
        let mut input = client.retention_input().unwrap();
        // The caller gives it up.
        input.staged_bundle_ids.clear();
        input.max_entry_age = Some(60);
        let outcome = client.apply_retention(&input).unwrap();
        let expected = RetentionReport {
            scanned_entries: 2,
            kept: 1,
            evicted: 1,
            protected: 0,
            bytes_reclaimed: 8,
            refusals: Vec::new(),
        };
        assert_eq!(outcome.report, expected, "{state}");
        assert!(!record_path(&home, &one.digest).exists() && !one.local_path.exists());
        assert_eq!(client.list_cache(), [two.digest]);
        assert!(fs::read_dir(home.cache().join("trash")).unwrap().next().is_none());
        assert_eq!(client.apply_retention(&client.retention_input().unwrap()).unwrap().report.evicted, 0);
    }
}

#[tokio::test]
async fn a_bundle_in_use_is_refused_by_name_whether_or_not_the_caller_lists_it() {
    let home = Home::new();
    let client = home.client();
    for state in ["Warming", "Ready", "Draining"] {
        let one = fetch(&home, &client, "one").await;
        put_bundle(&home, &one, state);
        edit(&one, &[("last_accessed_at", 1.into())]);
        let listed = RetentionInput { max_entry_age: Some(60), ..client.retention_input().unwrap() };
        let outcome = client.apply_retention(&listed).unwrap();
        assert_eq!(outcome.decisions[0].decision, RetentionDisposition::Protect);
        assert_eq!((outcome.report.evicted, outcome.report.protected), (0, 1));
        let unlisted = RetentionInput {
            warming_bundle_ids: Vec::new(),
            ready_bundle_ids: Vec::new(),
            draining_bundle_ids: Vec::new(),
            ..listed
        };
        let outcome = client.apply_retention(&unlisted).unwrap();
        assert_eq!((outcome.report.evicted, &outcome.report.refusals), (0, &vec![one.digest.clone()]), "{state}");
        assert!(one.local_path.exists() && record_path(&home, &one.digest).exists());
    }
}

#[tokio::test]
async fn an_entry_whose_bundle_record_cannot_be_read_is_refused_and_the_record_left_alone() {
    let home = Home::new();
    let client = home.client();
    let one = fetch(&home, &client, "one").await;
    put_bundle(&home, &one, "Inactive");
    let input = RetentionInput { max_cache_bytes: 1, ..client.retention_input().unwrap() };
    fs::write(record_path(&home, &one.digest), b"{").unwrap();
    let outcome = client.apply_retention(&input).unwrap();
    assert_eq!((outcome.report.evicted, outcome.report.refusals), (0, vec![one.digest.clone()]));
    let report = client.evict_cache(std::slice::from_ref(&one.digest)).unwrap();
    assert_eq!((report.evicted, report.kept, report.refusals.len()), (0, 1, 1));
    assert!(one.local_path.exists());
    assert_eq!(fs::read(record_path(&home, &one.digest)).unwrap(), b"{");
    // And nobody can say what it protects.
    let text = chain(&failure(client.retention_input()));
    assert!(text.contains(record_path(&home, &one.digest).to_str().unwrap()), "{text}");
}

#[tokio::test]
async fn nothing_is_deleted_by_a_digest_that_a_record_claims() {
    let home = Home::new();
    let client = home.client();
    let (one, victim) = (fetch(&home, &client, "one").await, fetch(&home, &client, "victim").await);
    let outside = TreeSnapshot::of(&home.outside());
    for claimed in [victim.digest.as_str(), "sha256:xx/../../outside", "", "sha256:../outside"] {
        edit(&one, &[("cache_key", claimed.into()), ("digest", claimed.into()), ("state", "Corrupt".into())]);
        let input = RetentionInput { max_cache_bytes: 8, ..client.retention_input().unwrap() };
        // The entry is no entry any more; the other one fits.
        let outcome = client.apply_retention(&input).unwrap();
        assert_eq!((outcome.report.scanned_entries, outcome.report.evicted), (1, 0), "{claimed:?}");
        assert!(victim.local_path.exists());
    }
    // A caller that hands such keys on gets them back.
    let mut input = client.retention_input().unwrap();
    (input.max_cache_bytes, input.entries[0].cache_key) = (1, "sha256:xx/../../outside".into());
    let outcome = client.apply_retention(&input).unwrap();
    assert_eq!(outcome.report.refusals, ["sha256:xx/../../outside"]);
    assert!(victim.local_path.exists());
    outside.assert_unchanged(&home.outside());
}

#[tokio::test]
async fn an_entry_that_is_gone_already_is_named() {
    let home = Home::new();
    let client = home.client();
    let one = fetch(&home, &client, "one").await;
    let input = RetentionInput { max_cache_bytes: 1, ..client.retention_input().unwrap() };
    fs::remove_dir_all(one.local_path.parent().unwrap()).unwrap();
    let report = client.apply_retention(&input).unwrap().report;
    assert_eq!((report.evicted, report.bytes_reclaimed, report.refusals), (0, 0, vec![one.digest]));
}

#[tokio::test]
async fn what_is_worked_on_or_leased_stays_and_is_named() {
    let home = Home::new();
    let client = home.client();
    let (one, two) = (fetch(&home, &client, "one").await, fetch(&home, &client, "two").await);
    let store = Store::new(home.cache());
    let lock = store.try_lock(&one.digest.parse().unwrap()).unwrap().unwrap();
    let lease = client.lease(&two.digest).unwrap();
    let second = home.client().lease(&two.digest).unwrap();
    assert_eq!(lease.artifact().local_path, two.local_path);
    let input = RetentionInput { max_cache_bytes: 1, ..client.retention_input().unwrap() };
    let mut refused = client.apply_retention(&input).unwrap().report.refusals;
    refused.sort();
    let mut both = vec![one.digest.clone(), two.digest.clone()];
    both.sort();
    assert_eq!(refused, both);
    for digest in &both {
        let report = client.evict_cache(std::slice::from_ref(digest)).unwrap();
        assert_eq!((report.evicted, report.kept, report.protected), (0, 1, 0));
        assert_eq!(&report.refusals, std::slice::from_ref(digest));
        assert_fails(client.remove_cached(std::slice::from_ref(digest)), Temporary, 7);
    }
    drop(lease);
    assert_eq!(client.evict_cache(std::slice::from_ref(&two.digest)).unwrap().evicted, 0, "the other lease holds");
    drop((lock, second));
    assert_eq!(client.apply_retention(&input).unwrap().report.evicted, 2);
    assert!(fs::read_dir(home.cache().join("locks")).unwrap().next().is_none());
    assert_fails(client.lease(&two.digest), NotFound, 3);
}

#[tokio::test]
async fn evicting_by_name_takes_entries_of_the_same_second_and_says_exactly_what_it_did() {
    let home = Home::new();
    let client = home.client();
    let (one, two) = (fetch(&home, &client, "one").await, fetch(&home, &client, "two").await);
    put_bundle(&home, &one, "Staged");
    let unknown = Digest::sha256(b"unknown").to_string();
    let report = client.evict_cache(&[one.digest.clone(), unknown, one.digest.clone()]).unwrap();
    let expected = RetentionReport {
        scanned_entries: 3,
        kept: 0,
        evicted: 1,
        protected: 0,
        bytes_reclaimed: 8,
        refusals: Vec::new(),
    };
    assert_eq!(report, expected);
    assert!(!one.local_path.exists() && !record_path(&home, &one.digest).exists());
    let before = TreeSnapshot::of(&home.cache());
    for bad in ["", "/", "../x", "sha256:..", home.sentinel().to_str().unwrap()] {
        let digests = [two.digest.clone(), bad.to_owned()];
        assert_fails(client.evict_cache(&digests), InvalidInput, 2);
        assert_fails(client.remove_cached(&digests), InvalidInput, 2);
    }
    before.assert_unchanged(&home.cache());
    assert_eq!(fs::read(home.sentinel()).unwrap(), b"do not touch\n");
}

#[tokio::test]
async fn a_bundle_in_use_is_evicted_by_force_alone() {
    let home = Home::new();
    let client = home.client();
    let one = fetch(&home, &client, "one").await;
    let named = std::slice::from_ref(&one.digest);
    put_bundle(&home, &one, "Ready");
    let refused = client.evict_cache(named).unwrap();
    assert_eq!((refused.evicted, refused.kept, refused.protected), (0, 1, 1));
    assert_eq!(refused.refusals, named);
    let before = TreeSnapshot::of(&home.cache());
    for (force, evicted) in [(false, 0), (true, 1)] {
        let said = client.remove_with(named, RemoveOptions { force, dry_run: true }).unwrap();
        assert_eq!(
            (said.evicted, said.refusals.len(), said.bytes_reclaimed),
            (evicted, 1 - evicted, 8 * evicted as u64)
        );
        before.assert_unchanged(&home.cache());
    }
    let forced = client.remove_with(named, RemoveOptions { force: true, dry_run: false }).unwrap();
    assert_eq!((forced.evicted, forced.bytes_reclaimed), (1, 8));
    assert!(!one.local_path.exists() && !record_path(&home, &one.digest).exists());
}

#[tokio::test]
async fn a_record_whose_entry_was_deleted_is_collected_and_reported() {
    let home = Home::new();
    let client = home.client();
    let (one, two) = (fetch(&home, &client, "one").await, fetch(&home, &client, "two").await);
    for artifact in [&one, &two] {
        put_bundle(&home, artifact, "Staged");
    }
    // Stray files are nobody's business, and a malformed record is for a person.
    let stray = home.cache().join("bundles/.DS_Store");
    let torn = home.cache().join("bundles/notes.json");
    fs::write(&stray, b"x").unwrap();
    fs::write(&torn, b"{").unwrap();
    fs::remove_dir_all(one.local_path.parent().unwrap()).unwrap();
    let before = TreeSnapshot::of(&home.cache());
    assert_eq!(client.gc_dry_run().unwrap(), std::slice::from_ref(&one.digest));
    before.assert_unchanged(&home.cache());
    assert_eq!(client.gc().unwrap(), std::slice::from_ref(&one.digest));
    assert!(!record_path(&home, &one.digest).exists() && record_path(&home, &two.digest).exists());
    assert!(stray.exists() && torn.exists());
    assert!(client.gc().unwrap().is_empty());
}

#[tokio::test]
async fn an_artifact_that_two_entries_share_is_not_counted_as_given_back() {
    let (home, registry) = (Home::new(), crate::support::registry());
    let client = home.client();
    let one = client.resolve_ref(&registry.reference()).await.unwrap();
    let store = Store::new(home.cache());
    let entry = store.stat(&one.digest.parse().unwrap()).unwrap().unwrap();
    fs::hard_link(&entry.path, home.path().join("shared")).unwrap();
    let report = client.evict_cache(std::slice::from_ref(&one.digest)).unwrap();
    assert_eq!((report.evicted, report.bytes_reclaimed), (1, 0));
}

#[tokio::test]
async fn the_last_use_of_an_entry_is_when_it_was_last_opened() {
    let home = Home::new();
    let client = home.client();
    let one = fetch(&home, &client, "one").await;
    edit(&one, &[("last_accessed_at", 1.into()), ("fetched_at", 1.into())]);
    assert_eq!(client.stat_cache(&one.digest).unwrap().last_accessed_at, 1);
    client.open_cached(&one.digest).unwrap();
    let seen = client.stat_cache(&one.digest).unwrap();
    assert!(seen.last_accessed_at > 1_700_000_000);
    assert_eq!((seen.fetched_at, seen.state), (1, CacheEntryState::Ready));
    assert_eq!(client.list_cache_entries(), [seen]);
}
