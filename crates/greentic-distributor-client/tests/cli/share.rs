//! What one of a user's caches holds, the other one opens offline.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use greentic_dist_testkit::TreeSnapshot;
use greentic_dist_testkit::fixture::{self, Artifact, Blob, WASM_TYPE, artifact_of, index};
use greentic_dist_testkit::process::{Outcome, Run};
use greentic_dist_testkit::scenario::{LyingRegistry, Scenario};
use serde_json::{Value, json};

use crate::support::BIN;

const GTPACK: &str = "application/vnd.greentic.gtpack.v1+zip";

fn pack() -> Artifact {
    artifact_of(vec![Blob::new(GTPACK, fixture::random_bytes(71, 30_000))], &[])
}

/// A component whose manifest names it.
fn component() -> Artifact {
    let manifest = json!({ "artifacts": { "component_wasm": "hello.wasm" } }).to_string();
    let manifest = Blob::new("application/vnd.greentic.component.manifest+json", manifest);
    artifact_of(vec![manifest, Blob::new(WASM_TYPE, fixture::random_bytes(72, 9_000))], &[])
}

/// A user with the caches that are used by default, and nothing in them.
struct User(tempfile::TempDir);

impl User {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// The cache of components, or of packs.
    fn cache(&self, name: &str) -> PathBuf {
        self.0.path().join("greentic").join(name)
    }

    fn run(&self, arguments: &[&str]) -> Outcome {
        let variables = ["GREENTIC_CACHE_DIR", "GREENTIC_DIST_CACHE_DIR", "GREENTIC_PACK_CACHE_DIR", "GREENTIC_HOME"];
        let run = variables.into_iter().fold(Run::new(BIN), |run, name| run.env(name, ""));
        run.env("XDG_CACHE_HOME", self.0.path()).args(arguments.iter().copied()).output()
    }

    /// Runs what ends well and prints a path.
    #[track_caller]
    fn path(&self, arguments: &[&str]) -> PathBuf {
        PathBuf::from(self.run(arguments).expect_code(0).line())
    }
}

fn file_of(path: &Path) -> (u64, u64) {
    let meta = fs::metadata(path).unwrap();
    (meta.dev(), meta.ino())
}

fn metadata(artifact: &Path) -> Value {
    serde_json::from_slice(&fs::read(artifact.with_file_name("metadata.json")).unwrap()).unwrap()
}

/// A registry with the pack as `acme/hello:1` and below an index as `acme/hello:index`.
fn serve() -> (LyingRegistry, String) {
    let registry = Scenario::new(pack()).start();
    let document = index(&[(pack().descriptor(), Some(("wasip2", "wasm")))]);
    registry.publish_document(&document, Some("index"));
    let pinned = registry.pinned_to(document.digest);
    (registry, pinned)
}

#[test]
fn what_was_pulled_is_a_pack_offline_by_its_pin_and_its_tag() {
    for tagged in [false, true] {
        let (user, (registry, _)) = (User::new(), serve());
        let pulled = user.path(&["pull", &registry.reference()]);
        registry.journal().clear();
        let reference = if tagged { registry.reference() } else { registry.pinned() };
        let packed = user.path(&["--offline", "pack", "--allow-tags", &reference]);
        assert!(packed.starts_with(user.cache("packs")) && packed.ends_with("pack.gtpack"), "{}", packed.display());
        assert_eq!(file_of(&packed), file_of(&pulled), "one copy");
        assert_eq!(metadata(&packed)["original_reference"], reference);
        assert!(registry.journal().is_empty(), "{:?}", registry.journal().lines());
        // From then on it needs nobody else: not even for what the tag means.
        fs::remove_dir_all(user.cache("components")).unwrap();
        assert_eq!(user.path(&["--offline", "pack", "--allow-tags", &reference]), packed);
        assert_eq!(fs::read(&packed).unwrap(), pack().layer_bytes());
    }
}

#[test]
fn what_was_fetched_as_a_pack_is_pulled_offline_and_said_to_come_from_no_network() {
    let (user, (registry, _)) = (User::new(), serve());
    let packed = user.path(&["pack", "--allow-tags", &registry.reference()]);
    registry.journal().clear();
    let outcome = user.run(&["--offline", "--json", "pull", &format!("oci://{}", registry.reference())]);
    let told = outcome.expect_code(0).json();
    assert_eq!(told["fetched"], false, "{told}");
    let pulled = PathBuf::from(told["cache_path"].as_str().unwrap());
    assert!(pulled.starts_with(user.cache("components")), "{}", pulled.display());
    assert_eq!(file_of(&packed), file_of(&pulled));
    assert!(registry.journal().is_empty(), "{:?}", registry.journal().lines());
    user.run(&["cache", "verify"]).expect_code(0);
}

#[test]
fn an_index_is_known_offline_by_its_tag_and_by_the_digest_that_was_told() {
    let (user, (registry, pinned)) = (User::new(), serve());
    let tag = registry.reference_to("index");
    user.path(&["pull", &tag]);
    registry.journal().clear();
    let packed = user.path(&["--offline", "pack", "--allow-tags", &tag]);
    assert_eq!(user.path(&["--offline", "pack", &pinned]), packed);
    assert_eq!(user.path(&["--offline", "pull", &pinned]), user.path(&["--offline", "pull", &tag]));
    assert!(registry.journal().is_empty(), "{:?}", registry.journal().lines());
    // One that was asked for before by a version that did not note it is noted when its tag is asked for again.
    let notes = fs::read_dir(user.cache("components").join("refs")).unwrap().map(|entry| entry.unwrap().path());
    let of_pin = |path: &PathBuf| fs::read_to_string(path).is_ok_and(|text| text.contains(&format!("oci://{pinned}")));
    let note = notes.into_iter().find(of_pin).unwrap();
    fs::remove_file(&note).unwrap();
    fs::remove_dir_all(user.cache("packs")).unwrap();
    user.run(&["--offline", "pull", &pinned]).expect_code(4);
    user.path(&["pull", &tag]);
    assert!(note.is_file());
    user.path(&["--offline", "pull", &pinned]);
}

#[test]
fn a_component_is_taken_offline_from_the_default_cache_with_its_manifest_and_its_name() {
    let (user, registry) = (User::new(), Scenario::new(component()).start());
    let pulled = user.path(&["pull", &registry.reference()]);
    let dir = tempfile::tempdir().unwrap();
    let (own, manifest) = (dir.path().join("own"), dir.path().join("pack.json"));
    registry.journal().clear();
    for reference in [registry.pinned(), registry.reference()] {
        let refs = json!({ "extensions": { "greentic.components": { "refs": [reference] } } });
        fs::write(&manifest, refs.to_string()).unwrap();
        let arguments = [
            "--offline",
            "--cache-dir",
            own.to_str().unwrap(),
            "components",
            "fetch",
            "--allow-tags",
            manifest.to_str().unwrap(),
        ];
        let outcome = user.run(&arguments);
        let path = PathBuf::from(outcome.expect_code(0).line().split_once(' ').unwrap().1);
        let entry = own.join(registry.artifact().manifest_digest.to_hex());
        assert_eq!(path, entry.join("hello.wasm"));
        assert_eq!(file_of(&path), file_of(&pulled));
        assert_eq!(fs::read(entry.join("component.manifest.json")).unwrap(), registry.artifact().layers[0].bytes);
        assert_eq!(metadata(&path)["manifest_wasm_name"], "hello.wasm");
        fs::remove_dir_all(&own).unwrap();
    }
    assert!(registry.journal().is_empty(), "{:?}", registry.journal().lines());
    // Its manifest is part of it: a component without the published one is not handed out.
    fs::remove_file(pulled.with_file_name("component.manifest.json")).unwrap();
    fs::write(pulled.with_file_name("component.manifest.json"), "{}").unwrap();
    let own = own.to_str().unwrap();
    user.run(&["--offline", "--cache-dir", own, "components", "fetch", "--allow-tags", manifest.to_str().unwrap()])
        .expect_code(4);
}

#[test]
fn what_the_other_cache_holds_must_prove_itself_and_nobody_else_may_write_to_it() {
    let (user, (registry, _)) = (User::new(), serve());
    let pulled = user.path(&["pull", &registry.reference()]);
    let offline = ["--offline", "pack", "--allow-tags", &registry.reference()];
    let nothing_came = || {
        user.run(&offline).expect_code(4);
        user.run(&["--offline", "pack", &registry.pinned()]).expect_code(4);
        let found = TreeSnapshot::of(&user.cache("packs"));
        assert!(!found.files().iter().any(|file| file.ends_with("pack.gtpack")), "{found:?}");
    };
    // Others may write to it.
    let mode = |mode| fs::set_permissions(user.cache("components"), fs::Permissions::from_mode(mode)).unwrap();
    mode(0o777);
    nothing_came();
    mode(0o700);
    // Its bytes are not those of the digest, nor is its manifest.
    for (name, bytes) in [("manifest.json", "{}".as_bytes()), ("component.wasm", &fixture::random_bytes(73, 30_000))] {
        let path = pulled.with_file_name(name);
        let good = fs::read(&path).unwrap();
        fs::remove_file(&path).unwrap();
        fs::write(&path, bytes).unwrap();
        nothing_came();
        fs::write(&path, good).unwrap();
    }
    user.path(&offline);
}

#[test]
fn another_layer_of_the_same_manifest_in_the_other_cache_is_no_pack() {
    let layers = vec![Blob::new(GTPACK, "the pack"), Blob::new(WASM_TYPE, fixture::component_bytes())];
    let (user, registry) = (User::new(), Scenario::new(artifact_of(layers, &[])).start());
    let pulled = user.path(&["pull", &registry.reference()]);
    assert_eq!(fs::read(pulled).unwrap(), fixture::component_bytes());
    user.run(&["--offline", "pack", &registry.pinned()]).expect_code(4);
    let packed = user.path(&["pack", &registry.pinned()]);
    assert_eq!(fs::read(packed).unwrap(), b"the pack");
}

#[test]
fn a_client_with_a_directory_of_its_own_choosing_opens_nothing_of_other_caches() {
    let (user, (registry, _)) = (User::new(), serve());
    user.path(&["pull", &registry.reference()]);
    let own = tempfile::tempdir().unwrap();
    let own = own.path().to_str().unwrap();
    user.run(&["--offline", "--cache-dir", own, "pull", &registry.pinned()]).expect_code(4);
}
