//! The checks, each from facts, policy and advisory to one finding.
//!
//! Every check fails closed: a list that cannot be read refuses everything, and outside of development what is demanded and
//! not known fails.

use std::io::{self, Read};
use std::path::Path;

use greentic_dist_types::{Digest, SafeText};
use semver::Version;
use serde_json::{Value, json};

use super::facts::Facts;
use super::record::Proven;
use super::report::{Finding, VerificationOutcome};
use super::{AdvisorySet, VerificationPolicy, advisory};
use crate::dist::client::Inner;
use crate::dist::{DistError, IntegrationErrorCode, ResolvedArtifact};
use crate::regular_file;

const DIGEST: &str = "digest_allowed";
const MEDIA_TYPE: &str = "media_type_allowed";
const ISSUER: &str = "issuer_allowed";
const OPERATOR: &str = "operator_version_compatible";
const CONTENT: &str = "content_digest_match";
const SIGNATURE_PRESENT: &str = "signature_present";
/// The name of the check whose outcome is kept in the entry.
pub(super) const SIGNATURE_VERIFIED: &str = "signature_verified";
const SBOM: &str = "sbom_present";

/// Bytes read at once while hashing.
const CHUNK_BYTES: usize = 256 << 10;

use VerificationOutcome::{Failed, Passed, Skipped, Warning};

/// The checks that need no bytes.
pub(super) fn preliminary(
    inner: &Inner,
    facts: &Facts<'_>,
    advisory: Option<&AdvisorySet>,
    policy: &VerificationPolicy,
) -> Vec<Finding> {
    let mut findings = vec![
        digest_allowed(facts, advisory, policy),
        media_type_allowed(facts, policy),
        issuer_allowed(facts, advisory, policy),
        operator_version_compatible(facts, advisory, policy),
    ];
    findings.extend(advisory.and_then(|advisory| advisory::current(inner, advisory, policy)));
    findings
}

/// A warning in development, a failure elsewhere.
const fn strict(policy: &VerificationPolicy) -> VerificationOutcome {
    if policy.environment.is_strict() { Failed } else { Warning }
}

/// Adds to the payload of a check.
fn with(mut payload: Value, name: &str, value: Value) -> Value {
    if let Some(object) = payload.as_object_mut() {
        object.insert(name.to_owned(), value);
    }
    payload
}

fn listed(texts: &[&String]) -> String {
    let shown: Vec<String> = texts.iter().take(4).map(|text| format!("`{}`", SafeText::excerpt(text, 96))).collect();
    let more =
        if texts.len() > shown.len() { format!(" and {} more", texts.len() - shown.len()) } else { String::new() };
    format!("{}{more}", shown.join(", "))
}

fn digest_allowed(facts: &Facts<'_>, advisory: Option<&AdvisorySet>, policy: &VerificationPolicy) -> Finding {
    let mut payload = json!({ "digest": facts.descriptor.digest });
    if let Some(advisory) = advisory {
        payload = with(payload, "advisory_version", json!(advisory.version));
    }
    let denied = policy.deny_digests.iter().chain(advisory.iter().flat_map(|advisory| &advisory.deny_digests));
    let (mut matched, mut malformed) = (Vec::new(), Vec::new());
    for text in denied {
        match text.parse::<Digest>() {
            Ok(digest) if facts.digests.contains(&digest) => matched.push(text),
            Ok(_) => {}
            Err(_) => malformed.push(text),
        }
    }
    if !matched.is_empty() {
        let detail = format!("the artifact is denied: {}", listed(&matched));
        let payload = with(payload, "denied", json!(matched));
        return Finding::new(DIGEST, Failed, detail, Some(payload)).refusing_with(IntegrationErrorCode::DigestDenied);
    }
    if !malformed.is_empty() {
        let detail = format!("the list of denied digests has entries that are no digests: {}", listed(&malformed));
        let payload = with(payload, "malformed", json!(malformed));
        return Finding::new(DIGEST, Failed, detail, Some(payload))
            .refusing_with(IntegrationErrorCode::PolicyInputInvalid);
    }
    if !facts.malformed.is_empty() {
        let texts: Vec<&String> = facts.malformed.iter().collect();
        let detail = format!("the artifact has digests that cannot be looked for: {}", listed(&texts));
        return Finding::new(DIGEST, Failed, detail, Some(payload))
            .refusing_with(IntegrationErrorCode::PolicyInputInvalid);
    }
    Finding::new(DIGEST, Passed, "no digest of the artifact is denied", Some(payload))
}

fn media_type_allowed(facts: &Facts<'_>, policy: &VerificationPolicy) -> Finding {
    let media_type = &facts.descriptor.media_type;
    let payload = json!({ "media_type": media_type });
    if policy.allowed_media_types.is_empty() {
        return Finding::new(MEDIA_TYPE, Skipped, "no media types are demanded", Some(payload));
    }
    let payload = with(payload, "allowed_media_types", json!(policy.allowed_media_types));
    let shown = SafeText::new(media_type);
    if policy.allowed_media_types.contains(media_type) {
        return Finding::new(MEDIA_TYPE, Passed, format!("media type `{shown}` is allowed"), Some(payload));
    }
    Finding::new(MEDIA_TYPE, Failed, format!("media type `{shown}` is not allowed"), Some(payload))
        .refusing_with(IntegrationErrorCode::MediaTypeRejected)
}

/// The form in which issuers are looked for in a list of denied ones.
fn folded(issuer: &str) -> String {
    issuer.trim().trim_end_matches('/').to_ascii_lowercase()
}

fn issuer_allowed(facts: &Facts<'_>, advisory: Option<&AdvisorySet>, policy: &VerificationPolicy) -> Finding {
    let environment = policy.environment.name();
    let denied: Vec<&String> =
        policy.deny_issuers.iter().chain(advisory.iter().flat_map(|advisory| &advisory.deny_issuers)).collect();
    if denied.iter().any(|text| folded(text).is_empty()) {
        let payload = json!({ "issuer": facts.annotation("issuer"), "environment": environment });
        return Finding::new(ISSUER, Failed, "the list of denied issuers has blank entries", Some(payload))
            .refusing_with(IntegrationErrorCode::PolicyInputInvalid);
    }
    let Some(issuer) = facts.annotation("issuer") else {
        let payload = json!({ "issuer": null, "trusted_issuers": policy.trusted_issuers, "environment": environment });
        if policy.trusted_issuers.is_empty() {
            return Finding::new(ISSUER, Warning, "the issuer is missing", Some(payload));
        }
        let detail = "the issuer is missing, and only trusted ones are accepted";
        return Finding::new(ISSUER, strict(policy), detail, Some(payload))
            .refusing_with(IntegrationErrorCode::IssuerRejected);
    };
    let shown = SafeText::new(issuer);
    // What the publisher wrote, and nobody signed.
    let payload = json!({ "issuer": issuer, "verified": false, "environment": environment });
    if denied.iter().any(|text| folded(text) == folded(issuer)) {
        return Finding::new(ISSUER, Failed, format!("issuer `{shown}` is denied"), Some(payload))
            .refusing_with(IntegrationErrorCode::IssuerRejected);
    }
    if policy.trusted_issuers.is_empty() {
        let detail = format!("issuer `{shown}`, as the publisher states it, is not denied");
        return Finding::new(ISSUER, Passed, detail, Some(payload));
    }
    let payload = with(payload, "trusted_issuers", json!(policy.trusted_issuers));
    if policy.trusted_issuers.iter().any(|trusted| trusted == issuer) {
        let detail = format!("issuer `{shown}`, as the publisher states it, is a trusted one");
        return Finding::new(ISSUER, Passed, detail, Some(payload));
    }
    Finding::new(ISSUER, strict(policy), format!("issuer `{shown}` is not a trusted one"), Some(payload))
        .refusing_with(IntegrationErrorCode::IssuerRejected)
}

fn operator_version_compatible(
    facts: &Facts<'_>,
    advisory: Option<&AdvisorySet>,
    policy: &VerificationPolicy,
) -> Finding {
    let demanded: Vec<&str> = [
        policy.minimum_operator_version.as_deref(),
        advisory.and_then(|advisory| advisory.minimum_operator_version.as_deref()),
        facts.annotation("minimum_operator_version"),
    ]
    .into_iter()
    .flatten()
    .collect();
    let stated = facts.annotation("operator_version");
    let environment = policy.environment.name();
    let payload =
        |required: Option<&str>| json!({ "required": required, "actual": stated, "environment": environment });
    let finding = |outcome, detail: String, required: Option<&str>| {
        Finding::new(OPERATOR, outcome, detail, Some(payload(required)))
    };
    let parsed: Result<Vec<Version>, &str> =
        demanded.into_iter().map(|text| Version::parse(text).or(Err(text))).collect();
    let required = match parsed {
        Ok(versions) => versions.into_iter().max(),
        Err(text) => {
            let detail =
                format!("the minimum operator version `{}` is no semantic version", SafeText::excerpt(text, 64));
            return finding(strict(policy), detail, Some(text));
        }
    };
    let Some(required) = required else {
        return finding(Skipped, "no version of the operator is demanded".to_owned(), None);
    };
    let required_text = required.to_string();
    let Some(stated) = stated else {
        let detail = format!("the operator version is unknown, and at least {required} is demanded");
        return finding(strict(policy), detail, Some(&required_text));
    };
    let shown = SafeText::excerpt(stated, 64);
    match Version::parse(stated) {
        Err(_) => {
            let detail = format!("the operator version `{shown}` is no semantic version");
            finding(strict(policy), detail, Some(&required_text))
        }
        Ok(actual) if actual >= required => {
            finding(Passed, format!("operator version {actual} satisfies minimum {required}"), Some(&required_text))
        }
        Ok(actual) => finding(
            strict(policy),
            format!("operator version {actual} does not satisfy minimum {required}"),
            Some(&required_text),
        ),
    }
}

/// Whether the bytes are the promised ones: hashed here, unless they were hashed from end to end a moment ago.
pub(super) fn content(artifact: &ResolvedArtifact, proven: Proven) -> Result<Finding, DistError> {
    artifact.validate_payload()?;
    let Some(expected) = artifact.promised_content() else {
        let detail = format!("`{}` is no digest the bytes could have", SafeText::new(&artifact.descriptor.digest));
        let payload = json!({ "expected": artifact.descriptor.digest, "actual": null });
        return Ok(
            Finding::new(CONTENT, Failed, detail, Some(payload)).refusing_with(IntegrationErrorCode::DigestMismatch)
        );
    };
    let wrong = |detail: String, actual: Option<Digest>| {
        let payload = json!({ "expected": expected, "actual": actual });
        Finding::new(CONTENT, Failed, detail, Some(payload)).refusing_with(IntegrationErrorCode::DigestMismatch)
    };
    let actual = match (proven, &artifact.wasm_bytes, &artifact.wasm_path) {
        (Proven::Wrong(mismatch), ..) => {
            let actual = match mismatch {
                greentic_dist_types::Mismatch::Digest { actual, .. } => Some(actual),
                _ => None,
            };
            return Ok(wrong(format!("the bytes are not the promised ones: {mismatch}"), actual));
        }
        (Proven::Whole(digest), ..) => digest,
        (Proven::No, Some(bytes), _) => Digest::of(expected.algorithm(), bytes),
        (Proven::No, None, path) => {
            let path = path.as_ref().unwrap_or(&artifact.local_path);
            hash_file(path, &expected).map_err(|error| DistError::io(path, error))?
        }
    };
    if actual == expected {
        return Ok(Finding::new(CONTENT, Passed, "the bytes are the promised ones", None));
    }
    Ok(wrong(format!("the bytes are not the promised ones: expected {expected}, got {actual}"), Some(actual)))
}

/// Hashes a regular file, a piece at a time.
fn hash_file(path: &Path, expected: &Digest) -> io::Result<Digest> {
    let (mut file, mut hasher) = (regular_file::open(path)?, expected.hasher());
    let mut buffer = vec![0_u8; CHUNK_BYTES];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(hasher.finish()),
            Ok(count) => hasher.update(buffer.get(..count).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// The checks of what came with the artifact.
pub(super) fn evidence(facts: &Facts<'_>, policy: &VerificationPolicy) -> [Finding; 3] {
    [signature_present(facts, policy), signature_verified(facts, policy), sbom_present(facts, policy)]
}

fn signature_present(facts: &Facts<'_>, policy: &VerificationPolicy) -> Finding {
    let (count, required) = (facts.descriptor.signature_refs.len(), policy.require_signature);
    let payload = json!({ "count": count, "required": required, "environment": policy.environment.name() });
    let (outcome, detail) = match (count, required) {
        (0, true) => (strict(policy), "no signature is known, and one is required".to_owned()),
        (0, false) => (Warning, "no signature is known".to_owned()),
        (count, _) => (Passed, format!("{count} signatures are known, none of them verified")),
    };
    Finding::new(SIGNATURE_PRESENT, outcome, detail, Some(payload))
        .refusing_with(IntegrationErrorCode::SignatureRequired)
}

/// Never passes: no signature is verified by this version.
fn signature_verified(facts: &Facts<'_>, policy: &VerificationPolicy) -> Finding {
    let (count, required) = (facts.descriptor.signature_refs.len(), policy.require_signature);
    let payload = json!({
        "implemented": false, "signature_count": count, "required": required, "environment": policy.environment.name(),
    });
    let (outcome, detail) = match (count, required) {
        (_, true) => (strict(policy), "a verified signature is required, and this version verifies none"),
        (0, false) => (Skipped, "there is no signature to verify"),
        (_, false) => (Warning, "this version verifies no signatures"),
    };
    Finding::new(SIGNATURE_VERIFIED, outcome, detail, Some(payload))
        .refusing_with(IntegrationErrorCode::SignatureRequired)
}

fn sbom_present(facts: &Facts<'_>, policy: &VerificationPolicy) -> Finding {
    let (count, required) = (facts.descriptor.sbom_refs.len(), policy.require_sbom);
    let payload = json!({ "count": count, "required": required });
    match (count, required) {
        (0, true) => {
            let detail = "no bill of materials is known, and one is required";
            Finding::new(SBOM, Failed, detail, Some(payload))
        }
        (0, false) => Finding::new(SBOM, Warning, "no bill of materials is known", Some(payload)),
        (count, _) => Finding::new(SBOM, Passed, format!("{count} bills of materials are known"), Some(payload)),
    }
}
