//! `pull_lock`: a list of references, each exactly what was locked.

use std::fs;
use std::path::PathBuf;

use greentic_dist_testkit::fixture::{self, WASM_TYPE};
use greentic_distributor_client::dist::DistErrorKind::{Integrity, InvalidInput, LockOutOfDate, NotFound, Offline};
use greentic_distributor_client::dist::{DistClient, DistError, LockMode, LockPull};
use serde_json::{Value, json};

use crate::support::{Home, assert_delivers, assert_fails, chain, other, registry, sample};

/// A lock file in a directory of its own beside the cache.
fn lock(home: &Home, content: &Value) -> PathBuf {
    lock_text(home, &content.to_string())
}

fn lock_text(home: &Home, text: &str) -> PathBuf {
    let dir = home.path().join("project");
    fs::create_dir_all(&dir).unwrap();
    let path = dir.join("pack.lock.json");
    fs::write(&path, text).unwrap();
    path
}

/// The artifacts' pins, in order.
async fn pins(client: &DistClient, path: &std::path::Path) -> Vec<String> {
    client.pull_lock(path).await.unwrap().into_iter().map(|artifact| artifact.digest).collect()
}

/// `ok`, or the exit code, of every item.
fn outcomes(pulled: &LockPull) -> Vec<Result<String, i32>> {
    let outcome = |result: &Result<_, std::sync::Arc<DistError>>| match result {
        Ok(artifact) => Ok(greentic_distributor_client::ResolvedArtifact::content_digest(artifact)),
        Err(error) => Err(error.exit_code()),
    };
    pulled.items.iter().map(|item| outcome(&item.result)).collect()
}

#[tokio::test]
async fn every_shape_of_entry_is_pulled_in_file_order() {
    let (home, registry) = (Home::new(), registry());
    registry.publish(&other(2), "2");
    let file = home.path().join("project").join("local.wasm");
    let path = lock(
        &home,
        &json!({ "schema_version": 1, "components": [
            { "name": "two", "ref": registry.reference_to("2"), "digest": other(2).manifest_digest },
            format!("oci://{}", registry.reference()),
            { "reference": "./local.wasm" },
            { "reference": registry.pinned() },
            file.to_str().unwrap(),
        ]}),
    );
    fs::write(&file, b"\0asm local").unwrap();
    let artifacts = home.client().pull_lock(&path).await.unwrap();
    assert_delivers(&artifacts[0], &other(2));
    assert_delivers(&artifacts[1], &sample());
    assert_eq!(artifacts[2].wasm_bytes().unwrap(), b"\0asm local");
    assert_eq!(artifacts[3].digest, artifacts[1].digest);
    assert_eq!(artifacts[4].digest, artifacts[2].digest);
    assert_eq!(artifacts[2].component_id, "local");
    let array = lock(&home, &json!([registry.reference(), { "digest": other(2).manifest_digest }]));
    let again = [sample().manifest_digest.to_string(), other(2).manifest_digest.to_string()];
    assert_eq!(pins(&home.client(), &array).await, again);
    assert!(pins(&home.client(), &lock(&home, &json!([]))).await.is_empty());
}

#[tokio::test]
async fn a_digest_alone_is_reopened_offline_and_never_asked_for() {
    let (home, registry) = (Home::new(), registry());
    home.client().resolve_ref(&registry.reference()).await.unwrap();
    registry.journal().clear();
    let (pin, content) = (sample().manifest_digest, sample().layer_digest());
    for digest in [pin, content] {
        let path = lock(&home, &json!([{ "digest": digest }, digest]));
        for client in [home.offline(), home.client()] {
            for artifact in client.pull_lock(&path).await.unwrap() {
                assert_delivers(&artifact, &sample());
                assert!(!artifact.fetched);
            }
        }
    }
    let missing = lock(&home, &json!([{ "digest": other(5).manifest_digest }]));
    for client in [home.offline(), home.client()] {
        let error = client.pull_lock(&missing).await.unwrap_err();
        assert!(matches!(error, DistError::NotFound { .. }), "{error:?}");
        assert_eq!(error.exit_code(), 3);
    }
    assert!(registry.journal().is_empty());
}

#[tokio::test]
async fn a_locked_digest_that_is_here_costs_no_request_whatever_its_reference_means_now() {
    let (home, registry) = (Home::new(), registry());
    let client = home.client();
    client.resolve_ref(&registry.reference()).await.unwrap();
    registry.publish(&other(9), "1");
    registry.journal().clear();
    // The pin, or the digest of the bytes.
    for digest in [sample().manifest_digest, sample().layer_digest()] {
        let path = lock(&home, &json!([{ "reference": registry.reference(), "digest": digest }]));
        assert_delivers(&client.pull_lock(&path).await.unwrap()[0], &sample());
    }
    assert!(registry.journal().is_empty());
}

#[tokio::test]
async fn either_digest_of_an_artifact_or_that_of_its_index_locks_it_before_anything_is_here() {
    let registry = registry();
    let index = fixture::index(&[(sample().descriptor(), Some(("wasip2", "wasm")))]);
    registry.publish_document(&index, Some("multi"));
    for (tag, digest) in [
        ("1", sample().manifest_digest),
        ("1", sample().layer_digest()),
        ("multi", sample().manifest_digest),
        ("multi", sample().layer_digest()),
        ("multi", index.digest),
    ] {
        let home = Home::new();
        let path = lock(&home, &json!([{ "reference": registry.reference_to(tag), "digest": digest }]));
        assert_delivers(&home.client().pull_lock(&path).await.unwrap()[0], &sample());
        assert_delivers(&home.client().pull_lock(&path).await.unwrap()[0], &sample());
    }
    let home = Home::new();
    let path = lock(&home, &json!([{ "reference": registry.pinned_to(index.digest), "digest": index.digest }]));
    assert_delivers(&home.client().pull_lock(&path).await.unwrap()[0], &sample());
}

#[tokio::test]
async fn row_12_a_reference_that_no_longer_means_the_locked_digest_is_an_integrity_failure_with_both_digests() {
    let (home, registry) = (Home::new(), registry());
    registry.publish(&other(9), "1");
    let locked = sample().manifest_digest;
    let path = lock(
        &home,
        &json!([registry.reference_to("1"), { "name": "x", "reference": registry.reference(), "digest": locked }]),
    );
    let error = home.client().pull_lock(&path).await.unwrap_err();
    assert!(matches!(error, DistError::CorruptArtifact { .. }), "{error:?}");
    assert_eq!((error.kind(), error.exit_code()), (Integrity, 8));
    let text = error.to_string();
    for part in
        [&locked.to_string(), &other(9).manifest_digest.to_string(), "entry 1", "pack.lock.json", &registry.reference()]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
    // The locked artifact was not brought, and the other entry was.
    assert_eq!(home.client().list_cache(), [other(9).manifest_digest.to_string()]);
}

#[tokio::test]
async fn a_content_digest_that_is_not_that_of_the_artifact_is_an_integrity_failure() {
    let (home, registry) = (Home::new(), registry());
    let entry = |content| json!([{ "reference": registry.reference(), "digest": sample().manifest_digest, "content_digest": content }]);
    assert!(home.client().pull_lock(&lock(&home, &entry(sample().layer_digest()))).await.is_ok());
    for client in [home.client(), home.offline()] {
        let text = assert_fails(client.pull_lock(&lock(&home, &entry(other(3).layer_digest()))).await, Integrity, 8);
        assert!(text.contains(&other(3).layer_digest().to_string()), "{text}");
    }
}

#[tokio::test]
async fn equal_entries_are_asked_for_and_brought_once() {
    let (home, registry) = (Home::new(), registry());
    let entry = json!({ "reference": registry.reference(), "name": "a" });
    let path = lock(&home, &json!([entry, registry.reference(), { "ref": registry.reference(), "name": "b" }]));
    let pulled = home.client().pull_lock_items(&path, LockMode::Pinned).await.unwrap();
    let fetched: Vec<bool> = pulled.items.iter().map(|item| item.result.as_ref().unwrap().fetched).collect();
    assert_eq!(fetched, [true, false, false]);
    assert_eq!(pulled.items[2].entry.name.as_deref(), Some("b"));
    let journal = registry.journal();
    assert_eq!((journal.count_containing("/manifests/"), journal.count_containing("/blobs/")), (1, 1));
    assert_eq!(pulled.into_artifacts().unwrap().len(), 3);
}

#[tokio::test]
async fn one_failure_does_not_lose_the_work_of_the_others_and_every_outcome_is_told() {
    let (home, registry) = (Home::new(), registry());
    for seed in 10..14 {
        registry.publish(&other(seed), &seed.to_string());
    }
    let gone = registry.reference_to("nothing");
    let path = lock(
        &home,
        &json!([
            registry.reference_to("10"),
            gone,
            registry.reference_to("11"),
            gone,
            "./missing.wasm",
            registry.reference_to("12"),
            registry.reference_to("13"),
        ]),
    );
    let pulled = home.client().pull_lock_items(&path, LockMode::Pinned).await.unwrap();
    let there = |seed| Ok(other(seed).layer_digest().to_string());
    assert_eq!(outcomes(&pulled), [there(10), Err(3), there(11), Err(3), Err(3), there(12), there(13)]);
    let failed: Vec<usize> = pulled.failed().map(|(item, _)| item.index).collect();
    assert_eq!(failed, [1, 3, 4]);
    // The plain call tells the first failure, itself, although an equal entry shares it.
    let error = pulled.into_artifacts().unwrap_err();
    assert!(matches!(&error, DistError::Network { reference, .. } if *reference == gone), "{error:?}");
    assert_eq!(home.client().list_cache().len(), 4);
    assert_fails(home.client().pull_lock(&path).await, NotFound, 3);
}

#[tokio::test]
async fn row_10_a_file_with_any_bad_entry_is_refused_before_anything_is_asked_for() {
    let (home, registry) = (Home::new(), registry());
    let good = registry.reference();
    let pin = |seed| other(seed).manifest_digest;
    for (text, problem) in [
        (format!("[\"{good}\","), "`[1]`"),
        (format!("\u{feff}[\"{good}\"]"), "byte order mark"),
        (format!("[\"{good}\"] []"), "trailing characters"),
        (json!({ "schema_version": 2, "components": [good] }).to_string(), "`schema_version`"),
        (json!({ "artifacts": [good] }).to_string(), "`components`"),
        (json!([good, null]).to_string(), "`[1]`"),
        (json!([good, { "name": "x" }]).to_string(), "`[1]`"),
        (json!({ "components": [good, { "ref": "local.wasm" }] }).to_string(), "`components[1].ref`"),
        (json!([good, { "ref": format!("a.b/c@{}", pin(1)), "digest": pin(2) }]).to_string(), "`[1].digest`"),
        (json!([good, { "ref": good, "digest": "sha256:ABC" }]).to_string(), "`[1].digest`"),
        (format!("[\"{good}\",{{\"ref\":\"{good}\",\"ref\":\"{good}\"}}]"), "`[1].ref`"),
        (format!("[\"{good}\",{}{}]", "[".repeat(10_000), "]".repeat(10_000)), "nested"),
        (format!("[\"{good}\"]{}", " ".repeat(16 << 20)), "larger than 16777216 bytes"),
    ] {
        let path = lock_text(&home, &text);
        let client = home.client();
        let error = client.pull_lock(&path).await.unwrap_err();
        assert_eq!((error.kind(), error.exit_code()), (InvalidInput, 2), "{text:.80}: {error}");
        assert!(matches!(&error, DistError::InvalidLock { .. }), "{error:?}");
        let told = chain(&error);
        assert!(
            told.contains("pack.lock.json") && told.contains("invalid lockfile") && told.contains(problem),
            "{told}"
        );
        assert_eq!(client.net_stats().requests, 0);
    }
    for tenantless in ["store://greentic-biz/acme", "store://greentic-biz/../kit"] {
        let client = home.client();
        assert_fails(client.pull_lock(&lock(&home, &json!([good, tenantless]))).await, InvalidInput, 2);
        assert_eq!(client.net_stats().requests, 0);
    }
    assert!(registry.journal().is_empty());
    assert!(!home.cache().exists());
}

#[tokio::test]
async fn row_13_one_bad_entry_among_a_hundred_thousand_is_told_and_nothing_is_asked_for() {
    let (home, registry) = (Home::new(), registry());
    let mut entries = vec![json!(registry.reference()); 100_000];
    entries[77_777] = json!({ "digest": "no" });
    let client = home.client();
    let error = client.pull_lock(&lock(&home, &json!(entries))).await.unwrap_err();
    assert_eq!((error.kind(), error.exit_code()), (InvalidInput, 2), "{error}");
    let DistError::InvalidLock { source, .. } = &error else { panic!("{error:?}") };
    assert_eq!((source.total(), source.problems()[0].index()), (1, Some(77_777)));
    assert!(chain(&error).contains("`[77777].digest`"), "{error}");
    assert_eq!(client.net_stats().requests, 0);
    assert!(registry.journal().is_empty());
}

#[tokio::test]
async fn a_lock_file_that_is_not_there_or_is_no_file_is_told_as_such() {
    let home = Home::new();
    let text = assert_fails(home.client().pull_lock(&home.path().join("no.lock")).await, NotFound, 3);
    assert!(text.contains("no.lock"), "{text}");
    assert_fails(home.client().pull_lock(home.path()).await, InvalidInput, 2);
    #[cfg(unix)]
    assert_fails(home.client().pull_lock(std::path::Path::new("/dev/zero")).await, InvalidInput, 2);
}

#[tokio::test]
async fn row_11_damaged_bytes_under_a_locked_digest_are_fetched_again_and_an_exact_error_offline() {
    let (home, registry) = (Home::new(), registry());
    let artifact = home.client().resolve_ref(&registry.reference()).await.unwrap();
    let pin = sample().manifest_digest;
    for entry in [json!({ "reference": registry.reference(), "digest": pin }), json!({ "digest": pin })] {
        let path = lock(&home, &json!([entry]));
        fs::remove_file(&artifact.local_path).unwrap();
        fs::write(&artifact.local_path, b"\0asm something else").unwrap();
        let error = home.offline().pull_lock(&path).await.unwrap_err();
        assert_eq!((error.kind(), error.exit_code()), (Integrity, 8), "{error}");
        assert_delivers(&home.client().pull_lock(&path).await.unwrap()[0], &sample());
    }
}

#[tokio::test]
async fn offline_a_lock_is_answered_from_the_cache_or_refused_entry_by_entry() {
    let (home, registry) = (Home::new(), registry());
    registry.publish(&other(2), "2");
    home.client().resolve_ref(&registry.reference()).await.unwrap();
    let path = lock(
        &home,
        &json!([
            { "reference": registry.reference(), "digest": sample().manifest_digest },
            registry.reference(),
            { "reference": registry.reference_to("2"), "digest": other(2).manifest_digest },
        ]),
    );
    let client = home.offline();
    let pulled = client.pull_lock_items(&path, LockMode::Locked).await.unwrap();
    let content = sample().layer_digest().to_string();
    // An entry without a digest is never in order for `Locked`.
    assert_eq!(outcomes(&pulled), [Ok(content.clone()), Err(9), Err(4)]);
    let pulled = client.pull_lock_items(&path, LockMode::Pinned).await.unwrap();
    assert_eq!(outcomes(&pulled), [Ok(content.clone()), Ok(content), Err(4)]);
    assert_fails(client.pull_lock(&path).await, Offline, 4);
    assert_eq!(client.net_stats().requests, 0);
}

#[tokio::test]
async fn row_40_locked_asks_every_tag_once_and_refuses_what_moved_and_what_is_not_pinned() {
    let (home, registry) = (Home::new(), registry());
    let file = home.path().join("project").join("local.wasm");
    let path = lock(
        &home,
        &json!([
            { "reference": registry.reference(), "digest": sample().manifest_digest },
            { "reference": registry.pinned(), "digest": sample().manifest_digest },
            { "digest": sample().layer_digest() },
        ]),
    );
    home.client().pull_lock(&lock(&home, &json!([registry.reference()]))).await.unwrap();
    fs::write(&file, b"\0asm one").unwrap();
    lock(
        &home,
        &json!([
            { "reference": registry.reference(), "digest": sample().manifest_digest },
            { "reference": registry.pinned(), "digest": sample().manifest_digest },
            { "digest": sample().layer_digest() },
        ]),
    );
    registry.journal().clear();
    let pulled = home.client().pull_lock_items(&path, LockMode::Locked).await.unwrap();
    assert_eq!(pulled.failed().count(), 0);
    assert_eq!(registry.journal().len(), 1);

    registry.publish(&other(9), "1");
    let pulled = home.client().pull_lock_items(&path, LockMode::Locked).await.unwrap();
    let content = sample().layer_digest().to_string();
    assert_eq!(outcomes(&pulled), [Err(9), Ok(content.clone()), Ok(content)]);
    let error = pulled.into_artifacts().unwrap_err();
    assert_eq!(error.kind(), LockOutOfDate);
    let text = chain(&error);
    for part in [sample().manifest_digest.to_string(), other(9).manifest_digest.to_string()] {
        assert!(text.contains(&part) && text.contains("pack.lock.json") && text.contains("entry 0"), "{text}");
    }

    let local = |digest: &str| json!([{ "reference": "./local.wasm", "digest": digest }]);
    let digest = home.client().resolve_ref(file.to_str().unwrap()).await.unwrap().digest;
    let path = lock(&home, &local(&digest));
    assert!(home.client().pull_lock_items(&path, LockMode::Locked).await.unwrap().into_artifacts().is_ok());
    fs::write(&file, b"\0asm two").unwrap();
    let pulled = home.client().pull_lock_items(&path, LockMode::Locked).await.unwrap();
    assert_eq!(outcomes(&pulled), [Err(9)]);
    // Without it the locked digest is here, and that is enough.
    assert_eq!(pins(&home.client(), &path).await, [digest]);
}

#[tokio::test]
async fn row_6_paths_are_meant_from_the_directory_of_the_lock_file_and_a_bare_name_is_no_path() {
    let home = Home::new();
    let project = home.path().join("project");
    fs::create_dir_all(project.join("parts")).unwrap();
    fs::write(project.join("parts").join("a.wasm"), b"\0asm a").unwrap();
    fs::write(home.path().join("b.wasm"), b"\0asm b").unwrap();
    let path = lock(&home, &json!(["./parts/a.wasm", "../b.wasm", format!("file://{}/b.wasm", home.path().display())]));
    let artifacts = home.client().pull_lock(&path).await.unwrap();
    let bytes: Vec<&[u8]> = artifacts.iter().map(|artifact| artifact.wasm_bytes().unwrap()).collect();
    assert_eq!(bytes, [&b"\0asm a"[..], b"\0asm b", b"\0asm b"]);
    // A directory that looks like a registry does not make a path of a reference.
    fs::create_dir_all(project.join("localhost:1").join("x")).unwrap();
    for bare in ["parts/a.wasm", "a.wasm"] {
        assert_fails(home.client().pull_lock(&lock(&home, &json!([bare]))).await, InvalidInput, 2);
    }
}

#[tokio::test]
async fn two_hundred_entries_are_pulled_side_by_side_in_two_requests_each() {
    let (home, registry) = (Home::new(), registry());
    let artifacts: Vec<_> =
        (0..200).map(|seed| fixture::artifact(WASM_TYPE, fixture::random_bytes(seed + 500, 64))).collect();
    for (index, artifact) in artifacts.iter().enumerate() {
        registry.publish(artifact, &index.to_string());
    }
    let entries: Vec<Value> = artifacts
        .iter()
        .enumerate()
        .map(|(index, artifact)| json!({ "reference": registry.reference_to(&index.to_string()), "digest": artifact.manifest_digest }))
        .collect();
    let path = lock(&home, &json!({ "schema_version": 1, "components": entries }));
    let expected: Vec<String> = artifacts.iter().map(|artifact| artifact.manifest_digest.to_string()).collect();
    assert_eq!(pins(&home.client(), &path).await, expected);
    let journal = registry.journal();
    assert_eq!((journal.count_containing("/manifests/"), journal.count_containing("/blobs/")), (200, 200));
    journal.clear();
    assert_eq!(pins(&home.client(), &path).await, expected);
    assert!(journal.is_empty());
}
