//! Files of this machine.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use greentic_dist_types::Digest;
use greentic_distributor_client::dist::DistErrorKind::{Integrity, Internal, InvalidInput, NotFound};
use greentic_distributor_client::dist::{ArtifactSourceKind, CachePolicy, ResolvePolicy, ResolvedVia};

use crate::support::{Home, assert_fails};

const BYTES: &[u8] = b"\0asm a file";

fn write(home: &Home, name: &str) -> String {
    let path = home.path().join(name);
    fs::write(&path, BYTES).unwrap();
    path.display().to_string()
}

#[tokio::test]
async fn a_file_is_hashed_to_resolve_it_and_copied_to_fetch_it() {
    let home = Home::new();
    let path = write(&home, "component.wasm");
    let client = home.client();
    let descriptor = client.resolve(client.parse_source(&path).unwrap(), ResolvePolicy).await.unwrap();
    let digest = Digest::sha256(BYTES).to_string();
    assert_eq!((descriptor.digest.as_str(), descriptor.size_bytes), (digest.as_str(), 11));
    assert_eq!(descriptor.canonical_ref, format!("file://{path}@{digest}"));
    assert_eq!((descriptor.source_kind, descriptor.resolved_via), (ArtifactSourceKind::File, ResolvedVia::File));
    assert_eq!(descriptor.manifest_digest, None);
    assert!(!home.cache().exists());

    let artifact = client.fetch(&descriptor, CachePolicy).await.unwrap();
    assert!(artifact.fetched);
    assert_eq!(artifact.component_id, "component");
    assert_eq!((artifact.abi_version.as_ref(), artifact.describe_artifact_ref.as_ref()), (None, None));
    assert!(artifact.wasm_bytes.is_none() && artifact.wasm_path.is_some());
    assert_eq!(artifact.content_length, Some(11));
    assert_eq!(artifact.content_type.as_deref(), Some("application/wasm"));
    assert_eq!(artifact.content_digest(), digest.clone());
    assert_eq!(fs::read(artifact.cache_path.as_ref().unwrap()).unwrap(), BYTES);
    assert_eq!(artifact.local_path, home.entry(&digest).join("component.wasm"));
    assert_eq!(client.stat_cache(&digest).unwrap().canonical_ref, descriptor.canonical_ref);
    // The cache has a copy of its own: later edits of the source cannot reach it.
    assert_ne!(fs::metadata(&path).unwrap().ino(), fs::metadata(&artifact.local_path).unwrap().ino());
    assert!(!client.fetch(&descriptor, CachePolicy).await.unwrap().fetched);
}

#[tokio::test]
async fn paths_and_file_urls_and_odd_names_lead_to_the_file() {
    let home = Home::new();
    let path = write(&home, "with space é.wasm");
    let encoded = format!("file://{}", path.replace(' ', "%20"));
    for reference in [path.clone(), encoded, format!("file://localhost{path}")] {
        let artifact = home.client().resolve_ref(&reference).await.unwrap();
        assert_eq!(artifact.wasm_bytes().unwrap(), BYTES);
        assert_eq!(artifact.component_id, "with space é");
    }
}

#[tokio::test]
async fn version_suffixes_are_no_part_of_a_component_id() {
    for (name, id) in [("foo__0_6_0.wasm", "foo"), ("bar__1.wasm", "bar__1"), ("baz", "baz")] {
        let home = Home::new();
        let path = write(&home, name);
        assert_eq!(home.client().resolve_ref(&path).await.unwrap().component_id, id);
    }
}

#[tokio::test]
async fn a_describe_document_beside_the_file_is_named() {
    let home = Home::new();
    let path = write(&home, "component.wasm");
    let describe = home.path().join("describe.cbor");
    fs::write(&describe, "x").unwrap();
    let artifact = home.client().resolve_ref(&path).await.unwrap();
    assert_eq!(artifact.describe_artifact_ref, Some(describe.display().to_string()));
    let reopened = home.client().open_cached(&artifact.digest).unwrap();
    assert_eq!(reopened.describe_artifact_ref, artifact.describe_artifact_ref);
}

#[tokio::test]
async fn a_file_that_changed_between_resolve_and_fetch_is_refused() {
    let home = Home::new();
    let path = write(&home, "component.wasm");
    let client = home.client();
    let descriptor = client.resolve(client.parse_source(&path).unwrap(), ResolvePolicy).await.unwrap();
    fs::write(&path, b"\0asm another").unwrap();
    let text = assert_fails(client.fetch(&descriptor, CachePolicy).await, Integrity, 8);
    assert!(text.contains("changed since it was resolved") && text.contains(&path), "{text}");
    home.assert_cache_empty();
}

#[tokio::test]
async fn what_is_no_readable_file_is_refused() {
    let home = Home::new();
    let client = home.client();
    let missing = home.path().join("missing.wasm").display().to_string();
    let text = assert_fails(client.resolve_ref(&missing).await, NotFound, 3);
    assert!(text.contains(&missing), "{text}");
    assert_fails(client.resolve_ref(&home.path().display().to_string()).await, InvalidInput, 2);
    assert_fails(client.resolve_ref("/dev/zero").await, InvalidInput, 2);
    let limited = home.builder().max_artifact_bytes(10).build();
    assert_fails(limited.resolve_ref(&write(&home, "big.wasm")).await, Internal, 10);
    home.assert_cache_empty();
}

#[cfg(unix)]
#[tokio::test]
async fn row_7_pipes_sockets_and_what_the_system_makes_up_are_no_artifacts() {
    let home = Home::new();
    let (pipe, socket) = (home.path().join("pipe.wasm"), home.path().join("socket.wasm"));
    let made = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
    assert!(made.success());
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    for path in [pipe, socket, "/dev/zero".into(), "/dev/null".into(), home.path().to_owned()] {
        for reference in [path.display().to_string(), format!("file://{}", path.display())] {
            let text = assert_fails(home.client().resolve_ref(&reference).await, InvalidInput, 2);
            assert!(text.contains("not a regular file"), "{text}");
        }
    }
    home.assert_cache_empty();
}

#[test]
fn row_8_files_of_other_machines_and_broken_escapes_are_no_references() {
    let client = Home::new().client();
    for reference in ["file://server/share/x.wasm", "file://rel/x", "file://%00", "file:///a%00b", "file:///a%zz"] {
        let text = assert_fails(client.parse_source(reference), InvalidInput, 2);
        assert!(text.starts_with("invalid reference"), "{text}");
    }
    assert!(client.parse_source("file://localhost/x.wasm").is_ok());
}

#[tokio::test]
async fn row_8_a_file_that_grew_shrank_or_was_replaced_since_it_was_resolved_is_refused() {
    let change = |what: &str, path: &Path| match what {
        "grown" => fs::write(path, [BYTES, b"+"].concat()).unwrap(),
        "shrunk" => fs::OpenOptions::new().write(true).open(path).unwrap().set_len(4).unwrap(),
        "emptied" => fs::write(path, b"").unwrap(),
        _ => {
            let beside = path.with_extension("new");
            fs::write(&beside, vec![7; BYTES.len()]).unwrap();
            fs::rename(beside, path).unwrap();
        }
    };
    for what in ["grown", "shrunk", "emptied", "replaced"] {
        let home = Home::new();
        let path = write(&home, "component.wasm");
        let client = home.client();
        let descriptor = client.resolve(client.parse_source(&path).unwrap(), ResolvePolicy).await.unwrap();
        change(what, Path::new(&path));
        let text = assert_fails(client.fetch(&descriptor, CachePolicy).await, Integrity, 8);
        let now = Digest::sha256(&fs::read(&path).unwrap()).to_string();
        for said in [path.as_str(), "changed since it was resolved", &descriptor.digest, &now] {
            assert!(text.contains(said), "{what}: `{said}` is not in: {text}");
        }
        home.assert_cache_empty();
    }
}

/// Whatever somebody does to a file while it is read, what is in the cache is what was hashed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_8_a_file_that_is_written_to_while_it_is_read_never_becomes_an_entry_that_is_not_its_digest() {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    let home = Home::new();
    let path = home.path().join("moving.wasm");
    fs::write(&path, vec![0_u8; 600_000]).unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let writer = std::thread::spawn({
        let (path, stop) = (path.clone(), Arc::clone(&stop));
        move || {
            let mut turn = 0_u8;
            while !stop.load(Ordering::Relaxed) {
                turn = turn.wrapping_add(1);
                match turn % 3 {
                    0 => fs::write(&path, vec![turn; 600_000]).unwrap(),
                    1 => fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(300_000).unwrap(),
                    _ => {
                        let beside = path.with_extension("new");
                        fs::write(&beside, vec![turn; 900_000]).unwrap();
                        fs::rename(beside, &path).unwrap();
                    }
                }
            }
        }
    });
    let client = home.client();
    let (mut pulls, mut refused) = (0, 0);
    // Until it was caught in the act; how often that happens is up to the machine.
    while pulls < 40 || (refused == 0 && pulls < 5_000) {
        pulls += 1;
        match client.resolve_ref(path.to_str().unwrap()).await {
            Ok(artifact) => assert_eq!(artifact.digest, Digest::sha256(artifact.wasm_bytes().unwrap()).to_string()),
            Err(error) => {
                refused += 1;
                let text = assert_fails(Err::<(), _>(error), Integrity, 8);
                assert!(text.contains("changed since it was resolved") && text.contains("moving.wasm"), "{text}");
            }
        }
    }
    stop.store(true, Ordering::Relaxed);
    writer.join().unwrap();
    assert!(refused > 0, "none of {pulls} pulls met a change");
    for digest in client.list_cache() {
        client.verify_cached(&digest).unwrap();
    }
    assert_eq!(
        client.resolve_ref(path.to_str().unwrap()).await.unwrap().wasm_bytes().unwrap(),
        fs::read(&path).unwrap()
    );
}

#[tokio::test]
async fn a_symlink_to_a_file_is_the_file() {
    let home = Home::new();
    let path = write(&home, "real.wasm");
    let link = home.path().join("link.wasm");
    std::os::unix::fs::symlink(path, &link).unwrap();
    let artifact = home.client().resolve_ref(&link.display().to_string()).await.unwrap();
    assert_eq!(artifact.wasm_bytes().unwrap(), BYTES);
    assert!(fs::symlink_metadata(&artifact.local_path).unwrap().is_file());
}
