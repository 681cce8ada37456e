//! What is known of an artifact, held against policies and advisories.

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use greentic_dist_testkit::fixture::{self, Artifact, Blob, WASM_TYPE, artifact_of};
use greentic_dist_testkit::scenario::{LyingRegistry, Scenario};
use greentic_distributor_client::dist::{
    AdvisorySet, CachePolicy, DistClient, DistError, DistErrorKind, IntegrityState, ResolvePolicy, ResolvedArtifact,
    VerificationCheck, VerificationEnvironment as Env, VerificationOutcome as Outcome, VerificationPolicy,
    VerificationReport,
};
use serde_json::json;

use crate::support::{Home, assert_fails, other, registry, sample};

const NAMES: [&str; 8] = [
    "digest_allowed",
    "media_type_allowed",
    "issuer_allowed",
    "operator_version_compatible",
    "content_digest_match",
    "signature_present",
    "signature_verified",
    "sbom_present",
];

pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

pub(crate) fn policy(environment: Env) -> VerificationPolicy {
    VerificationPolicy { environment, ..VerificationPolicy::default() }
}

pub(crate) fn advisory(version: &str) -> AdvisorySet {
    AdvisorySet {
        version: version.to_owned(),
        issued_at: now() - 100,
        source: "test".to_owned(),
        deny_digests: Vec::new(),
        deny_issuers: Vec::new(),
        minimum_operator_version: None,
        release_train: None,
        expires_at: None,
        next_refresh_hint: None,
    }
}

/// The check of this name.
#[track_caller]
pub(crate) fn check<'a>(checks: &'a [VerificationCheck], name: &str) -> &'a VerificationCheck {
    checks.iter().find(|check| check.name == name).unwrap_or_else(|| panic!("there is no check {name}: {checks:?}"))
}

fn failed(report: &VerificationReport) -> Vec<&str> {
    let failed = report.checks.iter().filter(|check| check.outcome == Outcome::Failed);
    failed.map(|check| check.name.as_str()).collect()
}

/// An artifact whose publisher states these things about it.
pub(crate) fn stating(annotations: &[(&str, &str)]) -> Artifact {
    artifact_of(vec![Blob::new(WASM_TYPE, fixture::random_bytes(1, 4_000))], annotations)
}

async fn pulled(home: &Home, registry: &LyingRegistry) -> (DistClient, ResolvedArtifact) {
    let client = home.client();
    let artifact = client.resolve_ref(&registry.reference()).await.unwrap();
    (client, artifact)
}

#[tokio::test]
async fn an_artifact_of_a_registry_passes_the_default_policy_by_eight_checks_in_order() {
    let (home, registry) = (Home::new(), registry());
    let (client, artifact) = pulled(&home, &registry).await;
    let asked = registry.journal().len();
    let report = client.verify_artifact(&artifact, None, &VerificationPolicy::default()).unwrap();
    assert_eq!(registry.journal().len(), asked, "nobody is asked");
    let outcomes: Vec<(&str, Outcome)> =
        report.checks.iter().map(|check| (check.name.as_str(), check.outcome)).collect();
    let expected = [
        Outcome::Passed,
        Outcome::Skipped,
        Outcome::Warning,
        Outcome::Skipped,
        Outcome::Passed,
        Outcome::Warning,
        Outcome::Skipped,
        Outcome::Warning,
    ];
    assert_eq!(outcomes, NAMES.into_iter().zip(expected).collect::<Vec<_>>());
    assert!(report.passed && report.errors.is_empty());
    assert_eq!(report.warnings.len(), 3);
    assert!(report.warnings[0].contains("missing"), "{:?}", report.warnings);
    let pin = registry.artifact().manifest_digest.to_string();
    assert_eq!((&report.artifact_digest, &report.canonical_ref), (&pin, &artifact.descriptor.canonical_ref));
    assert_eq!(report.policy_fingerprint, "sha256:7dc5aaf3d86c4578ad5f5526cee94041ebe67af5e4a34251ba15ae484c48af53");
    assert_eq!(report.advisory_version, None);
    assert_eq!(check(&report.checks, "content_digest_match").payload, None);
    assert_eq!(check(&report.checks, "digest_allowed").payload, Some(json!({ "digest": pin })));
    assert_eq!(check(&report.checks, "media_type_allowed").payload, Some(json!({ "media_type": WASM_TYPE })));
    assert_eq!(
        check(&report.checks, "signature_verified").payload,
        Some(json!({ "implemented": false, "signature_count": 0, "required": false, "environment": "dev" }))
    );
}

#[tokio::test]
async fn what_was_found_is_noted_in_the_entry_and_nothing_else_of_it_changes() {
    let (home, registry) = (Home::new(), registry());
    let (client, artifact) = pulled(&home, &registry).await;
    let before = client.stat_cache(&artifact.digest).unwrap();
    assert_eq!((before.last_verified_at, before.advisory_epoch, before.signature_summary.as_ref()), (None, None, None));
    let report = client.verify_artifact(&artifact, Some(&advisory("7")), &policy(Env::Prod)).unwrap();
    assert_eq!(report.advisory_version.as_deref(), Some("7"));
    let json = serde_json::to_vec(&before).unwrap();
    let fingerprint = greentic_dist_types::Digest::sha256(&json).to_string();
    assert_eq!(report.cache_entry_fingerprint, Some(fingerprint), "of the entry as it was");
    let after = client.stat_cache(&artifact.digest).unwrap();
    assert_eq!(after.advisory_epoch, Some(7));
    assert!(after.last_verified_at.unwrap() >= before.fetched_at);
    let summary = after.signature_summary.clone().unwrap();
    assert_eq!(summary["outcome"], "skipped");
    let cleared = greentic_distributor_client::dist::CacheEntry {
        last_verified_at: None,
        advisory_epoch: None,
        signature_summary: None,
        ..after
    };
    assert_eq!(cleared, before);
    // A version that is no number has no epoch; a report that failed is noted, too.
    let denied = VerificationPolicy { deny_digests: vec![artifact.digest.clone()], ..policy(Env::Dev) };
    assert!(!client.verify_artifact(&artifact, Some(&advisory("2026-01")), &denied).unwrap().passed);
    let entry = client.stat_cache(&artifact.digest).unwrap();
    assert_eq!((entry.advisory_epoch, entry.state.into()), (None, IntegrityState::Ready));
}

#[tokio::test]
async fn a_younger_advisory_is_held_against_what_is_cached_without_a_download() {
    let (home, registry) = (Home::new(), registry());
    let (client, artifact) = pulled(&home, &registry).await;
    let asked = registry.journal().len();
    for (version, denied) in [("1", false), ("2", true)] {
        let mut set = advisory(version);
        if denied {
            set.deny_digests.push(artifact.digest.clone());
        }
        let bytes = serde_json::to_vec(&set).unwrap();
        let set = client.load_advisory_set(&bytes, "feed").unwrap();
        assert_eq!(set.source, "feed");
        let report = client.verify_artifact(&artifact, Some(&set), &policy(Env::Prod)).unwrap();
        assert_eq!(report.passed, !denied);
        assert_eq!(report.errors.iter().any(|error| error.contains("denied")), denied);
        assert_eq!(client.stat_cache(&artifact.digest).unwrap().advisory_epoch, version.parse().ok());
    }
    assert_eq!(registry.journal().len(), asked);
}

#[tokio::test]
async fn row_37_a_deny_list_matches_the_manifest_the_index_and_the_bytes_whatever_they_are_wrapped_in() {
    // Row 37: the same bytes under another manifest and another index.
    let (home, registry) = (Home::new(), registry());
    let rewrapped = artifact_of(vec![Blob::new(WASM_TYPE, sample().layer_bytes().to_vec())], &[("again", "yes")]);
    assert_ne!(rewrapped.manifest_digest, sample().manifest_digest);
    registry.publish(&rewrapped, "again");
    let index = fixture::index(&[(rewrapped.descriptor(), Some(("wasip2", "wasm")))]);
    registry.publish_document(&index, Some("index"));
    let client = home.client();
    let source = client.parse_source(&registry.reference_to("index")).unwrap();
    let descriptor = client.resolve(source, ResolvePolicy).await.unwrap();
    let deny = |digest: String| VerificationPolicy { deny_digests: vec![digest], ..policy(Env::Dev) };
    let everything = [index.digest, rewrapped.manifest_digest, rewrapped.layer_digest(), rewrapped.config.digest];
    // Before a byte was moved.
    for digest in everything {
        let decision = client.apply_policy(&descriptor, None, &deny(digest.to_string()));
        assert!(!decision.passed, "{digest}");
        assert!(decision.errors[0].contains("denied"));
        let names: Vec<_> = decision.checks.iter().map(|check| check.name.as_str()).collect();
        assert_eq!(names, NAMES[..4]);
    }
    let other = deny(sample().manifest_digest.to_string());
    assert!(client.apply_policy(&descriptor, None, &other).passed);
    // When it is here, and in a process that never saw the registry.
    client.fetch(&descriptor, CachePolicy).await.unwrap();
    let artifact = home.offline().open_cached(&rewrapped.layer_digest().to_string()).unwrap();
    for digest in everything {
        let report = home.offline().verify_artifact(&artifact, None, &deny(digest.to_string())).unwrap();
        assert_eq!(failed(&report), ["digest_allowed"], "{digest}");
        let mut advisory = advisory("1");
        advisory.deny_digests = vec![digest.to_string()];
        let report = home.offline().verify_artifact(&artifact, Some(&advisory), &policy(Env::Dev)).unwrap();
        assert_eq!(failed(&report), ["digest_allowed"], "{digest}");
    }
    assert!(home.offline().verify_artifact(&artifact, None, &other).unwrap().passed);
}

#[tokio::test]
async fn every_index_that_led_to_an_artifact_can_deny_it_after_a_restart() {
    let (home, registry) = (Home::new(), registry());
    let descriptor = sample().descriptor();
    let first = fixture::index(&[(descriptor.clone(), Some(("wasip2", "wasm")))]);
    let second = fixture::index(&[(other(3).descriptor(), None), (descriptor, Some(("wasip2", "wasm")))]);
    registry.publish_document(&first, Some("first"));
    registry.publish_document(&second, Some("second"));
    for tag in ["1", "first", "second", "first"] {
        home.client().resolve_ref(&registry.reference_to(tag)).await.unwrap();
    }
    let artifact = home.offline().open_cached(&sample().manifest_digest.to_string()).unwrap();
    for (digest, denied) in [(first.digest, true), (second.digest, true), (other(3).manifest_digest, false)] {
        let policy = VerificationPolicy { deny_digests: vec![digest.to_string()], ..policy(Env::Dev) };
        let report = home.offline().verify_artifact(&artifact, None, &policy).unwrap();
        assert_eq!(report.passed, !denied, "{digest}");
    }
}

#[tokio::test]
async fn a_cached_artifact_that_is_hashed_again_and_found_wrong_is_marked() {
    let (home, registry) = (Home::new(), registry());
    let (client, artifact) = pulled(&home, &registry).await;
    fs::remove_file(&artifact.local_path).unwrap();
    fs::write(&artifact.local_path, vec![7; 200_000]).unwrap();
    assert_fails(client.verify_cached(&artifact.digest), DistErrorKind::Integrity, 8);
    assert_eq!(IntegrityState::from(client.stat_cache(&artifact.digest).unwrap().state), IntegrityState::Corrupt);
}

#[tokio::test]
async fn row_38_a_malformed_entry_of_a_deny_list_refuses_everything() {
    let (home, registry) = (Home::new(), registry());
    let (client, artifact) = pulled(&home, &registry).await;
    let hex = "ab".repeat(32);
    for bad in [
        format!("SHA256:{hex}"),
        format!("sha256:{}", hex.to_uppercase()),
        hex.clone(),
        format!(" sha256:{hex}"),
        format!("sha256:{hex} "),
        "sha256:abc".to_owned(),
        format!("sha384:{hex}"),
        String::new(),
    ] {
        for environment in [Env::Dev, Env::Staging, Env::Prod] {
            let policy = VerificationPolicy { deny_digests: vec![bad.clone()], ..policy(environment) };
            let decision = client.apply_policy(&artifact.descriptor, None, &policy);
            assert!(!decision.passed, "{bad:?}");
            let found = check(&decision.checks, "digest_allowed");
            assert_eq!(found.payload.as_ref().unwrap()["malformed"], json!([bad]));
            let mut set = advisory("1");
            set.deny_digests = vec![bad.clone()];
            let report =
                client.verify_artifact(&artifact, Some(&set), &VerificationPolicy { deny_digests: vec![], ..policy });
            assert_eq!(failed(&report.unwrap()), ["digest_allowed"]);
        }
    }
    let blank = VerificationPolicy { deny_issuers: vec![" ".to_owned()], ..policy(Env::Dev) };
    assert!(!client.apply_policy(&artifact.descriptor, None, &blank).passed);
    // A descriptor without a digest that could be looked for is no way around the list.
    let mut descriptor = artifact.descriptor.clone();
    descriptor.digest = descriptor.digest.to_uppercase();
    assert!(!client.apply_policy(&descriptor, None, &VerificationPolicy::default()).passed);
}

#[tokio::test]
async fn media_types_are_held_against_the_allowed_ones() {
    let (home, registry) = (Home::new(), registry());
    let (client, artifact) = pulled(&home, &registry).await;
    for (allowed, outcome) in [
        (vec![], Outcome::Skipped),
        (vec![WASM_TYPE], Outcome::Passed),
        (vec!["application/json", WASM_TYPE], Outcome::Passed),
        (vec!["application/json"], Outcome::Failed),
        (vec!["application/was"], Outcome::Failed),
    ] {
        let allowed: Vec<String> = allowed.into_iter().map(ToOwned::to_owned).collect();
        let policy = VerificationPolicy { allowed_media_types: allowed, ..policy(Env::Dev) };
        let decision = client.apply_policy(&artifact.descriptor, None, &policy);
        assert_eq!(check(&decision.checks, "media_type_allowed").outcome, outcome);
        assert_eq!(decision.passed, outcome != Outcome::Failed);
    }
}

#[tokio::test]
async fn an_issuer_is_what_the_manifest_states_and_the_lists_decide() {
    let acme = "https://issuer.example/acme";
    for (stated, trusted, denied, dev, prod) in [
        (None, vec![], vec![], Outcome::Warning, Outcome::Warning),
        (None, vec![acme], vec![], Outcome::Warning, Outcome::Failed),
        (Some(acme), vec![], vec![], Outcome::Passed, Outcome::Passed),
        (Some(acme), vec![acme], vec![], Outcome::Passed, Outcome::Passed),
        (Some(acme), vec!["https://other.example"], vec![], Outcome::Warning, Outcome::Failed),
        (Some(acme), vec!["HTTPS://issuer.example/acme"], vec![], Outcome::Warning, Outcome::Failed),
        (Some(acme), vec![acme], vec![acme], Outcome::Failed, Outcome::Failed),
        (Some(acme), vec![], vec![" HTTPS://ISSUER.example/acme/ "], Outcome::Failed, Outcome::Failed),
        (Some(acme), vec![], vec!["https://other.example"], Outcome::Passed, Outcome::Passed),
        (Some("  "), vec![acme], vec![], Outcome::Warning, Outcome::Failed),
    ] {
        let home = Home::new();
        let annotations: Vec<(&str, &str)> = stated.iter().map(|issuer| ("issuer", *issuer)).collect();
        let registry = Scenario::new(stating(&annotations)).start();
        let (_, artifact) = pulled(&home, &registry).await;
        // After a restart it is still known.
        let client = home.offline();
        let reopened = client.open_cached(&artifact.digest).unwrap();
        let texts = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect::<Vec<String>>();
        for (environment, expected) in [(Env::Dev, dev), (Env::Staging, prod), (Env::Prod, prod)] {
            let policy = VerificationPolicy {
                trusted_issuers: texts(&trusted),
                deny_issuers: texts(&denied),
                ..policy(environment)
            };
            let report = client.verify_artifact(&reopened, None, &policy).unwrap();
            let found = check(&report.checks, "issuer_allowed");
            assert_eq!(found.outcome, expected, "{stated:?} {trusted:?} {denied:?} {environment:?}");
            if stated.is_none() {
                assert!(found.detail.contains("missing"));
            }
            let mut set = advisory("1");
            set.deny_issuers = texts(&denied);
            let report = client
                .verify_artifact(&reopened, Some(&set), &VerificationPolicy { deny_issuers: vec![], ..policy })
                .unwrap();
            assert_eq!(check(&report.checks, "issuer_allowed").outcome, expected);
        }
    }
}

#[tokio::test]
async fn row_39_the_highest_minimum_version_counts_and_what_cannot_be_compared_fails_outside_of_development() {
    // policy, advisory, manifest's minimum, version of the operator, outcome in development, outcome elsewhere
    for (by_policy, by_advisory, by_artifact, actual, dev, strict) in [
        (None, None, None, Some("1.0.0"), Outcome::Skipped, Outcome::Skipped),
        (Some("1.0.0"), None, None, Some("1.0.0"), Outcome::Passed, Outcome::Passed),
        (Some("1.0.0"), Some("2.0.0"), None, Some("1.5.0"), Outcome::Warning, Outcome::Failed),
        (Some("3.0.0"), Some("2.0.0"), None, Some("2.5.0"), Outcome::Warning, Outcome::Failed),
        (Some("0.1.0"), Some("0.1.0"), Some("2.0.0"), Some("1.0.0"), Outcome::Warning, Outcome::Failed),
        (Some("2.0.0"), None, Some("0.1.0"), Some("1.0.0"), Outcome::Warning, Outcome::Failed),
        (Some("1.0.0"), Some("1.2.0"), Some("1.1.0"), Some("1.2.0"), Outcome::Passed, Outcome::Passed),
        (Some("1.0.0"), None, None, Some("1.0.0-rc.1"), Outcome::Warning, Outcome::Failed),
        (Some("1.0.0"), None, None, None, Outcome::Warning, Outcome::Failed),
        (Some("1.0.0"), None, None, Some("one"), Outcome::Warning, Outcome::Failed),
        (Some("v1"), None, None, Some("9.0.0"), Outcome::Warning, Outcome::Failed),
        (Some(""), None, None, Some("9.0.0"), Outcome::Warning, Outcome::Failed),
        (Some("1.0.0"), Some("latest"), None, Some("9.0.0"), Outcome::Warning, Outcome::Failed),
        (None, None, Some("soon"), Some("9.0.0"), Outcome::Warning, Outcome::Failed),
    ] {
        let home = Home::new();
        let stated = [("minimum_operator_version", by_artifact), ("operator_version", actual)];
        let annotations: Vec<(&str, &str)> = stated.iter().filter_map(|(key, value)| Some((*key, (*value)?))).collect();
        let registry = Scenario::new(stating(&annotations)).start();
        let (client, artifact) = pulled(&home, &registry).await;
        for (environment, expected) in [(Env::Dev, dev), (Env::Staging, strict), (Env::Prod, strict)] {
            let policy = VerificationPolicy {
                minimum_operator_version: by_policy.map(ToOwned::to_owned),
                ..policy(environment)
            };
            let mut set = advisory("1");
            set.minimum_operator_version = by_advisory.map(ToOwned::to_owned);
            let report = client.verify_artifact(&artifact, Some(&set), &policy).unwrap();
            let found = check(&report.checks, "operator_version_compatible");
            assert_eq!(found.outcome, expected, "{by_policy:?} {by_advisory:?} {by_artifact:?} {actual:?}");
            // An unsigned artifact fails no other check.
            assert_eq!(failed(&report).len(), usize::from(expected == Outcome::Failed));
        }
    }
    let (home, registry) = (Home::new(), registry());
    let (client, mut artifact) = pulled(&home, &registry).await;
    artifact.descriptor.annotations.insert("operator_version".into(), json!("1.0.0"));
    let demanding = VerificationPolicy { minimum_operator_version: Some("2.0.0".into()), ..policy(Env::Prod) };
    let report = client.verify_artifact(&artifact, None, &demanding).unwrap();
    let found = check(&report.checks, "operator_version_compatible");
    assert!(found.detail.contains("does not satisfy minimum"), "{}", found.detail);
    assert_eq!(found.payload, Some(json!({ "required": "2.0.0", "actual": "1.0.0", "environment": "prod" })));
}

#[tokio::test]
async fn a_signature_is_never_verified_and_a_demanded_one_fails_outside_of_development() {
    let (home, registry) = (Home::new(), registry());
    let (client, artifact) = pulled(&home, &registry).await;
    let (_, mut signed) = pulled(&home, &registry).await;
    signed.descriptor.signature_refs.push("oci://registry.example/acme/hello:sha256-1.sig".into());
    signed.descriptor.sbom_refs.push("oci://registry.example/acme/hello:sha256-1.sbom".into());
    for (artifact, has) in [(&artifact, false), (&signed, true)] {
        for environment in [Env::Dev, Env::Staging, Env::Prod] {
            for required in [false, true] {
                let policy =
                    VerificationPolicy { require_signature: required, require_sbom: required, ..policy(environment) };
                let report = client.verify_artifact(artifact, None, &policy).unwrap();
                let outcome = |name| check(&report.checks, name).outcome;
                let strict = if environment == Env::Dev { Outcome::Warning } else { Outcome::Failed };
                let missing = if required { strict } else { Outcome::Warning };
                assert_eq!(outcome("signature_present"), if has { Outcome::Passed } else { missing });
                let unverified = match (required, has) {
                    (true, _) => strict,
                    (false, true) => Outcome::Warning,
                    (false, false) => Outcome::Skipped,
                };
                assert_eq!(outcome("signature_verified"), unverified);
                let no_sbom = if required { Outcome::Failed } else { Outcome::Warning };
                assert_eq!(outcome("sbom_present"), if has { Outcome::Passed } else { no_sbom });
                assert!(
                    !report
                        .checks
                        .iter()
                        .any(|check| check.name == "signature_verified" && check.outcome == Outcome::Passed)
                );
            }
        }
    }
}

#[tokio::test]
async fn evidence_that_came_with_a_descriptor_is_handed_out_again_after_a_restart() {
    let (home, registry) = (Home::new(), Scenario::new(stating(&[("issuer", "acme"), ("k", "v")])).start());
    let client = home.client();
    let source = client.parse_source(&registry.reference()).unwrap();
    let mut descriptor = client.resolve(source, ResolvePolicy).await.unwrap();
    descriptor.signature_refs.push("sig".into());
    descriptor.sbom_refs.push("sbom".into());
    let fetched = client.fetch(&descriptor, CachePolicy).await.unwrap();
    let reopened = home.offline().open_cached(&descriptor.digest).unwrap();
    for artifact in [&fetched, &reopened] {
        assert_eq!(artifact.descriptor, descriptor);
        assert_eq!(artifact.descriptor.annotations["k"], "v");
        assert_eq!(artifact.component_id, format!("{}/acme/hello", registry.host()));
    }
    let report = home.offline().verify_artifact(&reopened, None, &VerificationPolicy::default()).unwrap();
    assert_eq!(check(&report.checks, "sbom_present").outcome, Outcome::Passed);
}

#[tokio::test]
async fn wrong_bytes_fail_the_verification_and_mark_the_entry_which_heals() {
    let (home, registry) = (Home::new(), registry());
    let (client, artifact) = pulled(&home, &registry).await;
    let path = artifact.local_path.clone();
    fs::remove_file(&path).unwrap();
    fs::write(&path, b"other bytes").unwrap();
    let report = client.verify_artifact(&artifact, None, &VerificationPolicy::default()).unwrap();
    assert_eq!(failed(&report), ["content_digest_match"]);
    let payload = check(&report.checks, "content_digest_match").payload.clone().unwrap();
    let actual = greentic_dist_types::Digest::sha256(b"other bytes").to_string();
    assert_eq!(payload, json!({ "expected": sample().layer_digest().to_string(), "actual": actual }));
    let entry = client.stat_cache(&artifact.digest).unwrap();
    assert_eq!(IntegrityState::from(entry.state), IntegrityState::Corrupt);
    // Even with the right bytes put back, what was found to be wrong is not opened offline.
    fs::write(&path, sample().layer_bytes()).unwrap();
    let text = assert_fails(home.offline().open_cached(&artifact.digest), DistErrorKind::Integrity, 8);
    assert!(text.contains("Corrupt"), "{text}");
    let healed = client.resolve_ref(&registry.reference()).await.unwrap();
    assert_eq!(healed.wasm_bytes().unwrap(), sample().layer_bytes());
    assert_eq!(IntegrityState::from(client.stat_cache(&artifact.digest).unwrap().state), IntegrityState::Ready);
    home.assert_nothing_outside_changed();
}

#[tokio::test]
async fn what_is_not_in_the_cache_or_cannot_be_read_has_no_report() {
    let (home, registry) = (Home::new(), registry());
    let (client, artifact) = pulled(&home, &registry).await;
    let verify = |artifact: &ResolvedArtifact| client.verify_artifact(artifact, None, &VerificationPolicy::default());
    fs::remove_file(&artifact.local_path).unwrap();
    assert!(matches!(verify(&artifact), Err(DistError::CacheError { .. })));
    fs::remove_dir_all(home.entry(&artifact.digest)).unwrap();
    assert_eq!(verify(&artifact).unwrap_err().kind(), DistErrorKind::NotFound);
    let (_, mut artifact) = pulled(&home, &registry).await;
    client.remove_cached(std::slice::from_ref(&artifact.digest)).unwrap();
    artifact.wasm_bytes = Some(sample().layer_bytes().to_vec());
    artifact.wasm_path = None;
    assert_fails(verify(&artifact), DistErrorKind::NotFound, 3);
    artifact.wasm_bytes = None;
    assert_fails(verify(&artifact), DistErrorKind::Integrity, 8);
}

#[tokio::test]
async fn an_artifact_is_held_against_the_digest_its_descriptor_was_given() {
    let (home, registry) = (Home::new(), registry());
    let (client, mut artifact) = pulled(&home, &registry).await;
    artifact.descriptor.digest = greentic_dist_types::Digest::sha256(b"something else").to_string();
    let report = client.verify_artifact(&artifact, None, &VerificationPolicy::default()).unwrap();
    assert_eq!(failed(&report), ["content_digest_match"]);
}

#[tokio::test]
async fn row_39_an_advisory_that_is_not_current_fails_outside_of_development() {
    let older = |set: &AdvisorySet| AdvisorySet { issued_at: set.issued_at - 50, version: "0".into(), ..set.clone() };
    let young = advisory("5");
    for (set, seen_before, reason) in [
        (AdvisorySet { expires_at: Some(now() - 1), ..young.clone() }, None, Some("expired")),
        (AdvisorySet { expires_at: Some(now() + 1_000), ..young.clone() }, None, None),
        (AdvisorySet { issued_at: now() + 3_600, ..young.clone() }, None, Some("future")),
        (AdvisorySet { issued_at: now() + 60, ..young.clone() }, None, None),
        (older(&young), Some(&young), Some("seen already")),
        (AdvisorySet { source: "another".into(), ..older(&young) }, Some(&young), None),
        (AdvisorySet { version: "5b".into(), ..young.clone() }, Some(&young), None),
    ] {
        for environment in [Env::Dev, Env::Staging, Env::Prod] {
            let (home, registry) = (Home::new(), registry());
            let (client, artifact) = pulled(&home, &registry).await;
            if let Some(seen) = seen_before {
                client.verify_artifact(&artifact, Some(seen), &policy(Env::Dev)).unwrap();
            }
            // In a new process.
            let client = home.offline();
            let report = client.verify_artifact(&artifact, Some(&set), &policy(environment)).unwrap();
            let decision = client.apply_policy(&artifact.descriptor, Some(&set), &policy(environment));
            let Some(reason) = reason else {
                assert!(report.checks.len() == 8 && report.passed && decision.passed, "{report:?}");
                continue;
            };
            for checks in [&report.checks, &decision.checks] {
                let found = check(checks, "advisory_current");
                assert!(found.detail.contains(reason), "{}", found.detail);
                let expected = if environment == Env::Dev { Outcome::Warning } else { Outcome::Failed };
                assert_eq!(found.outcome, expected);
            }
            assert_eq!((report.passed, decision.passed), (environment == Env::Dev, environment == Env::Dev));
        }
    }
}

#[tokio::test]
async fn an_advisory_of_the_future_does_not_lock_out_the_honest_ones() {
    let (home, registry) = (Home::new(), registry());
    let (client, artifact) = pulled(&home, &registry).await;
    let future = AdvisorySet { issued_at: u64::MAX, ..advisory("9") };
    client.verify_artifact(&artifact, Some(&future), &policy(Env::Dev)).unwrap();
    assert!(client.verify_artifact(&artifact, Some(&advisory("1")), &policy(Env::Prod)).unwrap().passed);
}

#[tokio::test]
async fn a_memory_of_advisories_that_cannot_be_read_fails_outside_of_development() {
    let (home, registry) = (Home::new(), registry());
    let (client, artifact) = pulled(&home, &registry).await;
    client.verify_artifact(&artifact, Some(&advisory("1")), &policy(Env::Prod)).unwrap();
    let memory = fs::read_dir(home.cache().join("advisories")).unwrap().next().unwrap().unwrap().path();
    fs::write(&memory, b"").unwrap();
    let report = client.verify_artifact(&artifact, Some(&advisory("2")), &policy(Env::Prod)).unwrap();
    assert_eq!(failed(&report), ["advisory_current"]);
    assert!(report.errors[0].contains(memory.to_str().unwrap()), "{:?}", report.errors);
    assert!(client.verify_artifact(&artifact, Some(&advisory("2")), &policy(Env::Dev)).unwrap().passed);
}

#[test]
fn an_advisory_is_its_json_and_its_source_is_the_callers() {
    let home = Home::new();
    let client = home.client();
    let json = json!({
        "version": "3", "issued_at": 5, "source": "claimed", "deny_digests": [], "deny_issuers": [],
        "minimum_operator_version": null,
        "release_train": {
            "train_id": "t", "operator_digest": null, "bundle_digests": ["x"], "required_extension_digests": [],
            "baseline_observer_digest": null,
        },
        "expires_at": 9, "next_refresh_hint": 7, "unknown": true,
    });
    let set = client.load_advisory_set(json.to_string().as_bytes(), "real").unwrap();
    assert_eq!((set.source.as_str(), set.expires_at, set.next_refresh_hint), ("real", Some(9), Some(7)));
    assert_eq!(set.release_train.unwrap().bundle_digests, ["x"]);
    for bad in ["", "[]", "{}", r#"{"version":3}"#] {
        let error = client.load_advisory_set(bad.as_bytes(), "x").unwrap_err();
        assert!(matches!(error, DistError::Serde(_)), "{error:?}");
        assert_eq!(error.exit_code(), 2);
    }
    assert_fails(client.load_advisory_set(&vec![b' '; (16 << 20) + 1], "x"), DistErrorKind::InvalidInput, 2);
    assert!(!home.cache().exists());
}
