//! Writing lock files: what references mean now, and whether they still mean it.

use std::fs;
use std::path::{Path, PathBuf};

use greentic_dist_testkit::fixture;
use greentic_distributor_client::dist::DistErrorKind::{InvalidInput, LockOutOfDate, NotFound};
use greentic_distributor_client::dist::{LockMode, LockReport};
use serde_json::{Value, json};

use crate::support::{Home, assert_delivers, assert_fails, other, registry, sample};

fn lock_path(home: &Home) -> PathBuf {
    let dir = home.path().join("project");
    fs::create_dir_all(&dir).unwrap();
    dir.join("pack.lock.json")
}

fn read(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// Whether each entry that was looked at is current.
fn current(report: &LockReport) -> Vec<bool> {
    report.changes.iter().map(|change| change.is_current).collect()
}

fn strings<const N: usize>(texts: [&str; N]) -> Vec<String> {
    texts.map(ToOwned::to_owned).to_vec()
}

#[tokio::test]
async fn references_are_written_with_their_digests_sizes_and_types_and_no_artifact_is_moved() {
    let (home, registry) = (Home::new(), registry());
    registry.publish(&other(2), "2");
    let path = lock_path(&home);
    let references = [registry.reference(), format!("oci://{}", registry.reference_to("2"))];
    let report = home.client().add_to_lock(&path, &references, None).await.unwrap();
    assert!(report.written && report.changes.iter().all(|change| change.before.is_none()));
    let expected = format!(
        r#"{{
  "schema_version": 1,
  "components": [
    {{
      "name": "hello",
      "reference": "{}",
      "digest": "{}",
      "content_digest": "{}",
      "size_bytes": 200000,
      "media_type": "application/wasm"
    }},
    {{
      "name": "hello",
      "reference": "oci://{}",
      "digest": "{}",
      "content_digest": "{}",
      "size_bytes": 3000,
      "media_type": "application/wasm"
    }}
  ]
}}
"#,
        registry.reference(),
        sample().manifest_digest,
        sample().layer_digest(),
        registry.reference_to("2"),
        other(2).manifest_digest,
        other(2).layer_digest(),
    );
    assert_eq!(fs::read_to_string(&path).unwrap(), expected);
    assert_eq!(registry.journal().count_containing("/blobs/"), 0);
    // The same again is the same file, and what was written is what is pulled.
    let again = home.client().add_to_lock(&path, &references, None).await.unwrap();
    assert!(!again.written && again.is_current());
    assert_eq!(fs::read_to_string(&path).unwrap(), expected);
    let artifacts = home.client().pull_lock_items(&path, LockMode::Locked).await.unwrap().into_artifacts().unwrap();
    assert_delivers(&artifacts[0], &sample());
    assert_delivers(&artifacts[1], &other(2));
    // From a cache that has everything, the same text comes out.
    let cached = path.with_file_name("other.lock.json");
    home.client().add_to_lock(&cached, &references, None).await.unwrap();
    assert_eq!(fs::read_to_string(&cached).unwrap(), expected);
}

#[tokio::test]
async fn a_moved_tag_is_told_by_check_and_written_by_update_and_the_rest_of_the_file_stays() {
    let (home, registry) = (Home::new(), registry());
    registry.publish(&other(2), "2");
    let path = lock_path(&home);
    let (one, two) = (registry.reference(), registry.reference_to("2"));
    let old = json!({
        "made_by": "hand", "schema_version": 1,
        "components": [
            { "name": "one", "ref": one, "digest": sample().manifest_digest, "signer": "acme" },
            { "name": "two", "reference": two, "digest": other(2).layer_digest() },
            { "digest": other(7).manifest_digest },
        ],
    });
    fs::write(&path, old.to_string()).unwrap();
    let client = home.client();
    let report = client.check_lock(&path).await.unwrap();
    assert_eq!((current(&report), report.is_current()), (vec![true, true, true], true));

    registry.publish(&other(3), "1");
    registry.publish(&other(4), "2");
    let report = client.check_lock(&path).await.unwrap();
    assert_eq!((current(&report), report.written), (vec![false, false, true], false));
    assert_eq!(read(&path), old);

    let report = client.update_lock(&path, &strings(["one"])).await.unwrap();
    assert!(report.written && report.changes.len() == 1);
    let file = read(&path);
    assert_eq!(file["made_by"], "hand");
    assert_eq!(
        file["components"],
        json!([
            {
                "name": "one", "reference": one, "digest": other(3).manifest_digest, "content_digest": other(3).layer_digest(),
                "size_bytes": 3000, "media_type": "application/wasm", "signer": "acme",
            },
            { "name": "two", "reference": two, "digest": other(2).layer_digest() },
            { "digest": other(7).manifest_digest },
        ])
    );
    assert_eq!(current(&client.check_lock(&path).await.unwrap()), [true, false, true]);
    // By reference, and all of them.
    assert!(client.update_lock(&path, std::slice::from_ref(&two)).await.unwrap().written);
    assert!(!client.update_lock(&path, &[]).await.unwrap().written);
    assert!(client.check_lock(&path).await.unwrap().is_current());
    assert_fails(client.update_lock(&path, &strings(["three"])).await, InvalidInput, 2);
}

#[tokio::test]
async fn an_entry_without_a_digest_and_one_with_another_size_or_type_are_out_of_date() {
    let (home, registry) = (Home::new(), registry());
    let path = lock_path(&home);
    let (reference, pin) = (registry.reference(), sample().manifest_digest);
    for (entry, is_current) in [
        (json!(reference), false),
        (json!({ "ref": reference, "digest": pin, "size_bytes": 200_000 }), true),
        (json!({ "ref": reference, "digest": pin, "size_bytes": 200_001 }), false),
        (json!({ "ref": reference, "digest": pin, "media_type": "application/wasm" }), true),
        (json!({ "ref": reference, "digest": pin, "media_type": "text/plain" }), false),
        (json!({ "ref": reference, "digest": pin, "content_digest": pin }), false),
    ] {
        fs::write(&path, json!([entry]).to_string()).unwrap();
        assert_eq!(home.client().check_lock(&path).await.unwrap().is_current(), is_current, "{entry}");
    }
}

#[tokio::test]
async fn a_reference_that_cannot_be_resolved_leaves_the_file_as_it_was() {
    let (home, registry) = (Home::new(), registry());
    let path = lock_path(&home);
    let references = [registry.reference(), registry.reference_to("nothing")];
    let report = home.client().add_to_lock(&path, &references, None).await.unwrap();
    let failed: Vec<_> = report.failed().map(|(change, error)| (change.index, error.exit_code())).collect();
    assert_eq!((failed, report.written, path.exists()), (vec![(1, 3)], false, false));
    assert!(report.changes[0].after.is_ok());
    // A text that is no reference is refused before anybody is asked.
    registry.journal().clear();
    assert_fails(
        home.client().add_to_lock(&path, &[registry.reference(), "x.wasm".into()], None).await,
        InvalidInput,
        2,
    );
    assert!(registry.journal().is_empty() && !path.exists());
    assert_fails(home.client().check_lock(&path).await, NotFound, 3);
    assert_fails(home.client().update_lock(&path, &[]).await, NotFound, 3);
}

#[tokio::test]
async fn a_file_that_somebody_else_changed_meanwhile_is_not_overwritten() {
    let (home, registry) = (Home::new(), registry());
    let path = lock_path(&home);
    fs::write(&path, "[]").unwrap();
    registry.lie(greentic_dist_testkit::scenario::Lie::Slow(std::time::Duration::from_millis(300)));
    let adding = {
        let (client, path, references) = (home.client(), path.clone(), [registry.reference()]);
        tokio::spawn(async move { client.add_to_lock(&path, &references, None).await })
    };
    while registry.journal().is_empty() {
        tokio::task::yield_now().await;
    }
    fs::write(&path, "[ ]").unwrap();
    assert_fails(adding.await.unwrap(), LockOutOfDate, 9);
    assert_eq!(fs::read_to_string(&path).unwrap(), "[ ]");
}

#[tokio::test]
async fn a_file_that_somebody_replaces_at_this_moment_is_left_to_them() {
    let (home, registry) = (Home::new(), registry());
    let path = lock_path(&home);
    fs::write(&path, "[]").unwrap();
    let other = fs::File::open(&path).unwrap();
    other.lock().unwrap();
    assert_fails(home.client().add_to_lock(&path, &[registry.reference()], None).await, LockOutOfDate, 9);
    assert_eq!(fs::read_to_string(&path).unwrap(), "[]");
    drop(other);
    assert!(home.client().add_to_lock(&path, &[registry.reference()], None).await.unwrap().written);
}

#[cfg(unix)]
#[tokio::test]
async fn a_link_to_nowhere_is_no_lock_file() {
    let (home, registry) = (Home::new(), registry());
    let path = lock_path(&home);
    std::os::unix::fs::symlink("nowhere", &path).unwrap();
    assert_fails(home.client().add_to_lock(&path, &[registry.reference()], None).await, InvalidInput, 2);
    assert!(fs::symlink_metadata(&path).unwrap().is_symlink() && !path.exists());
}

#[tokio::test]
async fn files_are_written_as_seen_from_the_lock_file_and_read_from_there() {
    let home = Home::new();
    let path = lock_path(&home);
    let parts = home.path().join("project").join("parts");
    fs::create_dir_all(&parts).unwrap();
    for (file, text) in [(parts.join("a__0_1_0.wasm"), "\0asm a"), (home.path().join("b.wasm"), "\0asm b")] {
        fs::write(file, text).unwrap();
    }
    // The way from this process's directory to the files, as somebody would type it.
    let here = std::env::current_dir().unwrap();
    let up: String = here.components().skip(1).map(|_| "../").collect();
    let typed = |file: &Path| format!("./{up}{}", file.canonicalize().unwrap().strip_prefix("/").unwrap().display());
    let absolute = home.path().join("b.wasm").display().to_string();
    let references = [typed(&parts.join("a__0_1_0.wasm")), typed(&home.path().join("b.wasm")), absolute.clone()];
    let report = home.client().add_to_lock(&path, &references, None).await.unwrap();
    assert!(report.written, "{report:?}");
    let written = read(&path);
    let written: Vec<_> =
        written["components"].as_array().unwrap().iter().map(|entry| entry["reference"].clone()).collect();
    assert_eq!(written, ["./parts/a__0_1_0.wasm", "../b.wasm", &absolute]);
    assert_eq!(read(&path)["components"][0]["name"], "a");
    let artifacts = home.client().pull_lock(&path).await.unwrap();
    assert_eq!(artifacts[1].wasm_bytes().unwrap(), b"\0asm b");
    fs::write(parts.join("a__0_1_0.wasm"), "\0asm changed").unwrap();
    assert_eq!(current(&home.client().check_lock(&path).await.unwrap()), [false, true, true]);
}

#[tokio::test]
async fn a_name_finds_its_entry_again_and_goes_with_one_reference() {
    let (home, registry) = (Home::new(), registry());
    registry.publish(&other(2), "2");
    let (client, path) = (home.client(), lock_path(&home));
    client.add_to_lock(&path, &[registry.reference()], Some("tool")).await.unwrap();
    let report = client.add_to_lock(&path, &[registry.reference_to("2")], Some("tool")).await.unwrap();
    assert_eq!(report.changes[0].before.as_ref().unwrap().digest, Some(sample().manifest_digest));
    let file = read(&path);
    assert_eq!(file["components"].as_array().unwrap().len(), 1);
    assert_eq!(file["components"][0]["digest"], other(2).manifest_digest.to_string());
    let two = [registry.reference(), registry.reference_to("2")];
    assert_fails(client.add_to_lock(&path, &two, Some("tool")).await, InvalidInput, 2);
    // Twice the same reference is one entry.
    let twice = path.with_file_name("twice.lock.json");
    client.add_to_lock(&twice, &[registry.reference(), registry.reference()], None).await.unwrap();
    assert_eq!(read(&twice)["components"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_pinned_index_is_locked_to_the_manifest_that_was_chosen_and_a_digest_to_itself() {
    let (home, registry) = (Home::new(), registry());
    let index = fixture::index(&[(sample().descriptor(), Some(("wasip2", "wasm")))]);
    registry.publish_document(&index, Some("multi"));
    let (client, path) = (home.client(), lock_path(&home));
    client.add_to_lock(&path, &[registry.pinned_to(index.digest)], None).await.unwrap();
    let pin = sample().manifest_digest;
    assert_eq!(read(&path)["components"][0]["reference"], format!("oci://{}/acme/hello@{pin}", registry.host()));
    assert_delivers(&client.pull_lock(&path).await.unwrap()[0], &sample());
    client.add_to_lock(&path, &[pin.to_string()], None).await.unwrap();
    let entry = &read(&path)["components"][1];
    assert_eq!((&entry["reference"], &entry["digest"]), (&Value::Null, &json!(pin)));
    assert!(client.check_lock(&path).await.unwrap().is_current());
    let missing = client.add_to_lock(&path, &[other(8).manifest_digest.to_string()], None).await.unwrap();
    assert_eq!(missing.failed().map(|(_, error)| error.exit_code()).collect::<Vec<_>>(), [3]);
}

#[cfg(unix)]
#[tokio::test]
async fn the_file_keeps_its_permissions_and_a_symbolic_link_stays_one() {
    use std::os::unix::fs::PermissionsExt as _;
    let (home, registry) = (Home::new(), registry());
    let path = lock_path(&home);
    let link = home.path().join("link.lock.json");
    fs::write(&path, "[]").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    std::os::unix::fs::symlink(&path, &link).unwrap();
    home.client().add_to_lock(&link, &[registry.reference()], None).await.unwrap();
    assert!(link.is_symlink());
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
    assert_eq!(read(&path)["components"][0]["name"], "hello");
    let names: Vec<_> = fs::read_dir(path.parent().unwrap()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["pack.lock.json"]);
}
