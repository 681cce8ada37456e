//! Manifests: what they are called, what they say they are, and which one is meant.

use std::sync::Arc;

use greentic_dist_net::{NetErrorKind, Selector};
use greentic_dist_testkit::real::{DockerRegistry, ready};
use greentic_dist_testkit::scenario::{Lie, Scenario, hostile};
use greentic_dist_testkit::{LyingServer, Response, fixture};
use greentic_dist_types::media_type::{OCI_INDEX, OCI_MANIFEST, WASM};
use greentic_dist_types::{Descriptor, Digest, ManifestKind, PlatformChoice, Reference, parse_manifest};

use super::{at, script, serving};
use crate::push::{manifest, with_blobs};
use crate::support::{Recorder, net, quick, read, repository};

const TAG_1: &str = "/v2/acme/hello/manifests/1";

#[tokio::test]
async fn quirk_p01_a_missing_digest_header_is_computed_from_the_body() {
    let registry = Scenario::new(fixture::component()).lie(Lie::NoDigestHeader).start();
    let repository = repository(&net(), &registry.reference());
    let head = repository.head_manifest(Selector::Tag("1")).await.unwrap();
    assert_eq!(head.digest, Some(registry.artifact().manifest_digest));
    assert_eq!(registry.journal().lines(), [format!("HEAD {TAG_1}"), format!("GET {TAG_1}")]);
}

#[tokio::test]
async fn quirk_p02_a_wrong_digest_header_on_a_tag_is_a_warning_and_the_body_decides() {
    let recorder = Arc::new(Recorder::default());
    let other = Digest::sha256(b"other").to_string();
    let registry = Scenario::new(fixture::component()).lie(Lie::DigestHeader(other)).start();
    let net = quick().observer(Arc::clone(&recorder) as _).build().unwrap();
    for asked in 1..=2 {
        let fetched = repository(&net, &registry.reference()).manifest(Selector::Tag("1")).await.unwrap();
        assert_eq!(fetched.digest, registry.artifact().manifest_digest);
        assert_eq!(recorder.lines().len(), 1, "told once for each host");
        assert!(recorder.lines()[0].contains("Docker-Content-Digest"));
        assert_eq!(registry.journal().len(), asked);
    }
}

#[tokio::test]
async fn quirk_p03_a_header_that_echoes_the_pin_over_another_body_is_an_integrity_error() {
    let registry = Scenario::new(fixture::component()).lie(Lie::WrongManifestEchoed).start();
    let pin = registry.artifact().manifest_digest;
    let error = repository(&net(), &registry.pinned()).manifest(Selector::Digest(pin)).await.unwrap_err();
    assert_eq!(error.kind(), NetErrorKind::Integrity);
    assert_eq!(registry.journal().len(), 2, "it is fetched once more before it fails");
}

#[tokio::test]
async fn quirk_p04_an_empty_digest_header_is_a_missing_one() {
    let artifact = fixture::component();
    let body = artifact.manifest_bytes.clone();
    let server = serving(move |_, _| {
        Response::ok(body.clone()).header("Content-Type", OCI_MANIFEST).header("Docker-Content-Digest", "")
    });
    let head = at(&net(), &server).head_manifest(Selector::Tag("1")).await.unwrap();
    assert_eq!(head.digest, Some(artifact.manifest_digest));
    assert_eq!(server.journal().lines(), [format!("HEAD {TAG_1}"), format!("GET {TAG_1}")]);
}

#[tokio::test]
async fn quirk_p05_a_refused_head_becomes_a_get_and_is_remembered() {
    for status in [400, 405, 501] {
        let registry = Scenario::new(fixture::component()).lie(Lie::HeadRefused(status)).start();
        let repository = repository(&net(), &registry.reference());
        for _ in 0..2 {
            let head = repository.head_manifest(Selector::Tag("1")).await.unwrap();
            assert_eq!(head.digest, Some(registry.artifact().manifest_digest));
        }
        let lines = registry.journal().lines();
        assert_eq!(lines, [format!("HEAD {TAG_1}"), format!("GET {TAG_1}"), format!("GET {TAG_1}")], "{status}");
    }
    // A 403 has a reason only in the answer to a GET, and is none against HEAD.
    let denied = serving(|_, _| Response::oci_error(403, "DENIED", "the quota is used up"));
    let error = at(&net(), &denied).head_manifest(Selector::Tag("1")).await.unwrap_err();
    assert_eq!(error.kind(), NetErrorKind::Forbidden);
    assert!(error.to_string().contains("the quota is used up"));
    assert_eq!(denied.journal().lines(), [format!("HEAD {TAG_1}"), format!("GET {TAG_1}")]);
}

#[tokio::test]
async fn quirk_p06_every_manifest_type_is_accepted_in_one_header_line() {
    let artifact = fixture::component();
    let body = artifact.manifest_bytes.clone();
    // Reads the first `Accept` line only, as old servers do, and knows nothing but the OCI types.
    let server = serving(move |request, _| {
        let accept: Vec<&str> = request.headers.get_all("accept").collect();
        match accept.as_slice() {
            [only] if only.contains(OCI_MANIFEST) && only.contains(OCI_INDEX) => {
                Response::ok(body.clone()).header("Content-Type", OCI_MANIFEST)
            }
            _ => Response::oci_error(404, "MANIFEST_UNKNOWN", "no manifest of an accepted type"),
        }
    });
    let fetched = at(&net(), &server).manifest(Selector::Tag("1")).await.unwrap();
    assert_eq!(fetched.digest, artifact.manifest_digest);
    if !ready("quirk_p06_every_manifest_type_is_accepted_in_one_header_line", &["docker-registry"]) {
        return;
    }
    // docker-registry answers 404 to who does not accept the type it has.
    let registry = DockerRegistry::open();
    let repository = repository(&net(), &format!("{}/acme/hello", registry.host()));
    let index = format!(r#"{{"schemaVersion":2,"mediaType":"{OCI_INDEX}","manifests":[]}}"#);
    let index = greentic_dist_net::RawManifest::new(index).unwrap();
    repository.put_manifest(&index).tag("1").send().await.unwrap();
    assert_eq!(repository.manifest(Selector::Tag("1")).await.unwrap().digest, *index.digest());
}

#[tokio::test]
async fn quirk_p07_a_generic_content_type_leaves_the_decision_to_the_body() {
    for content_type in [
        "application/vnd.oci.image.manifest.v1+json; charset=utf-8",
        "text/plain",
        "application/octet-stream",
        "application/json;odd=\"a;b\"",
    ] {
        let registry = Scenario::new(fixture::component()).lie(Lie::ContentType(content_type.into())).start();
        let fetched = repository(&net(), &registry.reference()).manifest(Selector::Tag("1")).await.unwrap();
        assert_eq!(fetched.media_type, OCI_MANIFEST, "{content_type}");
        assert!(matches!(fetched.kind, ManifestKind::Image(_)));
    }
    // None at all, and a blob whose HEAD has none.
    let body = fixture::component().manifest_bytes;
    let server = serving(move |_, _| Response::ok(body.clone()));
    let fetched = at(&net(), &server).manifest(Selector::Tag("1")).await.unwrap();
    assert_eq!(fetched.media_type, OCI_MANIFEST);
    let head = at(&net(), &server).head_blob(&Digest::sha256(b"x")).await.unwrap();
    assert!(head.is_some());
}

#[tokio::test]
async fn quirk_p08_a_body_of_another_type_than_its_header_is_refused() {
    for (registry_says, expected) in [
        (OCI_INDEX, Err(NetErrorKind::Protocol)),
        ("application/vnd.docker.distribution.manifest.v2+json", Err(NetErrorKind::Protocol)),
        ("application/json", Ok(())),
    ] {
        let registry = Scenario::new(fixture::component()).lie(Lie::ContentType(registry_says.into())).start();
        let fetched = repository(&net(), &registry.reference()).manifest(Selector::Tag("1")).await;
        assert_eq!(fetched.map(drop).map_err(|error| error.kind()), expected, "{registry_says}");
    }
}

#[tokio::test]
async fn quirk_p47_manifests_that_are_too_much_are_refused_within_the_caps() {
    let artifact = fixture::component();
    let net = net();
    for (document, kind) in [
        (hostile::huge_manifest(&artifact, 5 << 20), NetErrorKind::TooLarge),
        (hostile::deeply_nested(10_000), NetErrorKind::Protocol),
        (hostile::duplicate_keys(&artifact), NetErrorKind::Protocol),
        (hostile::many_layers(&artifact, 1_001), NetErrorKind::TooLarge),
    ] {
        let registry = Scenario::new(artifact.clone()).start();
        registry.publish_document(&document, Some("bad"));
        let repository = repository(&net, &registry.reference());
        let error = repository.manifest(Selector::Tag("bad")).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert_eq!(registry.journal().len(), 1, "{error}");
    }
    let endless = Scenario::new(artifact).lie(Lie::EndlessManifest).start();
    let error = repository(&net, &endless.reference()).manifest(Selector::Tag("1")).await.unwrap_err();
    assert_eq!(error.kind(), NetErrorKind::TooLarge);
}

#[tokio::test]
async fn quirk_p48_descriptors_that_lie_are_refused_and_inline_content_saves_a_request() {
    let artifact = fixture::component();
    let registry = Scenario::new(artifact.clone()).start();
    let net = net();
    let repository = repository(&net, &registry.reference());
    for document in [hostile::wrong_layer_size(&artifact, -1), hostile::wrong_layer_digest(&artifact, "sha256:../../x")]
    {
        registry.publish_document(&document, Some("bad"));
        let error = repository.manifest(Selector::Tag("bad")).await.unwrap_err();
        assert_eq!(error.kind(), NetErrorKind::Protocol);
    }
    registry.journal().clear();
    let inline = |data: &str, size: u64| {
        let digest = Digest::sha256(b"{}");
        let body = format!(
            r#"{{"schemaVersion":2,"config":{{"mediaType":"a/b","digest":"{digest}","size":{size},"data":"{data}"}},"layers":[]}}"#
        );
        let Ok(ManifestKind::Image(image)) = parse_manifest(body.as_bytes(), None) else { panic!("an image") };
        image.config.unwrap()
    };
    let stream = repository.blob(&inline("e30=", 2)).open().await.unwrap();
    assert_eq!((stream.digest(), stream.size_bytes()), (Digest::sha256(b"{}"), 2));
    assert_eq!(read(stream).await.unwrap(), b"{}");
    assert!(registry.journal().is_empty(), "nothing was asked");
    // Content that is not what the descriptor promises is not looked at: the registry is asked.
    let error = repository.blob(&inline("e31=", 2)).open().await.unwrap_err();
    assert_eq!(error.kind(), NetErrorKind::NotFound);
    assert_eq!(registry.journal().len(), 1);
}

#[tokio::test]
async fn quirk_p49_names_that_are_none_never_reach_a_url() {
    for odd in [
        "127.0.0.1:1/acme/%2e%2e/x:1",
        "127.0.0.1:1/acme/../x:1",
        "127.0.0.1:1/Acme/x:1",
        "127.0.0.1:1/acme/ümlaut:1",
        "127.0.0.1:1/acme/x:1/../2",
        "127.0.0.1:1/acme/x@sha256:../../etc",
        &format!("127.0.0.1:1/acme/{}:1", "x".repeat(256)),
        "127.0.0.1:1/acme/x:1?y=z",
    ] {
        assert!(Reference::parse(odd).is_err(), "{odd}");
    }
    let server = script([]);
    let net = net();
    let repository = at(&net, &server);
    for odd in ["../x", "a b", "%2e", "", ".hidden", &"x".repeat(129), "a?b", "a#b"] {
        let error = repository.delete_tag(odd).await.unwrap_err();
        assert_eq!(error.kind(), NetErrorKind::InvalidInput, "{odd}");
        let manifest = manifest(b"layer", "");
        let error = repository.put_manifest(&manifest).tag(odd).send().await.unwrap_err();
        assert_eq!(error.kind(), NetErrorKind::InvalidInput, "{odd}");
    }
    for odd in ["", "a/b", "user:pw@host", "host:port", "[::1"] {
        assert_eq!(net.registry(odd).unwrap_err().kind(), NetErrorKind::InvalidInput, "{odd}");
    }
    assert!(server.journal().is_empty());
}

#[tokio::test]
async fn quirk_p50_a_schema_1_manifest_is_unsupported_and_says_what_to_do() {
    let registry = Scenario::new(fixture::component()).start();
    registry.publish_document(&hostile::schema1(), Some("old"));
    let repository = repository(&net(), &registry.reference());
    let error = repository.manifest(Selector::Tag("old")).await.unwrap_err();
    assert_eq!(error.kind(), NetErrorKind::Unsupported);
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.contains("schema 1") && cause.contains("push the artifact again"), "{cause}");
}

#[tokio::test]
async fn quirk_p53_attestations_are_passed_over_and_both_digests_are_kept() {
    let (native, wasm, proof) = (
        fixture::artifact("application/wasm", "native"),
        fixture::component(),
        fixture::artifact("application/wasm", "attestation"),
    );
    let registry = Scenario::new(native.clone()).start();
    registry.publish(&wasm, "wasm");
    let choose = async |tag: &str, children: &[(serde_json::Value, Option<(&str, &str)>)]| {
        let index = fixture::index(children);
        registry.publish_document(&index, Some(tag));
        let repository = repository(&net(), &registry.reference());
        let image = repository.image(Selector::Tag(tag), &PlatformChoice::default()).await.unwrap();
        assert_eq!(image.index.unwrap().digest, index.digest);
        image.manifest.digest
    };
    let unknown = (proof.descriptor(), Some(("unknown", "unknown")));
    for (tag, platform) in [("wasi", ("wasi", "wasm")), ("wasip2", ("wasip2", "wasm"))] {
        let children =
            [(native.descriptor(), Some(("linux", "amd64"))), unknown.clone(), (wasm.descriptor(), Some(platform))];
        assert_eq!(choose(tag, &children).await, wasm.manifest_digest, "{platform:?}");
    }
    // A single manifest beside attestations is the one, whatever its platform, and without any.
    assert_eq!(choose("one", &[unknown.clone(), (wasm.descriptor(), None)]).await, wasm.manifest_digest);
    assert_eq!(choose("bare", &[(wasm.descriptor(), None)]).await, wasm.manifest_digest);
}

#[tokio::test]
async fn quirk_p61_weak_quoted_and_absent_etags_revalidate_a_tag_in_one_request() {
    for (lie, condition, status) in [
        (None, "\"{digest}\"", 304),
        (Some(Lie::WeakEtag), "W/\"{digest}\"", 304),
        // Without one the digest is tried, and the same body counts as unchanged.
        (Some(Lie::NoEtag), "\"{digest}\"", 200),
    ] {
        let scenario = Scenario::new(fixture::component());
        let registry = lie.iter().cloned().fold(scenario, Scenario::lie).start();
        let repository = repository(&net(), &registry.reference());
        let first = repository.manifest(Selector::Tag("1")).await.unwrap();
        registry.journal().clear();
        let again = repository.manifest_if_changed("1", first.etag.as_deref(), &first.digest).await.unwrap();
        assert!(again.is_none());
        assert_eq!(registry.journal().len(), 1);
        let expected = condition.replace("{digest}", &first.digest.to_string());
        assert_eq!(registry.journal().header_of(0, "if-none-match"), Some(expected));
        assert_eq!(registry.journal().entries()[0].status, status);
    }
}

/// A manifest that is pushed and pulled by a client of its own is what its descriptor says.
#[tokio::test]
async fn an_empty_index_and_an_empty_blob_are_content_like_any_other() {
    let registry = crate::push::honest();
    let repository = repository(&net(), &format!("{}/acme/hello", registry.host()));
    let manifest = with_blobs(&repository, b"", "").await;
    repository.put_manifest(&manifest).tag("1").send().await.unwrap();
    let blob = repository.blob(&Descriptor::new(WASM, Digest::sha256(b""), 0)).open().await.unwrap();
    assert_eq!(read(blob).await.unwrap(), b"");
    registry.stop();
}

#[test]
fn the_scripted_server_is_what_it_says() {
    let server: LyingServer = script([Response::ok("one")]);
    let asked = |path: &str| greentic_dist_testkit::raw_client::get(server.addr(), path).unwrap().status;
    assert_eq!((asked("/1"), asked("/2")), (200, 418));
}
