//! Login files of earlier versions: one line with the state of a secret store, in which the logins are one secret.
//!
//! The key of the secret stands beside it, joined by exclusive or with the hash of a master key that was empty unless the user
//! set one. Reading is all that is done here; the next save writes the new form.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use greentic_dist_types::{Digest, Secret};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, Salt};
use serde::Deserialize;

use super::{LEGACY_PREFIX, StoreCredentials};

/// The name of the secret that holds the logins.
const KEY: &str = "secrets://prod/dist/_/store/auth_state";

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

#[derive(Deserialize)]
struct State {
    secrets: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    key: String,
    versions: Vec<Saved>,
}

#[derive(Deserialize)]
struct Saved {
    version: u64,
    #[serde(default)]
    deleted: bool,
    #[serde(default)]
    record: Option<Record>,
}

#[derive(Deserialize)]
struct Record {
    meta: Meta,
    value: Vec<u8>,
    envelope: Envelope,
}

#[derive(Deserialize)]
struct Meta {
    uri: String,
}

#[derive(Deserialize)]
struct Envelope {
    algorithm: String,
    nonce: Vec<u8>,
    hkdf_salt: Vec<u8>,
    wrapped_dek: Vec<u8>,
}

#[derive(Deserialize)]
struct Logins {
    logins: Vec<StoreCredentials>,
}

/// The logins of such a file; none when it was never saved to. The error ends the sentence "… and".
pub(super) fn decode(text: &str, master_key: &[u8]) -> Result<Vec<StoreCredentials>, &'static str> {
    const MALFORMED: &str = "is damaged";
    let encoded = text.lines().find_map(|line| line.trim().strip_prefix(LEGACY_PREFIX)).ok_or(MALFORMED)?;
    if encoded.trim().is_empty() {
        return Ok(Vec::new());
    }
    let decoded = BASE64.decode(encoded.trim()).map_err(|_may_hold_a_secret| MALFORMED)?;
    let state: State = serde_json::from_slice(&decoded).map_err(|_may_hold_a_secret| MALFORMED)?;
    let newest = state
        .secrets
        .into_iter()
        .filter(|entry| entry.key == KEY)
        .flat_map(|entry| entry.versions)
        .filter(|version| !version.deleted)
        .filter_map(|version| version.record.map(|record| (version.version, record)))
        .max_by_key(|(version, _)| *version);
    let Some((_, record)) = newest else { return Ok(Vec::new()) };
    if record.envelope.algorithm != "aes256gcm" {
        return Err("is encrypted in a way that is not known any more");
    }
    let plain = open(record, master_key)
        .ok_or("cannot be decrypted: it is damaged, or GREENTIC_DEV_MASTER_KEY is not what it was then")?;
    let logins: Logins = serde_json::from_str(plain.expose()).map_err(|_may_hold_a_secret| MALFORMED)?;
    Ok(logins.logins)
}

fn open(record: Record, master_key: &[u8]) -> Option<Secret> {
    let Record { meta, mut value, envelope } = record;
    let master = Digest::sha256(master_key);
    let key: Vec<u8> = envelope.wrapped_dek.iter().zip(master.as_bytes().iter().cycle()).map(|(a, b)| a ^ b).collect();
    let uri = [meta.uri.as_bytes()];
    let secret = Salt::new(HKDF_SHA256, &envelope.hkdf_salt).extract(&key);
    let key: UnboundKey = secret.expand(&uri, &AES_256_GCM).ok()?.into();
    let nonce = Nonce::try_assume_unique_for_key(&envelope.nonce).ok()?;
    let plain = LessSafeKey::new(key).open_in_place(nonce, Aad::empty(), &mut value).ok()?;
    String::from_utf8(plain.to_vec()).ok().map(Secret::new)
}
