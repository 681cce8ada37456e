//! The client across the component boundary: every conversion, with bindings that remember what they were asked.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use greentic_distributor_client::{
    ArtifactLocation, ComponentStatus, DistributorApiBindings, DistributorClient, DistributorEnvironmentId,
    DistributorError, EnvId, GeneratedDistributorApiBindings, ResolveComponentRequest, ResolveComponentResponse,
    SecretFormat, TenantCtx, TenantId, WitDistributorClient,
};
use greentic_interfaces_guest::bindings::greentic_distributor_api_1_0_0_distributor_api::greentic::secrets_types::types as secrets;
use greentic_interfaces_guest::distributor_api as wit;
use proptest::prelude::*;
use serde_json::{Value, json};

/// A host that answers as it was told, or not at all.
#[derive(Clone, Default)]
struct Host {
    component: Option<wit::ResolveComponentResponse>,
    status: Option<String>,
    status_v2: Option<wit::PackStatusResponse>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Host {
    fn note(&self, call: String) {
        self.asked.lock().unwrap().push(call);
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

fn gone() -> anyhow::Error {
    anyhow::anyhow!("the host hung up").context("the call was not answered")
}

#[async_trait]
impl DistributorApiBindings for Host {
    async fn resolve_component(
        &self,
        req: wit::ResolveComponentRequest,
    ) -> Result<wit::ResolveComponentResponse, anyhow::Error> {
        self.note(format!(
            "{}|{}|{}|{}|{}|{}",
            req.tenant_id, req.environment_id, req.pack_id, req.component_id, req.version, req.extra
        ));
        self.component.clone().ok_or_else(gone)
    }

    async fn get_pack_status(&self, tenant: &str, environment: &str, pack: &str) -> Result<String, anyhow::Error> {
        self.note(format!("{tenant}|{environment}|{pack}"));
        self.status.clone().ok_or_else(gone)
    }

    async fn get_pack_status_v2(
        &self,
        tenant: &str,
        environment: &str,
        pack: &str,
    ) -> Result<wit::PackStatusResponse, anyhow::Error> {
        self.note(format!("{tenant}|{environment}|{pack}"));
        self.status_v2.clone().ok_or_else(gone)
    }

    async fn warm_pack(&self, tenant: &str, environment: &str, pack: &str) -> Result<(), anyhow::Error> {
        self.note(format!("{tenant}|{environment}|{pack}"));
        if self.status.is_some() { Ok(()) } else { Err(gone()) }
    }
}

fn tenant() -> TenantCtx {
    let mut tenant = TenantCtx::new(EnvId::new("dev").unwrap(), TenantId::new("acme").unwrap());
    tenant.tenant_id = TenantId::new("acme-7").unwrap();
    tenant
}

fn env() -> DistributorEnvironmentId {
    DistributorEnvironmentId::from("edge-1")
}

fn ask(extra: Value) -> ResolveComponentRequest {
    ResolveComponentRequest {
        tenant: tenant(),
        environment_id: env(),
        pack_id: "kit".to_owned(),
        component_id: "part".to_owned(),
        version: "1.2.3".to_owned(),
        extra,
    }
}

fn secret(key: &str) -> wit::SecretRequirement {
    wit::SecretRequirement {
        key: key.to_owned(),
        required: true,
        description: None,
        scope: None,
        format: None,
        schema: None,
        examples: Vec::new(),
    }
}

fn answer() -> wit::ResolveComponentResponse {
    wit::ResolveComponentResponse {
        component_status: wit::ComponentStatus::Ready,
        digest: "sha256:whatever the distributor says".to_owned(),
        artifact_location: wit::ArtifactLocation { kind: "oci".to_owned(), value: "ghcr.io/acme/part:1".to_owned() },
        signature_summary: wit::SignatureSummary {
            verified: true,
            signer: "acme".to_owned(),
            extra: r#"{"sig":"ok"}"#.to_owned(),
        },
        cache_info: wit::CacheInfo {
            size_bytes: 7,
            last_used_utc: "2026-01-01T00:00:00Z".to_owned(),
            last_refreshed_utc: "2026-01-02T00:00:00Z".to_owned(),
        },
        secret_requirements: Vec::new(),
    }
}

async fn resolved(answer: wit::ResolveComponentResponse) -> Result<ResolveComponentResponse, DistributorError> {
    let host = Host { component: Some(answer), ..Host::default() };
    WitDistributorClient::new(host).resolve_component(ask(Value::Null)).await
}

#[tokio::test]
async fn a_component_is_asked_for_by_tenant_id_and_environment_and_its_extra_is_sent_as_json() {
    let host = Host { component: Some(answer()), ..Host::default() };
    let client = WitDistributorClient::new(host.clone());
    client.resolve_component(ask(json!({"b": 1, "a": [null]}))).await.unwrap();
    client.resolve_component(ask(Value::Null)).await.unwrap();
    assert_eq!(
        host.asked(),
        [r#"acme-7|edge-1|kit|part|1.2.3|{"a":[null],"b":1}"#, "acme-7|edge-1|kit|part|1.2.3|null"]
    );
}

#[tokio::test]
async fn every_field_of_a_resolved_component_arrives() {
    let got = resolved(answer()).await.unwrap();
    assert_eq!(
        serde_json::to_value(&got).unwrap(),
        json!({
            "status": "ready",
            "digest": "sha256:whatever the distributor says",
            "artifact": { "kind": "oci_reference", "reference": "ghcr.io/acme/part:1" },
            "signature": { "verified": true, "signer": "acme", "extra": { "sig": "ok" } },
            "cache": {
                "size_bytes": 7,
                "last_used_utc": "2026-01-01T00:00:00Z",
                "last_refreshed_utc": "2026-01-02T00:00:00Z",
            },
            "secret_requirements": [],
        })
    );
}

#[tokio::test]
async fn the_three_states_of_a_component_are_told_apart() {
    for (wire, expected) in [
        (wit::ComponentStatus::Pending, ComponentStatus::Pending),
        (wit::ComponentStatus::Ready, ComponentStatus::Ready),
        (wit::ComponentStatus::Failed, ComponentStatus::Failed { reason: "failed".to_owned() }),
    ] {
        let got = resolved(wit::ResolveComponentResponse { component_status: wire, ..answer() }).await.unwrap();
        assert_eq!(got.status, expected);
    }
}

#[tokio::test]
async fn kinds_of_locations_are_matched_exactly_and_unknown_ones_belong_to_the_distributor() {
    let value = || "somewhere".to_owned();
    for (kind, expected) in [
        ("file", ArtifactLocation::FilePath { path: value() }),
        ("file_path", ArtifactLocation::FilePath { path: value() }),
        ("oci", ArtifactLocation::OciReference { reference: value() }),
        ("oci_reference", ArtifactLocation::OciReference { reference: value() }),
        ("internal", ArtifactLocation::DistributorInternal { handle: value() }),
        ("distributor_internal", ArtifactLocation::DistributorInternal { handle: value() }),
        ("OCI", ArtifactLocation::DistributorInternal { handle: value() }),
        (" file", ArtifactLocation::DistributorInternal { handle: value() }),
        ("", ArtifactLocation::DistributorInternal { handle: value() }),
    ] {
        let location = wit::ArtifactLocation { kind: kind.to_owned(), value: value() };
        let got = resolved(wit::ResolveComponentResponse { artifact_location: location, ..answer() }).await.unwrap();
        assert_eq!(got.artifact, expected, "{kind:?}");
    }
}

#[tokio::test]
async fn d18_free_texts_are_json_null_or_themselves_and_never_a_failure() {
    for (text, expected) in [
        ("", Value::Null),
        ("  \n", Value::Null),
        ("null", Value::Null),
        ("opaque", json!("opaque")),
        ("\"quoted\"", json!("quoted")),
        ("{\"a\":", json!("{\"a\":")),
        ("[1]", json!([1])),
        ("7", json!(7)),
    ] {
        let summary = wit::SignatureSummary { verified: false, signer: String::new(), extra: text.to_owned() };
        let got = resolved(wit::ResolveComponentResponse { signature_summary: summary, ..answer() }).await.unwrap();
        assert_eq!(got.signature.extra, expected, "{text:?}");

        let status =
            wit::PackStatusResponse { status: "ready".into(), secret_requirements: Vec::new(), extra: text.into() };
        let host = Host { status: Some(text.to_owned()), status_v2: Some(status), ..Host::default() };
        let client = WitDistributorClient::new(host.clone());
        assert_eq!(client.get_pack_status(&tenant(), &env(), "kit").await.unwrap(), expected, "{text:?}");
        let v2 = client.get_pack_status_v2(&tenant(), &env(), "kit").await.unwrap();
        assert_eq!((v2.status.as_str(), v2.extra), ("ready", expected), "{text:?}");
        assert_eq!(v2.secret_requirements, Some(Vec::new()));
        assert_eq!(host.asked(), ["acme-7|edge-1|kit", "acme-7|edge-1|kit"]);
    }
}

#[tokio::test]
async fn secret_requirements_arrive_with_all_they_say() {
    let full = wit::SecretRequirement {
        description: Some("the key".to_owned()),
        scope: Some(secrets::SecretScope { env: "prod".into(), tenant: "acme".into(), team: Some("ops".into()) }),
        format: Some(secrets::SecretFormat::Json),
        schema: Some(r#"{"type":"object"}"#.to_owned()),
        examples: vec!["one".to_owned()],
        required: false,
        ..secret("db/password")
    };
    let got =
        resolved(wit::ResolveComponentResponse { secret_requirements: vec![secret("api.key"), full], ..answer() })
            .await
            .unwrap();
    assert_eq!(
        serde_json::to_value(got.secret_requirements).unwrap(),
        json!([
            { "key": "api.key", "required": true },
            {
                "key": "db/password", "required": false, "description": "the key",
                "scope": { "env": "prod", "tenant": "acme", "team": "ops" },
                "format": "json", "schema": { "type": "object" }, "examples": ["one"],
            },
        ])
    );
}

#[tokio::test]
async fn d18_the_formats_of_secrets_are_told_apart() {
    for (wire, expected) in [
        (secrets::SecretFormat::Bytes, SecretFormat::Bytes),
        (secrets::SecretFormat::Text, SecretFormat::Text),
        (secrets::SecretFormat::Json, SecretFormat::Json),
    ] {
        let asked = wit::SecretRequirement { format: Some(wire), ..secret("k") };
        let got = resolved(wit::ResolveComponentResponse { secret_requirements: vec![asked], ..answer() }).await;
        assert_eq!(got.unwrap().secret_requirements.unwrap().remove(0).format, Some(expected));
    }
}

#[tokio::test]
async fn a_bad_secret_key_is_an_invalid_response_that_names_it() {
    for key in ["", "/abs", "a/../b", "sp ace"] {
        let got = resolved(wit::ResolveComponentResponse { secret_requirements: vec![secret(key)], ..answer() }).await;
        match got {
            Err(DistributorError::InvalidResponse(text)) => assert!(text.contains(&format!("{key:?}")), "{text}"),
            other => panic!("{key:?}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_schema_that_is_no_json_is_a_serialization_error() {
    let asked = wit::SecretRequirement { schema: Some("{".to_owned()), ..secret("k") };
    let got = resolved(wit::ResolveComponentResponse { secret_requirements: vec![asked], ..answer() }).await;
    assert!(matches!(got, Err(DistributorError::Serde(_))), "{got:?}");
}

#[tokio::test]
async fn d18_a_call_that_fails_is_told_with_its_causes() {
    let client = WitDistributorClient::new(Host::default());
    let expected = "the call was not answered: the host hung up";
    let errors = [
        client.resolve_component(ask(Value::Null)).await.unwrap_err(),
        client.get_pack_status(&tenant(), &env(), "kit").await.unwrap_err(),
        client.get_pack_status_v2(&tenant(), &env(), "kit").await.unwrap_err(),
        client.warm_pack(&tenant(), &env(), "kit").await.unwrap_err(),
    ];
    for error in errors {
        assert!(matches!(&error, DistributorError::Wit(text) if text == expected), "{error:?}");
    }
}

#[tokio::test]
async fn warming_a_pack_asks_for_it() {
    let host = Host { status: Some(String::new()), ..Host::default() };
    WitDistributorClient::new(host.clone()).warm_pack(&tenant(), &env(), "kit").await.unwrap();
    assert_eq!(host.asked(), ["acme-7|edge-1|kit"]);
}

#[tokio::test]
async fn the_generated_bindings_say_where_they_work() {
    let client: Box<dyn DistributorClient> = Box::new(WitDistributorClient::new(GeneratedDistributorApiBindings));
    for error in [
        client.resolve_component(ask(Value::Null)).await.map(drop).unwrap_err(),
        client.get_pack_status(&tenant(), &env(), "kit").await.map(drop).unwrap_err(),
        client.get_pack_status_v2(&tenant(), &env(), "kit").await.map(drop).unwrap_err(),
        client.warm_pack(&tenant(), &env(), "kit").await.unwrap_err(),
    ] {
        assert!(error.to_string().contains("wasm32"), "{error}");
    }
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        ".{0,20}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map(".{0,6}", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn any_extra_goes_out_and_comes_back_unchanged(extra in any_json()) {
        let host = Host {
            component: Some(wit::ResolveComponentResponse {
                signature_summary: wit::SignatureSummary {
                    verified: false,
                    signer: String::new(),
                    extra: extra.to_string(),
                },
                ..answer()
            }),
            ..Host::default()
        };
        let got = block_on(WitDistributorClient::new(host.clone()).resolve_component(ask(extra.clone()))).unwrap();
        prop_assert_eq!(&got.signature.extra, &extra);
        let sent = host.asked().remove(0);
        let sent: Value = serde_json::from_str(sent.splitn(6, '|').last().unwrap()).unwrap();
        prop_assert_eq!(sent, extra);
    }

    #[test]
    fn no_text_of_a_host_makes_a_status_fail(text in ".{0,200}") {
        let host = Host { status: Some(text.clone()), ..Host::default() };
        let got = block_on(WitDistributorClient::new(host).get_pack_status(&tenant(), &env(), "kit")).unwrap();
        if let Value::String(said) = &got {
            prop_assert!(said == &text || serde_json::from_str::<Value>(&text).unwrap() == got);
        }
    }

    #[test]
    fn every_field_of_a_question_reaches_the_host_and_every_field_of_an_answer_comes_back(
        question in ("[a-z]{1,8}", "[^|]{0,12}", "[^|]{0,12}", "[^|]{0,12}", "[^|]{0,12}"),
        told in (any::<bool>(), ".{0,20}", ".{0,40}", any::<u64>(), ".{0,20}", ".{0,20}"),
        wanted in proptest::collection::vec(any_secret(), 0..4),
    ) {
        let (tenant_id, environment, pack, component, version) = question;
        let (verified, signer, place, size_bytes, used, refreshed) = told;
        let host = Host {
            component: Some(wit::ResolveComponentResponse {
                artifact_location: wit::ArtifactLocation { kind: "oci".to_owned(), value: place.clone() },
                signature_summary: wit::SignatureSummary { verified, signer: signer.clone(), extra: String::new() },
                cache_info: wit::CacheInfo {
                    size_bytes,
                    last_used_utc: used.clone(),
                    last_refreshed_utc: refreshed.clone(),
                },
                secret_requirements: wanted.clone(),
                ..answer()
            }),
            ..Host::default()
        };
        let mut asked = ask(Value::Null);
        asked.tenant.tenant_id = TenantId::new(&tenant_id).unwrap();
        asked.environment_id = DistributorEnvironmentId::from(environment.as_str());
        (asked.pack_id, asked.component_id, asked.version) = (pack.clone(), component.clone(), version.clone());
        let got = block_on(WitDistributorClient::new(host.clone()).resolve_component(asked)).unwrap();

        let sent = host.asked().remove(0);
        let sent: Vec<&str> = sent.splitn(6, '|').take(5).collect();
        prop_assert_eq!(sent, [&*tenant_id, &*environment, &*pack, &*component, &*version]);
        prop_assert_eq!(got.artifact, ArtifactLocation::OciReference { reference: place });
        prop_assert_eq!((got.signature.verified, got.signature.signer), (verified, signer));
        prop_assert_eq!(got.cache.size_bytes, size_bytes);
        prop_assert_eq!((got.cache.last_used_utc, got.cache.last_refreshed_utc), (used, refreshed));
        let secrets = got.secret_requirements.unwrap();
        prop_assert_eq!(secrets.len(), wanted.len());
        for (got, wanted) in secrets.iter().zip(&wanted) {
            prop_assert_eq!(got.key.as_str(), &wanted.key);
            prop_assert_eq!(got.required, wanted.required);
            prop_assert_eq!(&got.description, &wanted.description);
            prop_assert_eq!(&got.examples, &wanted.examples);
            let scope = got.scope.as_ref().map(|scope| (&scope.env, &scope.tenant, &scope.team));
            prop_assert_eq!(scope, wanted.scope.as_ref().map(|scope| (&scope.env, &scope.tenant, &scope.team)));
            prop_assert_eq!(got.schema.as_ref().map(ToString::to_string), wanted.schema.clone());
        }
    }
}

/// What a host may say that a component needs.
fn any_secret() -> impl Strategy<Value = wit::SecretRequirement> {
    let scope = ("[a-z]{1,6}", "[a-z]{1,6}", proptest::option::of("[a-z]{1,6}"));
    let scope = scope.prop_map(|(env, tenant, team)| secrets::SecretScope { env, tenant, team });
    let schema = any_json().prop_map(|schema| json!({ "x": schema }).to_string());
    (
        "[a-z]{1,8}(/[a-z0-9]{1,8}){0,2}",
        any::<bool>(),
        proptest::option::of(".{0,20}"),
        proptest::option::of(scope),
        proptest::option::of(schema),
        proptest::collection::vec(".{0,10}", 0..3),
    )
        .prop_map(|(key, required, description, scope, schema, examples)| wit::SecretRequirement {
            description,
            scope,
            schema,
            examples,
            required,
            ..secret(&key)
        })
}
