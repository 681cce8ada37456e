//! Retention and bundles as hosts stage them.

use std::fs;

use greentic_distributor_client::dist::{
    AccessMode, BundleLifecycleState, CachePolicy, DistClient, DistErrorKind, DistOptions, StageBundleInput,
    StageBundleResult, VerificationPolicy,
};

use crate::retention::{edit, fetch, record_path};
use crate::support::Home;

fn capped(home: &Home, cap: u64) -> DistClient {
    DistClient::new(DistOptions { cache_max_bytes: cap, ..home.options() })
}

async fn stage(home: &Home, client: &DistClient, name: &str) -> StageBundleResult {
    let path = home.path().join(name);
    fs::write(&path, format!("{name:8}")).unwrap();
    let input = StageBundleInput {
        bundle_ref: path.to_str().unwrap().to_owned(),
        requested_access_mode: AccessMode::Userspace,
        verification_policy_ref: "policy".into(),
        cache_policy_ref: "cache".into(),
        tenant: None,
        team: None,
    };
    client.stage_bundle(&input, None, &VerificationPolicy::default(), CachePolicy).await.unwrap()
}

#[tokio::test]
async fn staged_bundles_stay_although_the_cap_is_passed() {
    let home = Home::new();
    let client = capped(&home, 1);
    let (first, second) = (stage(&home, &client, "first").await, stage(&home, &client, "second").await);
    for staged in [&first, &second] {
        assert!(staged.resolved_artifact.local_path.exists());
        assert_eq!(client.stat_bundle(&staged.bundle_id).unwrap().lifecycle_state, BundleLifecycleState::Staged);
    }
    assert_eq!(client.list_bundles().unwrap().len(), 2);
}

#[tokio::test]
async fn an_inactive_bundle_makes_room_for_the_next_one_with_its_record() {
    let home = Home::new();
    let client = capped(&home, 4);
    let first = stage(&home, &client, "first").await;
    client.set_bundle_state(&first.bundle_id, BundleLifecycleState::Inactive).unwrap();
    let second = stage(&home, &client, "second").await;
    assert_eq!(client.stat_bundle(&first.bundle_id).unwrap_err().kind(), DistErrorKind::NotFound);
    assert!(!first.resolved_artifact.local_path.exists() && second.resolved_artifact.local_path.exists());
    // By way of every state that protects, and back.
    for state in [BundleLifecycleState::Warming, BundleLifecycleState::Ready, BundleLifecycleState::Draining] {
        client.set_bundle_state(&second.bundle_id, state).unwrap();
        fetch(&home, &client, "third").await;
        assert!(second.resolved_artifact.local_path.exists(), "{state:?}");
    }
    client.set_bundle_state(&second.bundle_id, BundleLifecycleState::Inactive).unwrap();
    fetch(&home, &client, "fourth").await;
    assert!(client.list_bundles().unwrap().is_empty());
}

#[tokio::test]
async fn evicting_a_staged_bundle_by_name_takes_its_record() {
    let home = Home::new();
    let client = home.client();
    let staged = stage(&home, &client, "one").await;
    edit(&staged.resolved_artifact, &[("last_accessed_at", 1.into())]);
    let report = client.evict_cache(std::slice::from_ref(&staged.descriptor.digest)).unwrap();
    assert_eq!((report.evicted, report.refusals.len()), (1, 0));
    assert_eq!(client.stat_bundle(&staged.bundle_id).unwrap_err().kind(), DistErrorKind::NotFound);
}

#[tokio::test]
async fn collecting_returns_exactly_the_bundle_whose_entry_was_deleted() {
    let home = Home::new();
    let client = home.client();
    let staged = stage(&home, &client, "one").await;
    fs::remove_dir_all(staged.resolved_artifact.local_path.parent().unwrap()).unwrap();
    assert_eq!(client.gc().unwrap(), std::slice::from_ref(&staged.descriptor.digest));
    assert!(client.list_bundles().unwrap().is_empty());
    assert!(!record_path(&home, &staged.descriptor.digest).exists());
}

#[tokio::test]
async fn the_input_of_retention_lists_bundles_by_their_state() {
    let home = Home::new();
    let client = home.client();
    let mut ids = Vec::new();
    for (name, state) in [
        ("staged", BundleLifecycleState::Staged),
        ("warming", BundleLifecycleState::Warming),
        ("ready", BundleLifecycleState::Ready),
        ("draining", BundleLifecycleState::Draining),
        ("inactive", BundleLifecycleState::Inactive),
    ] {
        let staged = stage(&home, &client, name).await;
        client.set_bundle_state(&staged.bundle_id, state).unwrap();
        ids.push(vec![staged.bundle_id]);
    }
    let mut input = client.retention_input().unwrap();
    let lists =
        [&input.staged_bundle_ids, &input.warming_bundle_ids, &input.ready_bundle_ids, &input.draining_bundle_ids];
    assert_eq!(lists, [&ids[0], &ids[1], &ids[2], &ids[3]]);
    input.max_cache_bytes = 1;
    let outcome = client.apply_retention(&input).unwrap();
    assert_eq!((outcome.report.evicted, outcome.report.protected), (1, 4));
    assert_eq!(client.list_bundles().unwrap().len(), 4);
}
