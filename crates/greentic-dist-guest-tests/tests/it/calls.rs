//! What a guest gets.

use std::fs;

use greentic_dist_types::Digest;
use greentic_distributor_dev::{DevConfig, DevDistributorSource};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::host::{Host, World, secrets, wit};

const PART: &[u8] = b"\0asm\x0d\0\x01\0 part";
const KIT: &[u8] = b"a pack";

/// A development tree with one component and one pack.
fn tree() -> (TempDir, DevDistributorSource) {
    let dir = tempfile::tempdir().unwrap();
    for (path, bytes) in [("components/part-1.2.0.wasm", PART), ("packs/kit-1.0.0.gtpack", KIT)] {
        let path = dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    let source = DevDistributorSource::new(DevConfig { root_dir: dir.path().to_path_buf(), ..DevConfig::default() });
    (dir, source)
}

fn secret(key: &str) -> wit::SecretRequirement {
    wit::SecretRequirement {
        key: key.to_owned(),
        required: true,
        description: Some("what for".to_owned()),
        scope: Some(secrets::SecretScope { env: "prod".to_owned(), tenant: "acme".to_owned(), team: None }),
        format: Some(secrets::SecretFormat::Json),
        schema: Some("{\"type\":\"object\"}".to_owned()),
        examples: vec!["{}".to_owned()],
    }
}

#[track_caller]
fn answer(said: wasmtime::Result<Result<String, String>>) -> Value {
    serde_json::from_str(&said.unwrap().unwrap()).unwrap()
}

#[test]
fn a_guest_resolves_a_component_and_gets_every_field() {
    let (_dir, source) = tree();
    let host = Host { secrets: vec![secret("api/key")], ..Host::new(source) };
    let Some(mut world) = World::start(host) else { return };
    assert_eq!(
        answer(world.ask("resolve-component", "kit", "part", "1.2.0")),
        json!({
            "status": "ready",
            "digest": Digest::sha256(PART).to_string(),
            "artifact": { "kind": "distributor_internal", "handle": "part" },
            "signature": { "verified": false, "signer": "", "extra": "not a signature" },
            "cache": { "size_bytes": PART.len(), "last_used_utc": "", "last_refreshed_utc": "" },
            "secret_requirements": [{
                "key": "api/key",
                "required": true,
                "description": "what for",
                "scope": { "env": "prod", "tenant": "acme" },
                "format": "json",
                "schema": { "type": "object" },
                "examples": ["{}"],
            }],
        })
    );
    assert_eq!(world.store.data().asked, [r#"resolve acme edge kit part 1.2.0 {"asked by":"a guest"}"#]);
}

#[test]
fn a_component_the_host_does_not_have_is_a_failed_one() {
    let (_dir, source) = tree();
    let Some(mut world) = World::start(Host::new(source)) else { return };
    for (component, version) in [("part", "1.2.1"), ("../part", "1.2.0"), ("part", "latest")] {
        let got = answer(world.ask("resolve-component", "kit", component, version));
        assert_eq!(got["status"], json!({ "failed": { "reason": "failed" } }), "{component} {version}");
    }
}

#[test]
fn a_guest_is_told_about_packs_in_both_forms() {
    let (_dir, source) = tree();
    let host = Host { secrets: vec![secret("token")], ..Host::new(source) };
    let Some(mut world) = World::start(host) else { return };
    let known = answer(world.ask("get-pack-status", "kit", "", ""));
    assert_eq!(known, json!({ "status": "ready", "size_bytes": KIT.len() }));
    assert_eq!(answer(world.ask("get-pack-status", "none", "", "")), json!("unknown pack"));

    let known = answer(world.ask("get-pack-status-v2", "kit", "", ""));
    assert_eq!((&known["status"], &known["extra"]), (&json!("ready"), &Value::Null));
    assert_eq!(known["secret_requirements"][0]["key"], json!("token"));
    assert_eq!(answer(world.ask("get-pack-status-v2", "none", "", ""))["status"], json!("missing"));
    assert_eq!(
        world.store.data().asked,
        ["status acme edge kit", "status acme edge none", "status-v2 acme edge kit", "status-v2 acme edge none"]
    );
}

#[test]
fn a_guest_warms_a_pack_and_is_stopped_by_a_host_that_cannot() {
    let (_dir, source) = tree();
    let Some(mut world) = World::start(Host::new(source)) else { return };
    assert_eq!(answer(world.ask("warm-pack", "kit", "", "")), Value::Null);
    assert_eq!(world.store.data().warm, ["kit"]);
    let stopped = world.ask("warm-pack", "none", "", "").unwrap_err();
    assert!(format!("{stopped:#}").contains("there is no pack none"), "{stopped:#}");
}

#[test]
fn a_secret_key_that_is_none_is_an_error_in_the_guest_not_a_trap() {
    let (_dir, source) = tree();
    let host = Host { secrets: vec![secret("../../etc/passwd")], ..Host::new(source) };
    let Some(mut world) = World::start(host) else { return };
    for call in ["resolve-component", "get-pack-status-v2"] {
        let error = world.ask(call, "kit", "part", "1.2.0").unwrap().unwrap_err();
        assert!(error.starts_with("invalid response: the secret key \"../../etc/passwd\""), "{error}");
    }
}
