//! The login file of tenants: what callers of 0.4 rely on, and what its predecessor got wrong.

use std::fs;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use greentic_distributor_client::{
    StoreAuth, StoreAuthError, StoreAuthErrorKind, StoreCredentials, load_login, save_login,
};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, Salt};
use serde_json::{Value, json};
use tempfile::TempDir;

const CANARY: &str = "canary-of-acme";

async fn save(path: &Path, tenant: &str, token: &str) -> Result<(), StoreAuthError> {
    save_login(path, path, tenant, token).await
}

async fn load(path: &Path, tenant: &str) -> Result<StoreCredentials, StoreAuthError> {
    load_login(path, path, tenant).await
}

fn document(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

#[tokio::test]
async fn d23_a_login_comes_back_as_it_was_saved_and_a_newer_one_replaces_it() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("config/dist/store-auth.json");
    save(&path, " acme ", "old").await.unwrap();
    save(&path, "other", "theirs").await.unwrap();
    save(&path, "acme", CANARY).await.unwrap();
    let login = load(&path, "acme").await.unwrap();
    let expected = StoreCredentials { tenant: "acme".into(), username: "acme".into(), token: CANARY.into() };
    assert_eq!(login, expected);
    assert_eq!(load(&path, " acme\n").await.unwrap(), expected, "what saving trims, loading trims");
    assert_eq!(load(&path, "other").await.unwrap().token, "theirs");
    assert_eq!(
        document(&path),
        json!({ "version": 1, "logins": [
            { "tenant": "other", "username": "other", "token": "theirs" },
            { "tenant": "acme", "username": "acme", "token": CANARY },
        ]}),
        "and nothing of the token before"
    );
}

#[tokio::test]
async fn a_missing_file_is_told_with_its_path_and_the_command_and_is_not_created() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("missing/store-auth.json");
    let error = load(&path, "acme").await.unwrap_err();
    assert_eq!(error.kind(), StoreAuthErrorKind::LoginRequired);
    let text = error.to_string();
    assert!(text.contains(&path.display().to_string()), "{text}");
    assert!(text.contains("greentic-dist auth login acme"), "{text}");
    assert!(!dir.path().join("missing").exists(), "loading creates nothing");
    let auth = StoreAuth::new(&path, &path);
    assert!(auth.logins().await.unwrap().is_empty() && !auth.remove_login("acme").await.unwrap());
    assert!(!dir.path().join("missing").exists());
}

#[tokio::test]
async fn an_unknown_tenant_and_a_login_without_its_parts_are_told_by_name() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("store-auth.json");
    save(&path, "acme", CANARY).await.unwrap();
    let error = load(&path, "acm").await.unwrap_err();
    assert!(matches!(&error, StoreAuthError::NoLogin { tenant, .. } if tenant == "acm"), "{error}");
    for (username, token) in [(" ", CANARY), ("acme", "")] {
        let text = json!({ "version": 1, "logins": [{ "tenant": "acme", "username": username, "token": token }] });
        fs::write(&path, text.to_string()).unwrap();
        let error = load(&path, "acme").await.unwrap_err();
        assert!(matches!(&error, StoreAuthError::Incomplete { .. }), "{error}");
        assert_eq!(error.kind(), StoreAuthErrorKind::LoginRequired);
        assert!(!format!("{error} {error:?}").contains(CANARY));
    }
}

#[tokio::test]
async fn what_cannot_be_a_login_is_refused_before_anything_is_touched() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("below/store-auth.json");
    let long = "x".repeat(40_000);
    for (tenant, token) in [
        ("", CANARY),
        (" \t", CANARY),
        ("acme", ""),
        ("acme", " "),
        ("a\nb", CANARY),
        ("acme", "a\nb"),
        ("acme", &long),
    ] {
        let error = save(&path, tenant, token).await.unwrap_err();
        assert!(matches!(&error, StoreAuthError::Message(_)), "{error}");
        assert_eq!(error.kind(), StoreAuthErrorKind::InvalidInput);
        assert!(!error.to_string().contains(CANARY));
    }
    assert!(!dir.path().join("below").exists());
}

#[tokio::test]
async fn d23_a_login_is_forgotten_and_the_others_stay() {
    let dir = TempDir::new().unwrap();
    let auth = StoreAuth::new(dir.path().join("store-auth.json"), "unused");
    auth.save_login("acme", CANARY).await.unwrap();
    auth.save_login("other", "theirs").await.unwrap();
    assert!(auth.remove_login(" acme ").await.unwrap());
    assert!(!auth.remove_login("acme").await.unwrap());
    assert_eq!(auth.logins().await.unwrap().len(), 1);
    assert!(!fs::read_to_string(auth.auth_path()).unwrap().contains(CANARY));
    assert_eq!(auth.state_path(), Path::new("unused"));
}

#[tokio::test]
async fn d06_a_token_is_in_no_debug_output() {
    let login = StoreCredentials { tenant: "acme".into(), username: "acme".into(), token: CANARY.into() };
    let shown = format!("{login:?} {login:#?}");
    assert!(shown.contains("acme") && !shown.contains(CANARY), "{shown}");
}

#[test]
fn logins_are_saved_and_loaded_without_a_runtime_too() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("store-auth.json");
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    let mut saving = std::pin::pin!(save(&path, "acme", CANARY));
    assert!(matches!(saving.as_mut().poll(&mut context), std::task::Poll::Ready(Ok(()))));
    let mut loading = std::pin::pin!(load(&path, "acme"));
    assert!(matches!(loading.as_mut().poll(&mut context), std::task::Poll::Ready(Ok(login)) if login.token == CANARY));
}

#[tokio::test]
async fn files_that_are_no_login_files_are_refused_by_their_place_and_not_by_their_words() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("store-auth.json");
    for text in [
        "{".to_owned(),
        "[]".to_owned(),
        format!("\"{CANARY}\""),
        format!(r#"{{"version":"{CANARY}","logins":[]}}"#),
        format!(r#"{{"version":1,"logins":["{CANARY}"]}}"#),
        format!(r#"{{"version":1,"logins":[{{"tenant":"acme","username":"acme","token":["{CANARY}"]}}]}}"#),
        format!(r#"{{"version":2,"logins":"{CANARY}"}}"#),
        format!("SECRETS_BACKEND_STATE={CANARY}"),
        format!("SECRETS_BACKEND_STATE={}", STANDARD_NO_PAD.encode(CANARY)),
    ] {
        fs::write(&path, &text).unwrap();
        let error = load(&path, "acme").await.unwrap_err();
        assert!(matches!(&error, StoreAuthError::SecretStore(_)), "{text}: {error}");
        assert_eq!(error.kind(), StoreAuthErrorKind::Refused);
        let shown = format!("{error} {error:?}");
        assert!(shown.contains("store-auth.json") && !shown.contains(CANARY), "{shown}");
        // Saving does not write over what it cannot read.
        save(&path, "acme", "new").await.unwrap_err();
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
    }
    // Earlier versions left an empty file behind a look at it.
    fs::write(&path, "").unwrap();
    assert!(matches!(load(&path, "acme").await, Err(StoreAuthError::NoLogin { .. })));
    save(&path, "acme", CANARY).await.unwrap();
}

/// A file as versions before this one saved it.
fn legacy(master_key: &str, algorithm: &str, logins: &Value) -> String {
    let uri = "secrets://prod/dist/_/store/auth_state";
    let (salt, nonce, dek) = ([3_u8; 32], [5_u8; 12], [7_u8; 32]);
    let master = greentic_dist_types::Digest::sha256(master_key.as_bytes());
    let wrapped: Vec<u8> = dek.iter().zip(master.as_bytes()).map(|(a, b)| a ^ b).collect();
    let uris = [uri.as_bytes()];
    let secret = Salt::new(HKDF_SHA256, &salt).extract(&dek);
    let key: UnboundKey = secret.expand(&uris, &AES_256_GCM).unwrap().into();
    let mut value = logins.to_string().into_bytes();
    let nonce_of = Nonce::assume_unique_for_key(nonce);
    LessSafeKey::new(key).seal_in_place_append_tag(nonce_of, Aad::empty(), &mut value).unwrap();
    let record = json!({
        "meta": { "uri": uri, "visibility": "team", "contentType": "json" },
        "value": value,
        "envelope": { "algorithm": algorithm, "nonce": nonce, "hkdf_salt": salt, "wrapped_dek": wrapped },
    });
    let state = json!({ "secrets": [
        { "key": "secrets://prod/dist/_/other", "versions": [] },
        { "key": uri, "versions": [
            { "version": 3, "deleted": false, "record": record },
            { "version": 1, "deleted": false, "record": { "meta": { "uri": uri }, "value": [], "envelope":
                { "algorithm": "none", "nonce": [], "hkdf_salt": [], "wrapped_dek": [] } } },
            { "version": 4, "deleted": true, "record": null },
        ]},
    ]});
    format!("# saved\nSECRETS_BACKEND_STATE={}\n", STANDARD_NO_PAD.encode(state.to_string()))
}

#[tokio::test]
async fn a_file_of_an_earlier_version_is_read_and_rewritten_by_the_next_login() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("store-auth.json");
    let logins = json!({ "logins": [{ "tenant": "acme", "username": "acme", "token": CANARY }] });
    let text = legacy("", "aes256gcm", &logins);
    fs::write(&path, &text).unwrap();
    assert_eq!(load(&path, "acme").await.unwrap().token, CANARY);
    assert_eq!(fs::read_to_string(&path).unwrap(), text, "loading writes nothing");
    save(&path, "other", "theirs").await.unwrap();
    assert_eq!(document(&path)["version"], 1);
    assert_eq!(load(&path, "acme").await.unwrap().token, CANARY);
    assert_eq!(load(&path, "other").await.unwrap().token, "theirs");
}

#[tokio::test]
async fn a_file_of_an_earlier_version_that_cannot_be_decrypted_is_refused_with_the_next_step() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("store-auth.json");
    let logins = json!({ "logins": [{ "tenant": "acme", "username": "acme", "token": CANARY }] });
    for (text, why) in [
        (legacy("another key", "aes256gcm", &logins), "GREENTIC_DEV_MASTER_KEY"),
        (legacy("", "xchacha20", &logins), "not known any more"),
        (legacy("", "aes256gcm", &json!({ "logins": CANARY })), "is damaged"),
    ] {
        fs::write(&path, &text).unwrap();
        for error in [load(&path, "acme").await.unwrap_err(), save(&path, "acme", "new").await.unwrap_err()] {
            assert_eq!(error.kind(), StoreAuthErrorKind::Refused);
            let shown = error.to_string();
            assert!(shown.contains(why) && shown.contains("auth login` again"), "{shown}");
            assert!(shown.contains("older greentic-dist") && !shown.contains(CANARY), "{shown}");
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
    }
}

#[cfg(unix)]
mod on_unix {
    use super::*;
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};

    #[tokio::test]
    async fn d22_the_file_is_for_this_user_alone_whatever_it_was_before() {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("greentic/dist/store-auth.json");
        save(&path, "acme", CANARY).await.unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        load(&path, "acme").await.unwrap();
        assert_eq!(mode(&path), 0o600);
    }

    #[tokio::test]
    async fn a_symbolic_link_and_a_file_of_another_user_are_refused() {
        let dir = TempDir::new().unwrap();
        let (path, link) = (dir.path().join("store-auth.json"), dir.path().join("link.json"));
        save(&path, "acme", CANARY).await.unwrap();
        symlink(&path, &link).unwrap();
        for error in [load(&link, "acme").await.unwrap_err(), save(&link, "acme", "new").await.unwrap_err()] {
            assert_eq!(error.kind(), StoreAuthErrorKind::Refused, "{error}");
            assert!(error.to_string().contains("symbolic link"), "{error}");
        }
        assert_eq!(load(&path, "acme").await.unwrap().token, CANARY);
        // Only the superuser can give a file away.
        if chown(&path, Some(12_345), None).is_ok() {
            let error = load(&path, "acme").await.unwrap_err();
            assert!(
                error.kind() == StoreAuthErrorKind::Refused && error.to_string().contains("another user"),
                "{error}"
            );
        }
    }

    #[tokio::test]
    async fn a_login_waits_for_another_one_and_loading_waits_for_nobody() {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("store-auth.json");
        save(&path, "acme", CANARY).await.unwrap();
        let lock = fs::File::open(dir.path().join(".store-auth.json.lock")).unwrap();
        lock.lock().unwrap();
        // Reading waits for nobody.
        assert_eq!(load(&path, "acme").await.unwrap().token, CANARY);
        let saving = tokio::spawn({
            let path = path.clone();
            async move { save(&path, "acme", "new").await }
        });
        tokio::task::yield_now().await;
        assert!(!saving.is_finished());
        lock.unlock().unwrap();
        saving.await.unwrap().unwrap();
        assert_eq!(load(&path, "acme").await.unwrap().token, "new");
    }
}
