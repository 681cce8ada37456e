//! `fixture://`: files of one directory, for tests of those who use this crate.

use std::fs;

use greentic_distributor_client::dist::DistErrorKind::{InvalidInput, NotFound};
use greentic_distributor_client::dist::{ArtifactSourceKind, DistClient, DistOptions, ResolvedVia};

use crate::support::{Home, assert_fails};

fn with_fixtures(home: &Home) -> DistClient {
    let dir = home.path().join("fixtures");
    fs::create_dir_all(dir.join("sub")).unwrap();
    fs::write(dir.join("q.wasm"), b"\0asm q").unwrap();
    fs::write(dir.join("sub").join("r.wasm"), b"\0asm r").unwrap();
    fs::write(dir.join("describe.cbor"), b"x").unwrap();
    home.builder().options(DistOptions { fixture_dir: Some(dir), ..home.options() }).build()
}

#[tokio::test]
async fn a_fixture_is_a_file_of_the_fixture_directory() {
    let home = Home::new();
    let client = with_fixtures(&home);
    for reference in ["fixture://q", "fixture://q.wasm", "fixture:///q"] {
        let source = client.parse_source(reference).unwrap();
        assert_eq!((source.kind, source.dev_mode), (ArtifactSourceKind::Fixture, true));
        let artifact = client.resolve_ref(reference).await.unwrap();
        assert_eq!(artifact.wasm_bytes().unwrap(), b"\0asm q");
        assert_eq!(artifact.component_id, "q");
        assert_eq!(artifact.descriptor.resolved_via, ResolvedVia::Fixture);
        assert!(artifact.describe_artifact_ref.unwrap().ends_with("describe.cbor"));
    }
    assert_eq!(client.resolve_ref("fixture://sub/r").await.unwrap().wasm_bytes().unwrap(), b"\0asm r");
}

#[tokio::test]
async fn row_15_a_fixture_never_leaves_its_directory() {
    let home = Home::new();
    let client = with_fixtures(&home);
    fs::write(home.outside().join("x.wasm"), b"secret").unwrap();
    std::os::unix::fs::symlink(home.outside().join("x.wasm"), home.path().join("fixtures/link.wasm")).unwrap();
    for reference in [
        "fixture://../outside/x",
        "fixture://sub/../../outside/x",
        "fixture://../../../../../../../../etc/passwd",
        "fixture://link",
        "fixture://..",
    ] {
        assert_fails(client.resolve_ref(reference).await, InvalidInput, 2);
    }
    assert!(client.list_cache().is_empty());
}

#[tokio::test]
async fn a_missing_fixture_is_not_found_and_a_missing_directory_is_said() {
    let home = Home::new();
    assert_fails(with_fixtures(&home).resolve_ref("fixture://nope").await, NotFound, 3);
    let text = assert_fails(home.client().resolve_ref("fixture://q").await, InvalidInput, 2);
    assert!(text.contains("GREENTIC_FIXTURE_DIR"), "{text}");
}
