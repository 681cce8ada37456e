//! Embedding hosts, as the documents of 0.4 show them: options and inputs written in full, the life of a bundle, retention, an
//! opener and an injector of their own.
//!
//! Features: `dist-client` without the default ones.

use std::sync::Arc;

use async_trait::async_trait;
use greentic_dist_compat_tests::{Machine, bytes_at, serve, short_lived};
use greentic_dist_testkit::fixture;
use greentic_dist_types::Digest;
use greentic_distributor_client::dist::{OciCacheInspection, ResolveError};
use greentic_distributor_client::{
    AccessMode, AdvisorySet, ArtifactOpenOutput, ArtifactOpenRequest, ArtifactOpener, ArtifactSource,
    ArtifactSourceKind, BundleLifecycleState, BundleManifestSummary, BundleOpenMode, CacheEntry, CachePolicy,
    DistClient, DistOptions, DownloadedStoreArtifact, InjectedResolution, IntegrationError, IntegrationErrorCode,
    ResolvePolicy, ResolveRefInjector, ResolvedArtifact, RetentionDisposition, RetentionEnvironment, RetentionInput,
    RollbackBundleInput, StageBundleInput, TransportHints, VerificationEnvironment, VerificationPolicy,
    WarmBundleInput,
};

/// Every field, and no `..`.
fn options(machine: &Machine) -> DistOptions {
    DistOptions {
        cache_dir: machine.cache(),
        allow_tags: true,
        offline: false,
        allow_insecure_local_http: false,
        cache_max_bytes: 0,
        repo_registry_base: None,
        store_registry_base: None,
        store_auth_path: machine.at("logins.json"),
        store_state_path: machine.at("logins.json"),
        #[cfg(feature = "fixture-resolver")]
        fixture_dir: None,
    }
}

fn stage_input(reference: &str) -> StageBundleInput {
    StageBundleInput {
        bundle_ref: reference.to_owned(),
        requested_access_mode: AccessMode::Userspace,
        verification_policy_ref: "policy:default".to_owned(),
        cache_policy_ref: "cache:default".to_owned(),
        tenant: Some("tenant-a".to_owned()),
        team: None,
    }
}

fn warm_input(bundle_id: &str, cache_key: &str) -> WarmBundleInput {
    WarmBundleInput {
        bundle_id: bundle_id.to_owned(),
        cache_key: cache_key.to_owned(),
        smoke_test: false,
        dry_run: false,
        expected_operator_version: Some("1.0.0".to_owned()),
    }
}

fn retention_input(entries: Vec<CacheEntry>, staged: Vec<String>, max_cache_bytes: u64) -> RetentionInput {
    RetentionInput {
        entries,
        active_bundle_ids: Vec::new(),
        staged_bundle_ids: staged,
        warming_bundle_ids: Vec::new(),
        ready_bundle_ids: Vec::new(),
        draining_bundle_ids: Vec::new(),
        session_referenced_bundle_ids: Vec::new(),
        max_cache_bytes,
        max_entry_age: None,
        minimum_rollback_depth: 0,
        environment: RetentionEnvironment::Prod,
    }
}

fn advisory(deny_digests: Vec<String>) -> AdvisorySet {
    AdvisorySet {
        version: "7".to_owned(),
        issued_at: 0,
        source: "tests".to_owned(),
        deny_digests,
        deny_issuers: Vec::new(),
        minimum_operator_version: None,
        release_train: None,
        expires_at: None,
        next_refresh_hint: None,
    }
}

/// Opens by mounting, it says.
struct Mounts;

impl ArtifactOpener for Mounts {
    fn open(
        &self,
        artifact: &ResolvedArtifact,
        request: &ArtifactOpenRequest,
    ) -> Result<ArtifactOpenOutput, IntegrationError> {
        if request.smoke_test {
            return Err(IntegrationError {
                code: IntegrationErrorCode::BundleOpenFailed,
                summary: format!("{} does not start", request.bundle_id),
                retryable: false,
                details: None,
            });
        }
        Ok(ArtifactOpenOutput {
            bundle_manifest_summary: BundleManifestSummary {
                component_id: format!("mounted:{}", artifact.component_id),
                abi_version: None,
                describe_artifact_ref: None,
                artifact_type: artifact.descriptor.artifact_type,
                media_type: artifact.descriptor.media_type.clone(),
                size_bytes: artifact.descriptor.size_bytes,
            },
            bundle_open_mode: BundleOpenMode::Mount,
            warnings: vec!["mounted for a test".to_owned()],
        })
    }
}

/// Knows one reference better.
struct Knows {
    reference: String,
    resolution: InjectedResolution,
}

#[async_trait]
impl ResolveRefInjector for Knows {
    async fn resolve(&self, reference: &str) -> Result<Option<InjectedResolution>, ResolveError> {
        Ok((reference == self.reference).then(|| self.resolution.clone()))
    }
}

#[test]
fn a_source_that_is_written_down_is_resolved_and_fetched() {
    let artifact = fixture::component();
    let registry = serve(&[("acme/hello:1", &artifact)]);
    let machine = Machine::new();
    let source = ArtifactSource {
        raw_ref: format!("oci://{}/acme/hello:1", registry.host()),
        kind: ArtifactSourceKind::Oci,
        transport_hints: TransportHints::default(),
        dev_mode: false,
    };
    let client = DistClient::new(options(&machine));
    let descriptor = short_lived(client.resolve(source, ResolvePolicy)).unwrap();
    let digest: String = descriptor.digest.clone();
    assert_eq!(descriptor.cache_key(), digest);
    let fetched = short_lived(client.fetch(&descriptor, CachePolicy)).unwrap();
    assert_eq!(fetched.wasm_bytes().unwrap(), artifact.layer_bytes());
    let ResolvedArtifact { resolved_digest, content_type, .. } = fetched;
    assert_eq!((resolved_digest, content_type.as_deref()), (digest, Some("application/wasm")));
}

#[test]
fn a_bundle_is_staged_warmed_and_rolled_back_to() {
    let artifact = fixture::component();
    let registry = serve(&[("acme/hello:1", &artifact)]);
    let machine = Machine::new();
    let client = DistClient::with_artifact_opener(options(&machine), Arc::new(Mounts));
    let policy = VerificationPolicy { environment: VerificationEnvironment::Staging, ..VerificationPolicy::default() };
    let reference = format!("oci://{}/acme/hello:1", registry.host());
    let stage = || short_lived(client.stage_bundle(&stage_input(&reference), None, &policy, CachePolicy)).unwrap();
    let (staged, again) = (stage(), stage());
    assert_eq!(staged.bundle_id, format!("bundle:{}", artifact.manifest_digest));
    assert_eq!(staged.stage_audit_fields.tenant.as_deref(), Some("tenant-a"));
    assert_eq!(
        (&staged.bundle_id, &staged.cache_entry.cache_key, &staged.canonical_ref),
        (&again.bundle_id, &again.cache_entry.cache_key, &again.canonical_ref)
    );
    registry.stop();

    let key: String = staged.cache_entry.cache_key;
    let advisory = advisory(Vec::new());
    let warmed = client.warm_bundle(&warm_input(&staged.bundle_id, &key), Some(&advisory), &policy).unwrap();
    assert_eq!(warmed.bundle_open_mode, BundleOpenMode::Mount);
    assert!(warmed.bundle_manifest_summary.component_id.starts_with("mounted:"));
    assert!(warmed.warnings.iter().any(|warning| warning == "mounted for a test"));
    let unfit = WarmBundleInput { smoke_test: true, ..warm_input(&staged.bundle_id, &key) };
    let error: IntegrationError = client.warm_bundle(&unfit, None, &policy).unwrap_err();
    assert_eq!(error.code, IntegrationErrorCode::BundleOpenFailed);

    let back = RollbackBundleInput { target_bundle_id: staged.bundle_id.clone(), expected_cache_key: Some(key) };
    assert!(client.rollback_bundle(&back, None, &policy).unwrap().reopened_from_cache);
    client.set_bundle_state(&staged.bundle_id, BundleLifecycleState::Inactive).unwrap();
    let listed = client.list_bundles().unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].lifecycle_state, BundleLifecycleState::Inactive);
}

#[test]
fn a_denied_artifact_is_refused_with_the_code_of_its_check() {
    let machine = Machine::new();
    let file = machine.file("tool.wasm", b"\0asm tool");
    let client = DistClient::new(options(&machine));
    let advisory = advisory(vec![Digest::sha256(b"\0asm tool").to_string()]);
    let input = stage_input(&file.display().to_string());
    let staged = short_lived(client.stage_bundle(&input, Some(&advisory), &VerificationPolicy::default(), CachePolicy));
    let error = staged.unwrap_err();
    assert_eq!(error.code, IntegrationErrorCode::DigestDenied);
    let failed = &error.details.unwrap()["failed_checks"];
    assert_eq!(failed[0]["name"], "digest_allowed");
}

#[test]
fn retention_is_decided_on_the_entries_that_are_handed_to_it() {
    let machine = Machine::new();
    let client = DistClient::new(options(&machine));
    let fetch = |name: &str| {
        let file = machine.file(name, name.as_bytes());
        short_lived(client.resolve_ref(&file.display().to_string())).unwrap()
    };
    let (kept, gone) = (fetch("kept.wasm").digest, fetch("gone.wasm").digest);
    let mut entries = client.list_cache_entries();
    // Edited on their way, as a host does that knows more.
    for entry in &mut entries {
        entry.last_accessed_at = 1;
    }
    let staged = vec![format!("bundle:{kept}")];
    let input = retention_input(entries, staged, 1);
    let planned = client.evaluate_retention(&input).unwrap();
    assert!(planned.decisions.iter().any(|decision| {
        decision.decision == RetentionDisposition::Protect && decision.reason_code == "staged_bundle"
    }));
    let applied = client.apply_retention(&input).unwrap();
    assert_eq!((applied.report.evicted, applied.report.protected), (1, 1));
    assert!(client.open_cached(&kept).is_ok() && client.open_cached(&gone).is_err());
}

#[test]
fn locks_are_pulled_and_hints_for_the_next_one_taken() {
    let artifact = fixture::component();
    let registry = serve(&[("acme/hello:1", &artifact)]);
    let machine = Machine::new();
    let reference = format!("oci://{}/acme/hello:1", registry.host());
    let lock = serde_json::json!({ "schema_version": 1, "components": [{ "name": "hello", "ref": reference }] });
    let path = machine.file("pack.lock.json", lock.to_string().as_bytes());
    let client = DistClient::new(options(&machine));
    let pulled = short_lived(client.pull_lock(&path)).unwrap();
    let hint = pulled[0].lock_hint(reference.clone());
    assert_eq!((hint.source_ref, hint.resolved_digest), (reference, artifact.manifest_digest.to_string()));
    assert_eq!(hint.content_length, u64::try_from(artifact.layer_bytes().len()).ok());
    let path = short_lived(client.fetch_digest(&artifact.manifest_digest.to_string())).unwrap();
    assert_eq!(bytes_at(path), artifact.layer_bytes());
}

#[test]
fn an_injector_answers_with_a_reference_with_bytes_and_with_a_file() {
    let machine = Machine::new();
    let file = machine.file("tool.wasm", b"\0asm tool");
    let source = ArtifactSource {
        raw_ref: "repo://acme/tool".to_owned(),
        kind: ArtifactSourceKind::Repo,
        transport_hints: TransportHints::default(),
        dev_mode: false,
    };
    for resolution in [
        InjectedResolution::Redirect(file.display().to_string()),
        InjectedResolution::WasmBytes {
            resolved_digest: Digest::sha256(b"\0asm tool").to_string(),
            wasm_bytes: b"\0asm tool".to_vec(),
            component_id: "acme.tool".to_owned(),
            abi_version: None,
            source: source.clone(),
        },
        InjectedResolution::WasmPath {
            resolved_digest: Digest::sha256(b"\0asm tool").to_string(),
            wasm_path: file.clone(),
            component_id: "acme.tool".to_owned(),
            abi_version: None,
            source: source.clone(),
        },
    ] {
        let cold = Machine::new();
        let knows = Knows { reference: "repo://acme/tool".to_owned(), resolution };
        let client = DistClient::with_ref_injector(options(&cold), Arc::new(knows));
        let artifact = short_lived(client.resolve_ref("repo://acme/tool")).unwrap();
        assert_eq!(artifact.wasm_bytes().unwrap(), b"\0asm tool");
    }
}

#[test]
fn results_have_the_names_of_0_4_and_failures_their_exit_codes() {
    fn error<E: std::error::Error + Send + Sync + 'static>() {}
    error::<ResolveError>();
    let machine = Machine::new();
    let file = machine.file("tool.wasm", b"\0asm tool");
    let client = DistClient::new(options(&machine));
    let refused: Result<DownloadedStoreArtifact, ResolveError> = short_lived(client.download_store_artifact("x"));
    assert_eq!(refused.unwrap_err().exit_code(), 2);
    let refused: Result<OciCacheInspection, ResolveError> =
        short_lived(client.pull_oci_with_details(&file.display().to_string()));
    assert_eq!(refused.unwrap_err().exit_code(), 2);
}

#[test]
#[expect(deprecated, reason = "programs of 0.4 call them")]
fn deprecated_names_still_do_their_work() {
    use greentic_distributor_client::{ResolveRefRequest, dist};
    let machine = Machine::new();
    let file = machine.file("tool.wasm", b"\0asm tool");
    let reference = file.display().to_string();
    let client = DistClient::new(options(&machine));
    let by_request = short_lived(client.resolve_ref_request(ResolveRefRequest { reference: reference.clone() }));
    let digest = by_request.unwrap().digest;
    let request = dist::ResolveComponentRequest { reference: reference.clone(), ..Default::default() };
    assert_eq!(short_lived(client.resolve_component(request)).unwrap().digest, digest);
    assert!(short_lived(client.ensure_cached(&reference)).unwrap().cache_path.unwrap().is_file());
    assert_eq!(client.evict_cache(std::slice::from_ref(&digest)).unwrap().evicted, 1);
    assert_eq!(client.list_cache(), [""; 0]);
}
