//! Injectors: references answered by the embedding program, and everything they give checked.

use std::fs;
use std::sync::Arc;
use std::sync::Mutex;

use async_trait::async_trait;
use greentic_dist_testkit::fixture;
use greentic_dist_types::Digest;
use greentic_distributor_client::dist::DistErrorKind::{Auth, Integrity, InvalidInput, NotFound};
use greentic_distributor_client::dist::{
    ArtifactSource, ArtifactSourceKind, CachePolicy, DistClient, DistError, DistOptions, InjectedResolution,
    ResolvePolicy, ResolveRefInjector, ResolvedVia, TransportHints,
};

use crate::support::{Home, assert_delivers, assert_fails, registry, sample};

/// Answers with a function, and remembers what it was asked.
struct Answers<F> {
    answer: F,
    asked: Mutex<Vec<String>>,
}

#[async_trait]
impl<F> ResolveRefInjector for Answers<F>
where
    F: Fn(&str) -> Result<Option<InjectedResolution>, DistError> + Send + Sync,
{
    async fn resolve(&self, reference: &str) -> Result<Option<InjectedResolution>, DistError> {
        self.asked.lock().unwrap().push(reference.to_owned());
        (self.answer)(reference)
    }
}

fn answers<F>(answer: F) -> Arc<Answers<F>>
where
    F: Fn(&str) -> Result<Option<InjectedResolution>, DistError> + Send + Sync,
{
    Arc::new(Answers { answer, asked: Mutex::default() })
}

fn source(raw_ref: &str, kind: ArtifactSourceKind) -> ArtifactSource {
    ArtifactSource { raw_ref: raw_ref.to_owned(), kind, transport_hints: TransportHints::default(), dev_mode: false }
}

/// Answers every reference with these bytes, said to be of `from`.
fn bytes(content: &[u8], digest: String, from: ArtifactSource) -> InjectedResolution {
    InjectedResolution::WasmBytes {
        resolved_digest: digest,
        wasm_bytes: content.to_vec(),
        component_id: "injected.component".to_owned(),
        abi_version: Some("0.6.0".to_owned()),
        source: from,
    }
}

fn digest_of(content: &[u8]) -> String {
    Digest::sha256(content).to_string()
}

#[tokio::test]
async fn a_redirect_that_the_injector_leaves_alone_is_resolved_as_if_it_had_been_typed() {
    let home = Home::new();
    let file = home.path().join("tool.wasm");
    fs::write(&file, b"\0asm tool").unwrap();
    let target = file.display().to_string();
    let injector = answers(move |reference: &str| {
        Ok((reference == "repo://redirect-me").then(|| InjectedResolution::Redirect(target.clone())))
    });
    let client = DistClient::with_ref_injector(home.options(), Arc::clone(&injector) as _);
    let artifact = client.resolve_ref("repo://redirect-me").await.unwrap();
    assert_eq!(artifact.wasm_bytes().unwrap(), b"\0asm tool");
    assert_eq!((artifact.component_id.as_str(), artifact.source.kind), ("tool", ArtifactSourceKind::File));
    assert_eq!(*injector.asked.lock().unwrap(), ["repo://redirect-me", file.to_str().unwrap()]);
    // What it does not know is resolved as ever.
    assert_fails(client.resolve_ref("repo://other").await, Auth, 5);
}

#[tokio::test]
async fn seven_redirects_are_followed_and_the_eighth_is_refused() {
    let home = Home::new();
    let file = home.path().join("0.wasm");
    fs::write(&file, b"\0asm end").unwrap();
    let end = file.display().to_string();
    let injector = answers(move |reference: &str| {
        let Some(left) = reference.strip_prefix("repo://hop-").and_then(|left| left.parse::<u32>().ok()) else {
            return Ok(None);
        };
        Ok(Some(InjectedResolution::Redirect(match left {
            1 => end.clone(),
            left => format!("repo://hop-{}", left - 1),
        })))
    });
    let client = home.builder().ref_injector(Arc::clone(&injector) as _).build();
    assert!(client.resolve_ref("repo://hop-7").await.is_ok());
    assert_eq!(injector.asked.lock().unwrap().len(), 8);
    let text = assert_fails(client.resolve_ref("repo://hop-8").await, InvalidInput, 2);
    assert!(text.contains("8 questions"), "{text}");
    let circle = answers(|_: &str| Ok(Some(InjectedResolution::Redirect("repo://again".into()))));
    let client = home.builder().ref_injector(circle).build();
    assert_fails(client.resolve_ref("repo://again").await, InvalidInput, 2);
}

#[tokio::test]
async fn a_redirect_is_bound_by_the_same_rules_as_what_is_typed() {
    let home = Home::new();
    for (target, kind, exit) in [
        ("not a reference", InvalidInput, 2),
        ("http://127.0.0.1:1/x.wasm", InvalidInput, 2),
        ("./no-such-file.wasm", NotFound, 3),
        ("repo://unbased", Auth, 5),
    ] {
        let injector = answers(move |reference: &str| {
            Ok((reference == "repo://x").then(|| InjectedResolution::Redirect(target.into())))
        });
        let client = home.builder().ref_injector(injector).build();
        assert_fails(client.resolve_ref("repo://x").await, kind, exit);
        assert_eq!(client.net_stats().requests, 0);
    }
    let registry = registry();
    let tag = registry.reference();
    let injector =
        answers(
            move |reference: &str| Ok((reference == "repo://x").then(|| InjectedResolution::Redirect(tag.clone()))),
        );
    let client = home.builder().ref_injector(Arc::clone(&injector) as _).build();
    assert_delivers(&client.resolve_ref("repo://x").await.unwrap(), &sample());
    let options = DistOptions { allow_tags: false, ..home.options() };
    let pins_only = home.builder().options(options).ref_injector(injector).build();
    assert_fails(pins_only.resolve_ref("repo://x").await, InvalidInput, 2);
}

#[tokio::test]
async fn injected_bytes_are_kept_with_their_name_abi_and_the_canonical_form_of_their_source() {
    let content = b"\0asm injected";
    let digest = digest_of(content);
    for (raw_ref, kind, via, canonical) in [
        (
            "oci://ghcr.io/greenticai/components/templates:latest",
            ArtifactSourceKind::Oci,
            ResolvedVia::TagResolution,
            format!("oci://ghcr.io/greenticai/components/templates@{digest}"),
        ),
        (
            "ghcr.io/acme/x",
            ArtifactSourceKind::Oci,
            ResolvedVia::TagResolution,
            format!("oci://ghcr.io/acme/x@{digest}"),
        ),
        (
            "repo://tool:1",
            ArtifactSourceKind::Repo,
            ResolvedVia::RepoMapping,
            format!("oci://ghcr.io/acme/tool@{digest}"),
        ),
        ("store://unbased", ArtifactSourceKind::Store, ResolvedVia::StoreMapping, format!("store://unbased@{digest}")),
        (
            "https://x.example/a.wasm",
            ArtifactSourceKind::Https,
            ResolvedVia::Https,
            format!("https://x.example/a.wasm@{digest}"),
        ),
        ("./a.wasm", ArtifactSourceKind::File, ResolvedVia::File, format!("file://./a.wasm@{digest}")),
    ] {
        let home = Home::new();
        let injected = bytes(content, digest.clone(), source(raw_ref, kind));
        let injector = answers(move |_: &str| Ok(Some(injected.clone())));
        let options = DistOptions { repo_registry_base: Some("ghcr.io/acme".into()), ..home.options() };
        let client = home.builder().options(options).ref_injector(injector).build();
        let descriptor = client.resolve(client.parse_source("repo://any").unwrap(), ResolvePolicy).await.unwrap();
        assert_eq!((descriptor.source_kind, descriptor.resolved_via), (kind, via), "{raw_ref}");
        assert_eq!((&descriptor.canonical_ref, descriptor.raw_ref.as_str()), (&canonical, raw_ref));
        assert_eq!((&descriptor.digest, descriptor.size_bytes), (&digest, content.len() as u64));
        let artifact = client.fetch(&descriptor, CachePolicy).await.unwrap();
        assert_eq!(artifact.source_snapshot.canonical_ref, canonical);
        assert!(artifact.fetched);
        // Reopened, also by a client without the injector.
        for again in
            [client.fetch(&descriptor, CachePolicy).await.unwrap(), home.offline().open_cached(&digest).unwrap()]
        {
            assert_eq!(again.wasm_bytes().unwrap(), content);
            assert_eq!(
                (again.component_id.as_str(), again.abi_version.as_deref()),
                ("injected.component", Some("0.6.0"))
            );
            assert!(!again.fetched);
        }
        assert_eq!(client.net_stats().requests, 0);
    }
}

#[tokio::test]
async fn injected_bytes_and_files_that_are_not_what_they_are_said_to_be_are_refused() {
    let home = Home::new();
    let file = home.path().join("x.wasm");
    fs::write(&file, b"\0asm file").unwrap();
    let of_file = |digest: String, path: std::path::PathBuf| InjectedResolution::WasmPath {
        resolved_digest: digest,
        wasm_path: path,
        component_id: "x".into(),
        abi_version: None,
        source: source("repo://x", ArtifactSourceKind::Repo),
    };
    let of_bytes = |digest: String| bytes(b"\0asm bytes", digest, source("repo://x", ArtifactSourceKind::Repo));
    let other = digest_of(b"something else");
    for (injected, kind, exit) in [
        (of_bytes(other.clone()), Integrity, 8),
        (of_file(other.clone(), file.clone()), Integrity, 8),
        (of_bytes("sha256:abc".into()), InvalidInput, 2),
        (of_bytes("../../x".into()), InvalidInput, 2),
        (of_bytes(String::new()), InvalidInput, 2),
        (of_file(other.clone(), home.path().join("missing.wasm")), NotFound, 3),
        (of_file(other.clone(), home.path().to_owned()), InvalidInput, 2),
        (bytes(b"x", digest_of(b"x"), source("not a reference", ArtifactSourceKind::Oci)), InvalidInput, 2),
    ] {
        let shown = format!("{injected:?}");
        let injector = answers(move |_: &str| Ok(Some(injected.clone())));
        let client = home.builder().ref_injector(injector).build();
        let text = assert_fails(client.resolve_ref("repo://x").await, kind, exit);
        assert!(client.list_cache().is_empty(), "{shown}");
        if exit == 8 {
            assert!(text.contains(&other), "{text}");
        }
    }
    // Also where the right bytes are in the cache already.
    let right = digest_of(b"\0asm file");
    home.client().resolve_ref(file.to_str().unwrap()).await.unwrap();
    let lie = of_bytes(right.clone());
    let client = home.builder().ref_injector(answers(move |_: &str| Ok(Some(lie.clone())))).build();
    assert_fails(client.resolve_ref("repo://x").await, Integrity, 8);
    let limited = of_file(digest_of(b"\0asm large"), home.path().join("large.wasm"));
    fs::write(home.path().join("large.wasm"), b"\0asm large").unwrap();
    let injector = answers(move |_: &str| Ok(Some(limited.clone())));
    let client = home.builder().ref_injector(injector).max_artifact_bytes(4).build();
    assert!(matches!(client.resolve_ref("repo://x").await, Err(DistError::TooLarge { .. })));
}

#[tokio::test]
async fn an_injected_file_is_copied_into_a_cold_cache_and_opened_when_the_file_is_gone() {
    let home = Home::new();
    let (file, content) = (home.path().join("x.wasm"), fixture::random_bytes(3, 700_000));
    fs::write(&file, &content).unwrap();
    let digest = digest_of(&content);
    let injected = InjectedResolution::WasmPath {
        // Without the algorithm, as a digest may be given everywhere.
        resolved_digest: digest.trim_start_matches("sha256:").to_owned(),
        wasm_path: file.clone(),
        component_id: "from.path".into(),
        abi_version: None,
        source: source("oci://ghcr.io/acme/x:1", ArtifactSourceKind::Oci),
    };
    let injector = answers(move |_: &str| Ok(Some(injected.clone())));
    let client = home.builder().ref_injector(injector).build();
    let artifact = client.resolve_ref("repo://x").await.unwrap();
    assert!(artifact.wasm_bytes().unwrap() == content);
    assert_eq!((artifact.digest.as_str(), artifact.component_id.as_str()), (digest.as_str(), "from.path"));
    assert!(artifact.local_path.starts_with(home.cache().canonicalize().unwrap()));
    fs::remove_file(&file).unwrap();
    assert!(home.offline().open_cached(&digest).unwrap().wasm_bytes().unwrap() == content);
    // The client that knows the injector needs the file no more either.
    assert!(!client.resolve_ref("repo://x").await.unwrap().fetched);
}

#[tokio::test]
async fn the_name_an_injector_gives_to_bytes_that_are_here_already_is_kept() {
    let home = Home::new();
    let file = home.path().join("plain.wasm");
    fs::write(&file, b"\0asm plain").unwrap();
    let digest = home.client().resolve_ref(file.to_str().unwrap()).await.unwrap().digest;
    let injected = bytes(b"\0asm plain", digest.clone(), source("./plain.wasm", ArtifactSourceKind::File));
    let injector = answers(move |_: &str| Ok(Some(injected.clone())));
    let artifact = home.builder().ref_injector(injector).build().resolve_ref("repo://x").await.unwrap();
    assert_eq!((artifact.component_id.as_str(), artifact.fetched), ("injected.component", false));
    assert_eq!(home.client().open_cached(&digest).unwrap().component_id, "injected.component");
    for name in ["", "a\nb"] {
        let injected = InjectedResolution::WasmBytes {
            resolved_digest: digest.clone(),
            wasm_bytes: b"\0asm plain".to_vec(),
            component_id: name.into(),
            abi_version: None,
            source: source("./plain.wasm", ArtifactSourceKind::File),
        };
        let injector = answers(move |_: &str| Ok(Some(injected.clone())));
        let client = home.builder().ref_injector(injector).build();
        assert_fails(client.resolve_ref("repo://x").await, InvalidInput, 2);
    }
}

#[tokio::test]
async fn the_errors_of_an_injector_are_passed_on_as_they_are() {
    let home = Home::new();
    let injector = answers(|_: &str| Err(DistError::Unauthorized { target: "the vault".into() }));
    let client = DistClient::with_ref_injector(home.options(), injector);
    let error = client.resolve_ref("repo://x").await.unwrap_err();
    assert!(matches!(&error, DistError::Unauthorized { target } if target == "the vault"), "{error:?}");
    assert_eq!(error.exit_code(), 5);
}
