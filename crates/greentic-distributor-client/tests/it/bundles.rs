//! The life of a bundle: staged durably, warmed and rolled back from the cache, in a state that one at a time changes.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use greentic_dist_testkit::fixture::{self, Blob, WASM_TYPE, artifact_of};
use greentic_dist_testkit::scenario::{LyingRegistry, Scenario};
use greentic_dist_testkit::{LyingServer, Response, TreeSnapshot};
use greentic_dist_types::Digest;
use greentic_distributor_client::dist::BundleLifecycleState as State;
use greentic_distributor_client::dist::VerificationEnvironment as Env;
use greentic_distributor_client::dist::{
    AccessMode, ArtifactOpenOutput, ArtifactOpenRequest, ArtifactOpener, BundleOpenMode, CacheEntryState, CachePolicy,
    DistClient, DistErrorKind, DistOptions, IntegrationError, IntegrationErrorCode as Code, ResolvedArtifact,
    RollbackBundleInput, StageBundleInput, StageBundleResult, VerificationPolicy, WarmBundleInput, WarmBundleResult,
};
use serde_json::json;

use crate::support::{Home, assert_fails, other, registry, sample};
use crate::verify::{advisory, check, policy, stating};

pub(crate) fn staging(reference: &str) -> StageBundleInput {
    StageBundleInput {
        bundle_ref: reference.to_owned(),
        requested_access_mode: AccessMode::Userspace,
        verification_policy_ref: "policy".to_owned(),
        cache_policy_ref: "cache".to_owned(),
        tenant: Some("acme".to_owned()),
        team: None,
    }
}

pub(crate) async fn stage(client: &DistClient, reference: &str) -> StageBundleResult {
    client.stage_bundle(&staging(reference), None, &VerificationPolicy::default(), CachePolicy).await.unwrap()
}

pub(crate) fn warming(pin: &str) -> WarmBundleInput {
    WarmBundleInput {
        bundle_id: format!("bundle:{pin}"),
        cache_key: pin.to_owned(),
        smoke_test: false,
        dry_run: false,
        expected_operator_version: None,
    }
}

fn warm(client: &DistClient, input: &WarmBundleInput) -> Result<WarmBundleResult, IntegrationError> {
    client.warm_bundle(input, None, &VerificationPolicy::default())
}

pub(crate) fn back_to(pin: &str) -> RollbackBundleInput {
    RollbackBundleInput { target_bundle_id: format!("bundle:{pin}"), expected_cache_key: None }
}

fn record_path(home: &Home, pin: &str) -> PathBuf {
    home.cache().join("bundles").join(format!("bundle__{}.json", pin.replace(':', "__")))
}

/// A registry with [`sample`] and, at the tag `other`, another component.
fn registry_of_two() -> LyingRegistry {
    let registry = registry();
    registry.publish(&other(2), "other");
    registry
}

#[tokio::test]
async fn an_artifact_of_a_registry_is_staged_and_opens_from_then_on_with_the_registry_gone() {
    let (home, registry) = (Home::new(), registry());
    let client = home.client();
    let staged = stage(&client, &registry.reference()).await;
    let pin = sample().manifest_digest.to_string();
    assert_eq!(staged.bundle_id, format!("bundle:{pin}"));
    assert_eq!(staged.canonical_ref, format!("oci://{}/acme/hello@{pin}", registry.host()));
    assert_eq!(staged.descriptor.raw_ref, registry.reference());
    assert!(staged.verification_report.passed && staged.resolved_artifact.fetched);
    assert_eq!(staged.resolved_artifact.wasm_bytes().unwrap(), sample().layer_bytes());
    assert!(staged.cache_entry.last_verified_at.is_some());
    let audit = &staged.stage_audit_fields;
    assert_eq!((audit.tenant.as_deref(), audit.verification_policy_ref.as_str()), (Some("acme"), "policy"));
    assert_eq!(registry.journal().len(), 2, "a manifest and a blob");
    // Again: the same bundle.
    let again = stage(&client, &registry.reference()).await;
    assert_eq!((&again.bundle_id, &again.canonical_ref), (&staged.bundle_id, &staged.canonical_ref));
    assert_eq!(again.cache_entry.cache_key, staged.cache_entry.cache_key);
    assert!(!again.resolved_artifact.fetched);

    drop(registry);
    let client = home.offline();
    let record = client.stat_bundle(&staged.bundle_id).unwrap();
    assert_eq!((record.cache_key.as_str(), record.lifecycle_state), (pin.as_str(), State::Staged));
    assert_eq!((&record.canonical_ref, record.fetched_at), (&staged.canonical_ref, staged.cache_entry.fetched_at));
    let warmed = warm(&client, &warming(&pin)).unwrap();
    assert_eq!(warmed.bundle_manifest_summary.component_id, staged.resolved_artifact.component_id);
    assert_eq!(warmed.bundle_manifest_summary.size_bytes, 200_000);
    assert_eq!(warmed.bundle_open_mode, BundleOpenMode::Userspace);
    assert!(warmed.warm_audit_fields.reopened_from_cache && warmed.errors.is_empty());
    assert_eq!(warmed.warnings, warmed.verification_report.warnings);
    for expected in [None, Some(pin.clone())] {
        let input = RollbackBundleInput { expected_cache_key: expected.clone(), ..back_to(&pin) };
        let back = client.rollback_bundle(&input, None, &VerificationPolicy::default()).unwrap();
        assert!(back.reopened_from_cache && back.verification_report.passed);
        assert_eq!(
            (back.bundle_id.as_str(), back.cache_entry.digest.as_str()),
            (input.target_bundle_id.as_str(), pin.as_str())
        );
        assert_eq!(back.rollback_audit_fields.expected_cache_key, expected);
    }
    assert_eq!(client.stat_bundle(&staged.bundle_id).unwrap(), record, "neither changes the record");
    home.assert_nothing_outside_changed();
}

#[tokio::test]
async fn a_url_and_a_file_are_staged_warmed_and_rolled_back_too() {
    let home = Home::new();
    let server = LyingServer::start(|request, _| Response::ranged(request, "\"v1\"", b"\0asm from the web".as_slice()));
    let client = home.builder().options(DistOptions { allow_insecure_local_http: true, ..home.options() }).build();
    let file = home.outside().join("tool.wasm");
    fs::write(&file, b"\0asm from a file").unwrap();
    for reference in [format!("{}/tool.wasm", server.url()), file.display().to_string()] {
        let staged = stage(&client, &reference).await;
        let pin = staged.cache_entry.digest.clone();
        assert_eq!(staged.bundle_id, format!("bundle:{pin}"));
        assert_eq!(pin, staged.resolved_artifact.content_digest());
        assert_eq!(warm(&home.offline(), &warming(&pin)).unwrap().bundle_manifest_summary.component_id, "tool");
        home.offline().rollback_bundle(&back_to(&pin), None, &VerificationPolicy::default()).unwrap();
    }
    assert_eq!(client.list_bundles().unwrap().len(), 2);
    fs::remove_file(file).unwrap();
}

#[tokio::test]
async fn a_policy_that_refuses_leaves_the_artifact_in_the_cache_and_no_record() {
    let (home, registry) = (Home::new(), registry());
    let client = home.client();
    let pin = sample().manifest_digest.to_string();
    let base = policy(Env::Prod);
    let text = |text: &str| vec![text.to_owned()];
    for (refusing, code, check) in [
        (VerificationPolicy { deny_digests: text(&pin), ..base.clone() }, Code::DigestDenied, "digest_allowed"),
        (VerificationPolicy { deny_digests: text("zz"), ..base.clone() }, Code::PolicyInputInvalid, "digest_allowed"),
        (
            VerificationPolicy { allowed_media_types: text("a/b"), ..base.clone() },
            Code::MediaTypeRejected,
            "media_type_allowed",
        ),
        (VerificationPolicy { trusted_issuers: text("x"), ..base.clone() }, Code::IssuerRejected, "issuer_allowed"),
        (
            VerificationPolicy { minimum_operator_version: Some("1.0.0".into()), ..base.clone() },
            Code::VerificationFailed,
            "operator_version_compatible",
        ),
        (VerificationPolicy { require_signature: true, ..base.clone() }, Code::SignatureRequired, "signature_present"),
        (VerificationPolicy { require_sbom: true, ..base.clone() }, Code::VerificationFailed, "sbom_present"),
    ] {
        let error =
            client.stage_bundle(&staging(&registry.reference()), None, &refusing, CachePolicy).await.unwrap_err();
        assert_eq!((error.code, error.retryable), (code, false), "{error}");
        let details = error.details.unwrap();
        assert_eq!(details["failed_checks"][0]["name"], check);
        assert_eq!((&details["artifact_digest"], &details["errors"][0]), (&json!(pin), &json!(error.summary)));
        assert_eq!(client.list_bundles().unwrap(), []);
    }
    let mut expired = advisory("1");
    expired.expires_at = Some(1);
    let error =
        client.stage_bundle(&staging(&registry.reference()), Some(&expired), &base, CachePolicy).await.unwrap_err();
    assert_eq!(error.code, Code::AdvisoryRejected, "{error}");
    assert!(client.stat_cache(&pin).unwrap().last_verified_at.is_some());
    assert_eq!(registry.journal().count_containing("/blobs/"), 1, "it is fetched once");
    // The same for warm and rollback of what was staged before the policy changed.
    stage(&client, &registry.reference()).await;
    let refusing = VerificationPolicy { deny_digests: text(&pin), ..base };
    for error in [
        home.offline().warm_bundle(&warming(&pin), None, &refusing).unwrap_err(),
        home.offline().rollback_bundle(&back_to(&pin), None, &refusing).unwrap_err(),
    ] {
        assert_eq!(error.code, Code::DigestDenied);
    }
}

#[tokio::test]
async fn the_version_of_the_operator_that_warms_is_held_against_the_minimum() {
    let home = Home::new();
    let registry = Scenario::new(stating(&[("minimum_operator_version", "2.0.0")])).start();
    let staged = stage(&home.client(), &registry.reference()).await;
    let pin = &staged.cache_entry.digest;
    for (version, passes) in [(Some("2.0.0"), true), (Some("1.9.9"), false), (None, false)] {
        let input = WarmBundleInput { expected_operator_version: version.map(ToOwned::to_owned), ..warming(pin) };
        let result = home.offline().warm_bundle(&input, None, &policy(Env::Prod));
        assert_eq!(result.is_ok(), passes, "{version:?}");
        if let Err(error) = result {
            assert_eq!(error.details.unwrap()["failed_checks"].as_array().unwrap().len(), 1);
        }
    }
}

#[tokio::test]
async fn row_74_ids_that_are_none_or_do_not_match_are_refused_by_name() {
    // Row 74.
    let (home, registry) = (Home::new(), registry());
    let client = home.client();
    let pin = stage(&client, &registry.reference()).await.cache_entry.digest;
    let before = TreeSnapshot::of(&home.cache());
    for bad in ["", "x", "../../x", "bundle:", "bundle:../../x", "bundle:sha256:zz", "bundle:/etc/passwd", pin.as_str()]
    {
        let input = RollbackBundleInput { target_bundle_id: bad.to_owned(), expected_cache_key: None };
        let error = client.rollback_bundle(&input, None, &VerificationPolicy::default()).unwrap_err();
        assert_eq!(error.code, Code::InvalidReference, "{bad}");
        assert!(error.summary.contains("invalid bundle id"), "{}", error.summary);
        assert_fails(client.stat_bundle(bad), DistErrorKind::InvalidInput, 2);
        assert_fails(client.set_bundle_state(bad, State::Ready), DistErrorKind::InvalidInput, 2);
        assert_fails(client.try_transition(bad, State::Staged, State::Warming), DistErrorKind::InvalidInput, 2);
        let error = warm(&client, &WarmBundleInput { bundle_id: bad.to_owned(), ..warming(&pin) }).unwrap_err();
        assert_eq!(error.code, Code::InvalidReference);
        assert!(error.summary.contains("does not match cache key"), "{}", error.summary);
        assert_eq!(
            error.details,
            Some(json!({ "bundle_id": bad, "expected_bundle_id": format!("bundle:{pin}"), "cache_key": pin }))
        );
    }
    let other = Digest::sha256(b"other").to_string();
    for expected in [other.as_str(), "zz", "../x"] {
        let input = RollbackBundleInput { expected_cache_key: Some(expected.to_owned()), ..back_to(&pin) };
        let error = client.rollback_bundle(&input, None, &VerificationPolicy::default()).unwrap_err();
        assert_eq!(error.code, Code::InvalidReference);
        let details = json!({
            "bundle_id": format!("bundle:{pin}"), "expected_cache_key": expected, "actual_cache_key": pin,
        });
        assert_eq!(error.details, Some(details));
    }
    assert_eq!(
        warm(&client, &WarmBundleInput { cache_key: "zz".into(), ..warming(&pin) }).unwrap_err().code,
        Code::InvalidReference
    );
    // `sha256:` may be left out.
    let hex = pin.strip_prefix("sha256:").unwrap();
    assert_eq!(client.stat_bundle(&format!("bundle:{hex}")).unwrap().cache_key, pin);
    before.assert_unchanged(&home.cache());
    home.assert_nothing_outside_changed();
}

#[tokio::test]
async fn what_is_not_in_the_cache_is_a_miss_and_what_is_damaged_is_told_exactly() {
    let (home, registry) = (Home::new(), registry_of_two());
    let client = home.client();
    let unknown = Digest::sha256(b"unknown").to_string();
    let fails = |pin: &str| {
        let client = home.offline();
        let warmed = warm(&client, &warming(pin)).unwrap_err();
        let back = client.rollback_bundle(&back_to(pin), None, &VerificationPolicy::default()).unwrap_err();
        assert_eq!(warmed.code, back.code, "{warmed} / {back}");
        (warmed, back)
    };
    let (error, _) = fails(&unknown);
    assert_eq!((error.code, error.retryable), (Code::CacheMiss, true));
    assert!(error.summary.contains("was not found"), "{}", error.summary);

    let pin = stage(&client, &registry.reference()).await.cache_entry.digest;
    let blob = home.entry(&pin).join("component.wasm");
    fs::remove_file(&blob).unwrap();
    let (error, _) = fails(&pin);
    assert_eq!(error.code, Code::CacheCorrupt);
    assert!(error.summary.contains("cached blob is missing"), "{}", error.summary);

    let pin = stage(&client, &registry.reference_to("other")).await.cache_entry.digest;
    let blob = home.entry(&pin).join("component.wasm");
    let mut bytes = fs::read(&blob).unwrap();
    bytes[7] ^= 1;
    fs::remove_file(&blob).unwrap();
    fs::write(&blob, bytes).unwrap();
    let error = warm(&home.offline(), &warming(&pin)).unwrap_err();
    assert_eq!(error.code, Code::DigestMismatch, "{error}");
    assert_eq!(error.details.unwrap()["failed_checks"][0]["name"], "content_digest_match");
    assert_eq!(client.stat_cache(&pin).unwrap().state, CacheEntryState::Corrupt);
    let (error, _) = fails(&pin);
    assert_eq!(error.code, Code::CacheCorrupt, "it is marked now");
    // Staging it again while online replaces it; the record was there all the time.
    assert_eq!(client.stat_bundle(&format!("bundle:{pin}")).unwrap().lifecycle_state, State::Staged);
    stage(&client, &registry.reference_to("other")).await;
    warm(&home.offline(), &warming(&pin)).unwrap();
}

#[tokio::test]
async fn staging_heals_a_damaged_copy_online_and_refuses_it_offline() {
    let (home, registry) = (Home::new(), registry());
    let client = home.client();
    let pin = stage(&client, &registry.reference()).await.cache_entry.digest;
    let damage = || {
        let blob = home.entry(&pin).join("component.wasm");
        fs::remove_file(&blob).unwrap();
        fs::write(&blob, vec![7; 200_000]).unwrap();
    };
    damage();
    let offline = home.offline();
    let error = offline
        .stage_bundle(&staging(&registry.reference()), None, &VerificationPolicy::default(), CachePolicy)
        .await
        .unwrap_err();
    assert_eq!(error.code, Code::CacheCorrupt, "{error}");
    damage();
    let staged = stage(&client, &registry.reference()).await;
    assert_eq!(staged.resolved_artifact.wasm_bytes().unwrap(), sample().layer_bytes());
    assert_eq!(staged.cache_entry.state, CacheEntryState::Ready);
}

#[tokio::test]
async fn offline_staging_works_for_what_is_cached_and_asks_nobody_for_what_is_not() {
    let (home, registry) = (Home::new(), registry_of_two());
    home.client().resolve_ref(&registry.reference()).await.unwrap();
    let asked = registry.journal().len();
    let staged = stage(&home.offline(), &registry.reference()).await;
    assert!(!staged.resolved_artifact.fetched);
    let error = home
        .offline()
        .stage_bundle(&staging(&registry.reference_to("other")), None, &VerificationPolicy::default(), CachePolicy)
        .await
        .unwrap_err();
    assert_eq!(error.code, Code::OfflineRequiredButUnavailable);
    assert_eq!(registry.journal().len(), asked);
}

#[tokio::test]
async fn failures_of_the_flow_keep_their_codes() {
    let (home, registry) = (Home::new(), registry());
    let client = home.client();
    for (reference, code) in [
        ("sha256:zz".to_owned(), Code::InvalidReference),
        (format!("sha256:{}", "0".repeat(64)), Code::CacheMiss),
        ("http://example.org/x.wasm".to_owned(), Code::UnsupportedSource),
        ("repo://x".to_owned(), Code::ResolutionUnavailable),
        (registry.reference_to("missing"), Code::ResolutionFailed),
        ("127.0.0.1:1/acme/hello:1".to_owned(), Code::DownloadFailed),
    ] {
        let error = client
            .stage_bundle(&staging(&reference), None, &VerificationPolicy::default(), CachePolicy)
            .await
            .unwrap_err();
        assert_eq!(error.code, code, "{reference}: {error}");
    }
    assert!(!home.cache().join("bundles").exists());
}

#[tokio::test]
async fn staging_again_keeps_the_state_of_a_bundle_in_use_and_says_so() {
    let (home, registry) = (Home::new(), registry());
    let client = home.client();
    let id = stage(&client, &registry.reference()).await.bundle_id;
    for (state, expected, told) in [
        (State::Staged, State::Staged, false),
        (State::Warming, State::Warming, true),
        (State::Ready, State::Ready, true),
        (State::Draining, State::Draining, true),
        (State::Inactive, State::Staged, false),
    ] {
        client.set_bundle_state(&id, state).unwrap();
        let warnings = stage(&client, &registry.reference()).await.verification_report.warnings;
        assert_eq!(client.stat_bundle(&id).unwrap().lifecycle_state, expected, "{state:?}");
        let says = warnings.iter().any(|warning| warning.contains(&format!("{state:?} already")));
        assert_eq!(says, told, "{warnings:?}");
    }
}

#[tokio::test]
async fn any_state_can_be_set_and_only_the_next_one_can_be_moved_to() {
    let (home, registry) = (Home::new(), registry());
    let client = home.client();
    let id = stage(&client, &registry.reference()).await.bundle_id;
    for from in State::ALL {
        for to in State::ALL {
            assert_eq!(client.set_bundle_state(&id, from).unwrap().lifecycle_state, from);
            let moved = client.try_transition(&id, from, to);
            assert_eq!(moved.is_ok(), from.may_become(to), "{from:?} {to:?}");
            let now = client.stat_bundle(&id).unwrap().lifecycle_state;
            assert_eq!(now, if moved.is_ok() { to } else { from });
            assert_eq!(client.set_bundle_state(&id, to).unwrap().lifecycle_state, to, "25 of 25");
        }
    }
    client.set_bundle_state(&id, State::Ready).unwrap();
    let text = assert_fails(client.try_transition(&id, State::Staged, State::Warming), DistErrorKind::Policy, 6);
    assert!(text.contains(&id) && text.contains("it is Ready"), "{text}");
    let unknown = format!("bundle:{}", Digest::sha256(b"unknown"));
    assert_fails(client.set_bundle_state(&unknown, State::Ready), DistErrorKind::NotFound, 3);
    assert_fails(client.try_transition(&unknown, State::Staged, State::Warming), DistErrorKind::NotFound, 3);
    assert_fails(client.stat_bundle(&unknown), DistErrorKind::NotFound, 3);
}

#[tokio::test]
async fn row_74_a_malformed_record_is_an_error_that_names_its_file_for_everything_that_needs_it() {
    let (home, registry) = (Home::new(), registry());
    let client = home.client();
    let staged = stage(&client, &registry.reference()).await;
    let path = record_path(&home, &staged.cache_entry.digest);
    fs::write(home.cache().join("bundles/.DS_Store"), b"junk").unwrap();
    assert_eq!(client.list_bundles().unwrap().len(), 1);
    fs::write(&path, b"junk").unwrap();
    let text = assert_fails(client.list_bundles(), DistErrorKind::Internal, 10);
    assert!(text.contains("cache error") && text.contains(path.to_str().unwrap()), "{text}");
    assert_fails(client.stat_bundle(&staged.bundle_id), DistErrorKind::Internal, 10);
    assert_fails(client.set_bundle_state(&staged.bundle_id, State::Ready), DistErrorKind::Internal, 10);
    let back = client.rollback_bundle(&back_to(&staged.cache_entry.digest), None, &VerificationPolicy::default());
    assert_eq!(back.unwrap_err().code, Code::BundleOpenFailed);
    let again =
        client.stage_bundle(&staging(&registry.reference()), None, &VerificationPolicy::default(), CachePolicy).await;
    assert_eq!(again.unwrap_err().code, Code::BundleOpenFailed);
    assert_eq!(fs::read(&path).unwrap(), b"junk", "nobody removes it but a person");
}

struct Mounting {
    opened: AtomicUsize,
}

impl ArtifactOpener for Mounting {
    fn open(
        &self,
        artifact: &ResolvedArtifact,
        request: &ArtifactOpenRequest,
    ) -> Result<ArtifactOpenOutput, IntegrationError> {
        self.opened.fetch_add(1, Ordering::Relaxed);
        if request.smoke_test {
            let summary = format!("{} does not start", request.bundle_id);
            return Err(IntegrationError {
                code: Code::BundleOpenFailed,
                summary,
                retryable: true,
                details: Some(json!({ "why": "test" })),
            });
        }
        let default = greentic_distributor_client::dist::BundleManifestSummary {
            component_id: format!("mounted:{}", artifact.component_id),
            abi_version: None,
            describe_artifact_ref: None,
            artifact_type: artifact.descriptor.artifact_type,
            media_type: artifact.descriptor.media_type.clone(),
            size_bytes: artifact.descriptor.size_bytes,
        };
        Ok(ArtifactOpenOutput {
            bundle_manifest_summary: default,
            bundle_open_mode: BundleOpenMode::Mount,
            warnings: vec!["mounted slowly".to_owned()],
        })
    }
}

#[tokio::test]
async fn an_opener_opens_what_was_verified_and_its_failure_passes_unchanged() {
    let (home, registry) = (Home::new(), registry());
    let pin = stage(&home.client(), &registry.reference()).await.cache_entry.digest;
    let opener = Arc::new(Mounting { opened: AtomicUsize::new(0) });
    let client = DistClient::with_artifact_opener(home.options(), Arc::clone(&opener) as _);
    let warmed = warm(&client, &warming(&pin)).unwrap();
    assert_eq!(warmed.bundle_open_mode, BundleOpenMode::Mount);
    assert!(warmed.bundle_manifest_summary.component_id.starts_with("mounted:"));
    assert_eq!(warmed.warnings.last().map(String::as_str), Some("mounted slowly"));
    assert_eq!(warmed.warnings.len(), warmed.verification_report.warnings.len() + 1);
    let error = warm(&client, &WarmBundleInput { smoke_test: true, ..warming(&pin) }).unwrap_err();
    assert_eq!(error.summary, format!("bundle:{pin} does not start"));
    assert_eq!(
        (error.code, error.retryable, error.details),
        (Code::BundleOpenFailed, true, Some(json!({ "why": "test" })))
    );
    let refusing = VerificationPolicy { deny_digests: vec![pin.clone()], ..VerificationPolicy::default() };
    client.warm_bundle(&warming(&pin), None, &refusing).unwrap_err();
    assert_eq!(opener.opened.load(Ordering::Relaxed), 2, "what is refused is not opened");
}

/// An opener of 0.4.
#[expect(deprecated, reason = "the earlier name is what is tried")]
mod earlier {
    use super::*;
    use greentic_distributor_client::{BundleOpenOutput, BundleOpenRequest, BundleOpener};

    pub(super) struct Opener;

    impl BundleOpener for Opener {
        fn open(
            &self,
            artifact: &ResolvedArtifact,
            request: &BundleOpenRequest,
        ) -> Result<BundleOpenOutput, IntegrationError> {
            Mounting { opened: AtomicUsize::new(0) }.open(artifact, request)
        }
    }

    pub(super) fn client(home: &Home) -> DistClient {
        DistClient::with_bundle_opener(home.options(), Arc::new(Opener))
    }
}

#[tokio::test]
async fn an_opener_of_the_earlier_form_still_opens() {
    let (home, registry) = (Home::new(), registry());
    let pin = stage(&home.client(), &registry.reference()).await.cache_entry.digest;
    assert_eq!(warm(&earlier::client(&home), &warming(&pin)).unwrap().bundle_open_mode, BundleOpenMode::Mount);
}

#[tokio::test]
async fn without_an_opener_a_dry_run_reuses_the_cache_and_a_smoke_test_is_a_warning() {
    let (home, registry) = (Home::new(), registry());
    let pin = stage(&home.client(), &registry.reference()).await.cache_entry.digest;
    let input = WarmBundleInput { smoke_test: true, dry_run: true, ..warming(&pin) };
    let warmed = warm(&home.offline(), &input).unwrap();
    assert_eq!(warmed.bundle_open_mode, BundleOpenMode::CacheReuse);
    assert_eq!(warmed.warnings.len(), warmed.verification_report.warnings.len() + 1);
    assert!(warmed.warm_audit_fields.smoke_test && warmed.warm_audit_fields.dry_run);
}

#[tokio::test]
async fn staged_bundles_stay_over_the_cap_and_an_inactive_one_makes_way_with_its_record() {
    // The facts of the published tests.
    let home = Home::new();
    let client = home.builder().options(DistOptions { cache_max_bytes: 1, ..home.options() }).build();
    let file = |name: &str| {
        let path = home.outside().join(name);
        fs::write(&path, format!("{name:8}")).unwrap();
        path.display().to_string()
    };
    let (one, two, three) = (file("one"), file("two"), file("three"));
    let one = stage(&client, &one).await;
    let two = stage(&client, &two).await;
    for staged in [&one, &two] {
        assert!(staged.resolved_artifact.local_path.exists());
    }
    client.set_bundle_state(&one.bundle_id, State::Inactive).unwrap();
    let three = stage(&client, &three).await;
    assert!(!one.resolved_artifact.local_path.exists());
    assert_fails(client.stat_bundle(&one.bundle_id), DistErrorKind::NotFound, 3);
    let ids: Vec<String> = client.list_bundles().unwrap().into_iter().map(|record| record.bundle_id).collect();
    let mut expected = vec![two.bundle_id, three.bundle_id];
    expected.sort();
    assert_eq!(ids, expected);
    fs::remove_dir_all(home.outside()).unwrap();
}

#[tokio::test]
async fn many_who_stage_the_same_at_once_stage_one_bundle() {
    let (home, registry) = (Home::new(), registry());
    let tasks: Vec<_> = (0..12)
        .map(|number| {
            // Clients of their own, as processes have, and clones of one.
            let client = home.client();
            let reference = registry.reference();
            tokio::spawn(async move { (number, stage(&client, &reference).await.bundle_id) })
        })
        .collect();
    let mut ids = Vec::new();
    for task in tasks {
        ids.push(task.await.unwrap().1);
    }
    ids.dedup();
    assert_eq!(ids, [format!("bundle:{}", sample().manifest_digest)]);
    assert_eq!(registry.journal().count_containing("/blobs/"), 1);
    assert_eq!(home.client().list_bundles().unwrap().len(), 1);
    for sub in ["tmp", "locks"] {
        assert_eq!(fs::read_dir(home.cache().join(sub)).unwrap().count(), 0, "{sub}");
    }
}

#[tokio::test]
async fn row_72_what_stages_and_what_evicts_at_the_same_time_never_leave_a_record_without_its_artifact() {
    // Row 72.
    let (home, registry) = (Home::new(), registry_of_two());
    let artifacts = [registry.reference(), registry.reference_to("other")];
    for round in 0..8 {
        let stager = {
            let (client, reference) = (home.client(), artifacts[round % 2].clone());
            tokio::spawn(async move { stage(&client, &reference).await })
        };
        let evictor = {
            let client = home.client();
            tokio::task::spawn_blocking(move || {
                for _ in 0..20 {
                    for bundle in client.list_bundles().unwrap() {
                        // It may have been evicted since it was listed.
                        if let Err(error) = client.set_bundle_state(&bundle.bundle_id, State::Inactive) {
                            assert_eq!(error.kind(), DistErrorKind::NotFound, "{error:?}");
                        }
                    }
                    if let Err(error) = client.remove_cached(&client.list_cache()) {
                        assert_eq!(error.kind(), DistErrorKind::Temporary, "{error:?}");
                    }
                }
            })
        };
        let staged = stager.await.unwrap();
        evictor.await.unwrap();
        for record in home.client().list_bundles().unwrap() {
            let warmed = warm(&home.offline(), &warming(&record.cache_key));
            assert!(warmed.is_ok(), "{record:?}: {warmed:?}");
        }
        drop(staged);
    }
    // And in peace a record has its artifact and stays.
    let staged = stage(&home.client(), &artifacts[0]).await;
    let kept: Vec<_> = home.client().list_bundles().unwrap().into_iter().map(|record| record.bundle_id).collect();
    assert!(kept.contains(&staged.bundle_id), "{kept:?}");
    warm(&home.offline(), &warming(&staged.resolved_artifact.descriptor.digest)).unwrap();
}

#[tokio::test]
async fn a_bundle_of_an_index_is_its_manifest_and_is_denied_by_the_index_after_a_restart() {
    let (home, registry) = (Home::new(), registry());
    let artifact = artifact_of(vec![Blob::new(WASM_TYPE, fixture::random_bytes(9, 500))], &[]);
    registry.publish(&artifact, "one");
    let index = fixture::index(&[(artifact.descriptor(), Some(("wasip2", "wasm")))]);
    registry.publish_document(&index, Some("index"));
    let pin = stage(&home.client(), &registry.reference_to("index")).await.cache_entry.digest;
    assert_eq!(pin, artifact.manifest_digest.to_string());
    let refusing = VerificationPolicy { deny_digests: vec![index.digest.to_string()], ..VerificationPolicy::default() };
    let error = home.offline().warm_bundle(&warming(&pin), None, &refusing).unwrap_err();
    assert_eq!(error.code, Code::DigestDenied);
    let report = warm(&home.offline(), &warming(&pin)).unwrap().verification_report;
    assert_eq!(check(&report.checks, "content_digest_match").payload, None);
}
