use std::sync::Arc;

use greentic_dist_net::{HostConfig, HostEndpoint, NetErrorKind, Repository, Selector};
use greentic_dist_testkit::scenario::{Lie, LyingRegistry, Part, Scenario, hostile};
use greentic_dist_testkit::{LyingServer, Response, fixture};
use greentic_dist_types::{Descriptor, Digest, ManifestKind, Mismatch, PlatformChoice, media_type};

use crate::support::{Recorder, layer_of, net, quick, read, repository};

#[tokio::test]
async fn one_layer_without_login_costs_two_requests() {
    let registry = Scenario::new(fixture::component()).start();
    let net = net();
    let repository = repository(&net, &registry.reference());
    let image = repository.image(Selector::Tag("1"), &PlatformChoice::default()).await.unwrap();
    let ManifestKind::Image(manifest) = &image.manifest.kind else { panic!("an image") };
    let bytes = read(repository.blob(&manifest.layers[0]).open().await.unwrap()).await.unwrap();

    assert_eq!(bytes, registry.artifact().layer_bytes());
    assert!(image.index.is_none());
    assert_eq!(image.manifest.digest, registry.artifact().manifest_digest);
    assert_eq!(image.manifest.raw, registry.artifact().manifest_bytes);
    assert_eq!(
        registry.journal().lines(),
        [
            "GET /v2/acme/hello/manifests/1".to_owned(),
            format!("GET /v2/acme/hello/blobs/{}", registry.artifact().layer_digest())
        ]
    );
    assert_eq!(registry.server().connections(), 1, "the connection is used again");
    assert_eq!((net.stats().requests, net.stats().retries, net.stats().token_requests), (2, 0, 0));
    assert!(net.stats().bytes_received > 0);
}

#[tokio::test]
async fn every_request_asks_for_identity_and_all_manifest_types_and_sends_no_cookie() {
    let registry = Scenario::new(fixture::component()).start();
    let net = net();
    let repository = repository(&net, &registry.reference());
    repository.manifest(Selector::Tag("1")).await.unwrap();
    read(repository.blob(&layer_of(registry.artifact())).open().await.unwrap()).await.unwrap();
    let journal = registry.journal();
    assert_eq!(journal.header_of(0, "accept").as_deref(), Some(media_type::MANIFEST_ACCEPT));
    for entry in journal.entries() {
        assert_eq!(entry.headers.get("accept-encoding"), Some("identity"));
        assert!(entry.headers.get("user-agent").unwrap().starts_with("greentic-dist/"));
        for absent in ["authorization", "cookie", "referer", "range"] {
            assert_eq!(entry.headers.get(absent), None, "{absent}");
        }
    }
}

#[tokio::test]
async fn an_unchanged_tag_costs_one_request_and_no_body() {
    let registry = Scenario::new(fixture::component()).start();
    let net = net();
    let repository = repository(&net, &registry.reference());
    let first = repository.manifest(Selector::Tag("1")).await.unwrap();
    registry.journal().clear();

    let same = repository.manifest_if_changed("1", first.etag.as_deref(), &first.digest).await.unwrap();
    assert!(same.is_none());
    // Without a remembered ETag the digest serves as one.
    assert!(repository.manifest_if_changed("1", None, &first.digest).await.unwrap().is_none());
    let statuses: Vec<u16> = registry.journal().entries().iter().map(|entry| entry.status).collect();
    assert_eq!(statuses, [304, 304]);
}

#[tokio::test]
async fn a_changed_tag_is_answered_by_the_same_request() {
    let registry = Scenario::new(fixture::component()).start();
    let net = net();
    let repository = repository(&net, &registry.reference());
    let first = repository.manifest(Selector::Tag("1")).await.unwrap();
    let other = fixture::artifact("application/wasm", "\0asm something newer");
    registry.publish(&other, "1");
    registry.journal().clear();
    let changed = repository.manifest_if_changed("1", first.etag.as_deref(), &first.digest).await.unwrap().unwrap();
    assert_eq!(changed.digest, other.manifest_digest);
    assert_eq!(registry.journal().len(), 1);
}

#[tokio::test]
async fn the_same_manifest_without_an_etag_counts_as_unchanged() {
    for lie in [Lie::NoEtag, Lie::WeakEtag] {
        let registry = Scenario::new(fixture::component()).lie(lie).start();
        let net = net();
        let repository = repository(&net, &registry.reference());
        let first = repository.manifest(Selector::Tag("1")).await.unwrap();
        let again = repository.manifest_if_changed("1", first.etag.as_deref(), &first.digest).await.unwrap();
        assert!(again.is_none());
        assert_eq!(registry.journal().len(), 2);
    }
}

#[tokio::test]
async fn not_modified_to_an_unconditional_request_is_a_protocol_error() {
    let registry = Scenario::new(fixture::component()).lie(Lie::UnaskedNotModified).start();
    let error = repository(&net(), &registry.reference()).manifest(Selector::Tag("1")).await.unwrap_err();
    assert_eq!((error.kind(), error.status()), (NetErrorKind::Protocol, Some(304)));
    assert!(error.to_string().contains("not modified, though nothing was asked conditionally"), "{error}");
}

#[tokio::test]
async fn a_status_beside_the_redirects_is_not_called_one() {
    for status in [300, 305, 306, 399] {
        let server = LyingServer::start(move |_, _| Response::status(status, "").header("Location", "/x"));
        let repository = repository(&net(), &format!("{}/acme/hello", server.host()));
        let error = repository.manifest(Selector::Tag("1")).await.unwrap_err();
        assert_eq!((error.kind(), error.status()), (NetErrorKind::Protocol, Some(status)));
        assert!(error.to_string().contains("this status is no redirect"), "{error}");
    }
}

#[tokio::test]
async fn not_modified_about_another_manifest_is_not_believed() {
    let known = fixture::component();
    let newer = fixture::artifact("application/wasm", "\0asm something newer");
    let (digest, other) = (known.manifest_digest, newer.manifest_digest);
    let (own, foreign) = (format!("\"{digest}\""), format!("\"{other}\""));
    // `ETag`s and digest of the 304, and whether it is believed.
    for (etags, told, believed) in [
        (vec![own.clone()], Some(digest.to_string()), true),
        (vec![format!("W/{own}")], None, true),
        (vec![], None, true),
        (vec![], Some("sha256:short".to_owned()), true),
        (vec![foreign.clone()], Some(digest.to_string()), false),
        (vec![own.clone(), foreign.clone()], None, false),
        (vec![own.clone()], Some(other.to_string()), false),
        (vec![], Some(other.to_string()), false),
    ] {
        let case = format!("{etags:?} {told:?}");
        let body = newer.manifest_bytes.clone();
        let server = LyingServer::start(move |request, _| {
            if request.header("if-none-match").is_none() {
                return Response::ok(body.clone()).header("Content-Type", fixture::MANIFEST_TYPE);
            }
            let answer = etags.iter().fold(Response::status(304, ""), |answer, etag| answer.header("ETag", etag));
            told.iter().fold(answer, |answer, told| answer.header("Docker-Content-Digest", told))
        });
        let repository = repository(&net(), &format!("{}/acme/hello", server.host()));
        let answer = repository.manifest_if_changed("1", Some(&own), &digest).await.unwrap();
        assert_eq!(answer.map(|manifest| manifest.digest), (!believed).then_some(other), "{case}");
        assert_eq!(server.journal().len(), if believed { 1 } else { 2 }, "{case}");
    }
}

#[tokio::test]
async fn a_wrong_manifest_under_a_pin_is_refused_whatever_the_header_repeats() {
    let registry = Scenario::new(fixture::component()).lie(Lie::WrongManifestEchoed).start();
    let pin = registry.artifact().manifest_digest;
    let error = repository(&net(), &registry.reference()).manifest(Selector::Digest(pin)).await.unwrap_err();
    assert_eq!(error.kind(), NetErrorKind::Integrity);
    assert!(matches!(error.mismatch(), Some(Mismatch::Digest { expected, .. }) if expected == pin));
    assert_eq!(registry.journal().len(), 2, "asked for once more, then refused");
}

#[tokio::test]
async fn one_byte_of_padding_breaks_a_pin() {
    let registry = Scenario::new(fixture::component()).lie(Lie::PaddedManifest).start();
    let pin = registry.artifact().manifest_digest;
    let error = repository(&net(), &registry.reference()).manifest(Selector::Digest(pin)).await.unwrap_err();
    assert_eq!(error.kind(), NetErrorKind::Integrity);
}

#[tokio::test]
async fn a_wrong_manifest_once_is_fetched_again_with_a_warning() {
    let artifact = fixture::component();
    let good = artifact.clone();
    let server = LyingServer::start(move |request, _| {
        let body = if request.index == 0 { b"{}".to_vec() } else { good.manifest_bytes.clone() };
        Response::ok(body).header("Content-Type", fixture::MANIFEST_TYPE)
    });
    let recorder = Arc::new(Recorder::default());
    let net = quick().observer(Arc::<Recorder>::clone(&recorder)).build().unwrap();
    let repository = repository(&net, &format!("{}/acme/hello", server.host()));
    let manifest = repository.manifest(Selector::Digest(artifact.manifest_digest)).await.unwrap();
    assert_eq!(manifest.digest, artifact.manifest_digest);
    assert!(recorder.lines()[0].starts_with("warning a manifest did not match its digest"), "{:?}", recorder.lines());
}

#[tokio::test]
async fn a_digest_header_that_is_no_digest_is_ignored() {
    for text in ["sha256:../../x", "/abs", "", "sha1:abc", "sha256:\u{e9}"] {
        let registry = Scenario::new(fixture::component()).lie(Lie::DigestHeader(text.into())).start();
        let repository = repository(&net(), &registry.reference());
        let digest = registry.artifact().manifest_digest;
        assert_eq!(repository.manifest(Selector::Tag("1")).await.unwrap().digest, digest);
        assert_eq!(repository.manifest(Selector::Digest(digest)).await.unwrap().digest, digest);
        assert_eq!(repository.head_manifest(Selector::Tag("1")).await.unwrap().digest, Some(digest));
    }
}

#[tokio::test]
async fn a_wrong_digest_header_on_a_tag_is_a_warning_and_the_body_decides() {
    let wrong = Digest::sha256(b"something else").to_string();
    let registry = Scenario::new(fixture::component()).lie(Lie::DigestHeader(wrong)).start();
    let recorder = Arc::new(Recorder::default());
    let net = quick().observer(Arc::<Recorder>::clone(&recorder)).build().unwrap();
    let repository = repository(&net, &registry.reference());
    let manifest = repository.manifest(Selector::Tag("1")).await.unwrap();
    assert_eq!(manifest.digest, registry.artifact().manifest_digest);
    assert!(recorder.lines()[0].contains("Docker-Content-Digest"), "{:?}", recorder.lines());
}

#[tokio::test]
async fn head_tells_the_digest_in_one_request() {
    let registry = Scenario::new(fixture::component()).start();
    let head = repository(&net(), &registry.reference()).head_manifest(Selector::Tag("1")).await.unwrap();
    assert_eq!(head.digest, Some(registry.artifact().manifest_digest));
    assert_eq!(head.media_type.as_deref(), Some(media_type::OCI_MANIFEST));
    assert!(head.size_bytes.is_some() && head.etag.is_some());
    assert_eq!(registry.journal().lines(), ["HEAD /v2/acme/hello/manifests/1"]);
}

#[tokio::test]
async fn head_without_a_digest_falls_back_to_get() {
    let registry = Scenario::new(fixture::component()).lie(Lie::NoDigestHeader).start();
    let head = repository(&net(), &registry.reference()).head_manifest(Selector::Tag("1")).await.unwrap();
    assert_eq!(head.digest, Some(registry.artifact().manifest_digest));
    assert_eq!(registry.journal().lines(), ["HEAD /v2/acme/hello/manifests/1", "GET /v2/acme/hello/manifests/1"]);
}

#[tokio::test]
async fn a_registry_that_refuses_head_is_asked_with_get_and_remembered() {
    for status in [400, 405, 501] {
        let registry = Scenario::new(fixture::component()).lie(Lie::HeadRefused(status)).start();
        let repository = repository(&net(), &registry.reference());
        for _ in 0..2 {
            let head = repository.head_manifest(Selector::Tag("1")).await.unwrap();
            assert_eq!(head.digest, Some(registry.artifact().manifest_digest));
        }
        assert_eq!(registry.journal().count("HEAD", "/"), 1, "{status}");
        assert_eq!(registry.journal().count("GET", "/"), 2, "{status}");
    }
}

#[tokio::test]
async fn what_the_registry_says_about_an_unknown_manifest_survives() {
    let registry = Scenario::new(fixture::component()).start();
    let error = repository(&net(), &registry.reference()).manifest(Selector::Tag("nope")).await.unwrap_err();
    assert_eq!((error.kind(), error.status(), error.attempts()), (NetErrorKind::NotFound, Some(404), 1));
    assert!(error.has_code("MANIFEST_UNKNOWN"));
    let text = error.to_string();
    assert!(text.contains("registry answered 404 for GET http://127.0.0.1:"), "{text}");
    assert!(text.contains("manifest unknown (MANIFEST_UNKNOWN)"), "{text}");
    assert_eq!(registry.journal().len(), 1, "a 404 is not tried again");
}

#[tokio::test]
async fn documents_no_honest_tool_publishes_are_refused() {
    let artifact = fixture::component();
    let hostile = [
        hostile::duplicate_keys(&artifact),
        hostile::layers_and_manifests(&artifact),
        hostile::mislabelled_index(&artifact),
        hostile::wrong_layer_size(&artifact, -1),
        hostile::wrong_layer_digest(&artifact, "sha256:../../x"),
        hostile::deeply_nested(10_000),
    ];
    let registry = Scenario::new(artifact).start();
    let net = net();
    for (index, document) in hostile.iter().enumerate() {
        registry.publish_document(document, Some("bad"));
        let error = repository(&net, &registry.reference()).manifest(Selector::Tag("bad")).await.unwrap_err();
        assert_eq!(error.kind(), NetErrorKind::Protocol, "document {index}: {error}");
        assert!(std::error::Error::source(&error).is_some(), "document {index}");
    }
}

#[tokio::test]
async fn a_login_page_in_place_of_a_manifest_is_called_one() {
    let server = LyingServer::start(|_, _| Response::ok("<html>log in</html>").header("Content-Type", "text/html"));
    let repository = repository(&net(), &format!("{}/acme/hello", server.host()));
    let error = repository.manifest(Selector::Tag("1")).await.unwrap_err();
    assert_eq!(error.kind(), NetErrorKind::Protocol);
    assert!(std::error::Error::source(&error).unwrap().to_string().contains("web page"));
}

#[tokio::test]
async fn content_types_with_parameters_or_of_a_generic_kind_do_not_hide_a_manifest() {
    for content_type in [
        "application/vnd.oci.image.manifest.v1+json; charset=utf-8",
        "text/plain",
        "application/octet-stream",
        "application/json",
    ] {
        let registry = Scenario::new(fixture::component()).lie(Lie::ContentType(content_type.into())).start();
        let manifest = repository(&net(), &registry.reference()).manifest(Selector::Tag("1")).await.unwrap();
        assert_eq!(manifest.media_type, media_type::OCI_MANIFEST, "{content_type}");
    }
    let registry = Scenario::new(fixture::component()).lie(Lie::ContentType(media_type::OCI_INDEX.into())).start();
    let error = repository(&net(), &registry.reference()).manifest(Selector::Tag("1")).await.unwrap_err();
    assert_eq!(error.kind(), NetErrorKind::Protocol, "type confusion");
}

#[tokio::test]
async fn an_index_leads_to_the_wasm_manifest() {
    let (wasm, native) = (fixture::component(), fixture::artifact("application/wasm", "native"));
    let index = fixture::index(&[
        (native.descriptor(), Some(("linux", "amd64"))),
        (wasm.descriptor(), Some(("wasip2", "wasm"))),
    ]);
    let registry = Scenario::new(native).start();
    registry.publish(&wasm, "wasm-only");
    registry.publish_document(&index, Some("multi"));
    let repository = repository(&net(), &registry.reference());
    let image = repository.image(Selector::Tag("multi"), &PlatformChoice::default()).await.unwrap();
    assert_eq!(image.index.unwrap().digest, index.digest);
    assert_eq!(image.manifest.digest, wasm.manifest_digest);
    assert_eq!(registry.journal().len(), 2);
}

#[tokio::test]
async fn an_index_without_a_fitting_manifest_is_not_found() {
    let (one, two) = (fixture::component(), fixture::artifact("application/wasm", "two"));
    let children = [(one.descriptor(), Some(("linux", "amd64"))), (two.descriptor(), Some(("linux", "arm64")))];
    let registry = Scenario::new(one.clone()).start();
    registry.publish_document(&fixture::index(&children), Some("multi"));
    let repository = repository(&net(), &registry.reference());
    let error = repository.image(Selector::Tag("multi"), &PlatformChoice::default()).await.unwrap_err();
    assert_eq!(error.kind(), NetErrorKind::NotFound);
    assert!(std::error::Error::source(&error).unwrap().to_string().contains("linux/arm64"));
}

#[tokio::test]
async fn indexes_in_indexes_are_followed_to_the_limit() {
    let artifact = fixture::component();
    let chain = hostile::index_chain(&artifact, 3);
    let registry = Scenario::new(artifact.clone()).start();
    for (depth, document) in chain.iter().enumerate() {
        registry.publish_document(document, Some(&format!("depth-{}", depth + 1)));
    }
    let repository = repository(&net(), &registry.reference());
    let platform = PlatformChoice::default();
    let image = repository.image(Selector::Tag("depth-2"), &platform).await.unwrap();
    assert_eq!(image.manifest.digest, artifact.manifest_digest);
    let error = repository.image(Selector::Tag("depth-3"), &platform).await.unwrap_err();
    assert_eq!(error.kind(), NetErrorKind::Protocol, "{error}");
}

#[tokio::test]
async fn an_index_that_answers_for_its_own_child_is_refused() {
    let registry = Scenario::new(fixture::component()).lie(Lie::IndexLoop).start();
    let repository = repository(&net(), &registry.reference());
    let error = repository.image(Selector::Tag("1"), &PlatformChoice::default()).await.unwrap_err();
    assert_eq!(error.kind(), NetErrorKind::Integrity, "the child is not what its digest says");
    assert!(registry.journal().len() < 6);
}

#[tokio::test]
async fn quirk_s08_an_index_that_lies_about_type_or_size_of_its_child_is_refused() {
    let artifact = fixture::component();
    let mut mistyped = artifact.descriptor();
    mistyped["mediaType"] = media_type::DOCKER_MANIFEST.into();
    let mut missized = artifact.descriptor();
    missized["size"] = 7.into();
    let registry = Scenario::new(artifact).start();
    let repository = repository(&net(), &registry.reference());
    for (child, kind) in [(mistyped, NetErrorKind::Protocol), (missized, NetErrorKind::Integrity)] {
        registry.publish_document(&fixture::index(&[(child, None)]), Some("liar"));
        registry.journal().clear();
        let error = repository.image(Selector::Tag("liar"), &PlatformChoice::default()).await.unwrap_err();
        assert_eq!(error.kind(), kind);
        assert_eq!(registry.journal().len(), 2, "the index and the child, and nothing the child names");
    }
    // What could be read as an image and as an index is neither.
    for document in
        [hostile::layers_and_manifests(registry.artifact()), hostile::mislabelled_index(registry.artifact())]
    {
        registry.publish_document(&document, Some("both"));
        registry.journal().clear();
        let error = repository.image(Selector::Tag("both"), &PlatformChoice::default()).await.unwrap_err();
        assert_eq!((error.kind(), registry.journal().len()), (NetErrorKind::Protocol, 1), "{error}");
    }
}

#[tokio::test]
async fn a_cut_or_stalled_manifest_is_fetched_again() {
    let registry = Scenario::new(fixture::component()).lie(Lie::CutManifest { after: 20, times: 2 }).start();
    repository(&net(), &registry.reference()).manifest(Selector::Tag("1")).await.unwrap();
    assert_eq!(registry.journal().len(), 3);

    let stalled = Scenario::new(fixture::component()).lie(Lie::StallManifest(20)).start();
    let error = repository(&net(), &stalled.reference()).manifest(Selector::Tag("1")).await.unwrap_err();
    assert_eq!((error.kind(), error.attempts()), (NetErrorKind::Timeout, 5));
}

#[tokio::test]
async fn a_status_that_means_nothing_here_is_a_protocol_error() {
    for status in [204, 206, 300] {
        let server = LyingServer::start(move |_, _| Response::status(status, ""));
        let repository = repository(&net(), &format!("{}/acme/hello", server.host()));
        let error = repository.manifest(Selector::Tag("1")).await.unwrap_err();
        assert_eq!((error.kind(), error.status()), (NetErrorKind::Protocol, Some(status)));
        assert_eq!(server.journal().len(), 1);
    }
}

#[tokio::test]
async fn http_that_is_none_is_a_protocol_error() {
    use greentic_dist_testkit::Step;
    for head in [
        "SSH-2.0-OpenSSH_9.2\r\n\r\n",
        "HTTP/1.1 abc\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5, 6\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551616\r\n\r\n",
    ] {
        let server = LyingServer::start(move |_, _| Response::raw([Step::Bytes(head.into()), Step::Fin]));
        let net = quick().http_rule(greentic_dist_net::HttpRule::Also(vec![])).build().unwrap();
        let repository = repository(&net, &format!("{}/acme/hello", server.host()));
        let error = repository.manifest(Selector::Tag("1")).await.unwrap_err();
        assert_eq!(error.kind(), NetErrorKind::Protocol, "{head:?}: {error}");
    }
}

#[tokio::test]
async fn a_status_on_a_part_of_the_registry_is_told_by_kind() {
    for (status, kind) in [
        (401, NetErrorKind::Unauthorized),
        (403, NetErrorKind::Forbidden),
        (404, NetErrorKind::NotFound),
        (410, NetErrorKind::NotFound),
        (416, NetErrorKind::Protocol),
        (451, NetErrorKind::Forbidden),
        (501, NetErrorKind::Server),
    ] {
        let registry = Scenario::new(fixture::component()).lie(Lie::status(Part::Manifest, status)).start();
        let error = repository(&net(), &registry.reference()).manifest(Selector::Tag("1")).await.unwrap_err();
        assert_eq!((error.kind(), error.status()), (kind, Some(status)));
        assert!(!error.is_transient());
        assert_eq!(registry.journal().len(), 1, "{status} is not tried again");
    }
}

/// A client of a registry that counts every GET of a manifest, and no HEAD.
fn counted(registry: &LyingRegistry) -> Repository {
    let own = HostEndpoint::new(registry.url()).prefer_head(true);
    let net = quick().host(HostConfig::new(registry.host()).origin(own)).build().unwrap();
    repository(&net, &registry.reference())
}

fn methods(registry: &LyingRegistry) -> Vec<String> {
    let method = |line: String| line.split(' ').next().unwrap_or_default().to_owned();
    registry.journal().lines().into_iter().map(method).collect()
}

#[tokio::test]
async fn quirk_p59_where_a_get_counts_and_a_head_does_not_a_known_tag_is_asked_for_by_head() {
    let registry = Scenario::new(fixture::component()).start();
    let repository = counted(&registry);
    let first = repository.manifest(Selector::Tag("1")).await.unwrap();
    let etag = first.etag.as_deref();
    assert_eq!(methods(&registry), ["GET"], "what is not known yet is read at once");
    for _ in 0..2 {
        assert!(repository.manifest_if_changed("1", etag, &first.digest).await.unwrap().is_none());
    }
    assert_eq!(methods(&registry), ["GET", "HEAD", "HEAD"]);
    let other = fixture::artifact("application/wasm", &b"another"[..]);
    registry.publish(&other, "1");
    let changed = repository.manifest_if_changed("1", etag, &first.digest).await.unwrap().unwrap();
    assert_eq!(changed.digest, other.manifest_digest);
    assert_eq!(methods(&registry), ["GET", "HEAD", "HEAD", "HEAD", "GET"]);
}

#[tokio::test]
async fn quirk_p59_a_head_that_tells_no_digest_or_is_refused_is_followed_by_a_conditional_get() {
    for (lie, again) in [(Lie::NoDigestHeader, &["HEAD", "GET"][..]), (Lie::HeadRefused(405), &["GET"])] {
        let registry = Scenario::new(fixture::component()).lie(lie).start();
        let repository = counted(&registry);
        let first = repository.manifest(Selector::Tag("1")).await.unwrap();
        let ask = || repository.manifest_if_changed("1", first.etag.as_deref(), &first.digest);
        assert!(ask().await.unwrap().is_none());
        registry.journal().clear();
        assert!(ask().await.unwrap().is_none());
        assert_eq!(methods(&registry), again);
    }
    let gone = Scenario::new(fixture::component()).start();
    let repository = counted(&gone);
    let error = repository.manifest_if_changed("2", None, &gone.artifact().manifest_digest).await.unwrap_err();
    assert_eq!((error.kind(), methods(&gone).as_slice()), (NetErrorKind::NotFound, &["HEAD".to_owned()][..]));
}

#[tokio::test]
async fn what_a_tag_names_is_told_by_one_head_or_by_the_manifest_where_that_says_too_little() {
    let cases = [
        (None, &["HEAD"][..]),
        (Some(Lie::NoDigestHeader), &["HEAD", "GET"]),
        (Some(Lie::HeadRefused(405)), &["HEAD", "GET"]),
    ];
    for (lie, asked) in cases {
        let scenario = Scenario::new(fixture::component());
        let registry = lie.into_iter().fold(scenario, Scenario::lie).start();
        let found = repository(&net(), &registry.reference()).resolve(Selector::Tag("1")).await.unwrap();
        let made = registry.artifact();
        let size = u64::try_from(made.manifest_bytes.len()).unwrap();
        assert_eq!(found, Descriptor::new(fixture::MANIFEST_TYPE, made.manifest_digest, size));
        assert_eq!(methods(&registry), asked);
    }
    // A type that is none of a manifest's: the body decides.
    let registry = Scenario::new(fixture::component()).lie(Lie::ContentType("text/plain".into())).start();
    let found = repository(&net(), &registry.reference()).resolve(Selector::Tag("1")).await.unwrap();
    assert_eq!((found.media_type.as_str(), methods(&registry).len()), (fixture::MANIFEST_TYPE, 2));
}

#[tokio::test]
async fn the_same_manifest_asked_for_twice_at_once_is_asked_for_once() {
    let registry = Scenario::new(fixture::component()).start();
    let net = net();
    let repository = repository(&net, &registry.reference());
    let same = || repository.manifest(Selector::Tag("1"));
    let pin = Selector::Digest(registry.artifact().manifest_digest);
    let (one, other, pinned) = tokio::join!(same(), same(), repository.manifest(pin));
    assert_eq!((one.unwrap().raw, pinned.unwrap().digest), (other.unwrap().raw, registry.artifact().manifest_digest));
    assert_eq!(registry.journal().len(), 2);
    let etag = same().await.unwrap().etag;
    assert_eq!(registry.journal().len(), 3, "nothing is kept");
    let known = registry.artifact().manifest_digest;
    let changed = || repository.manifest_if_changed("1", etag.as_deref(), &known);
    let (one, other) = tokio::join!(changed(), changed());
    assert!(one.unwrap().is_none() && other.unwrap().is_none());
    assert_eq!(registry.journal().len(), 4);
    // Failures are shared, and another client asks for itself.
    let gone = || repository.manifest(Selector::Tag("gone"));
    let (one, other) = tokio::join!(gone(), gone());
    assert_eq!((one.unwrap_err().kind(), other.unwrap_err().kind()), (NetErrorKind::NotFound, NetErrorKind::NotFound));
    assert_eq!(registry.journal().len(), 5);
    let stranger = crate::support::repository(&crate::support::net(), &registry.reference());
    let (one, other) = tokio::join!(same(), stranger.manifest(Selector::Tag("1")));
    assert!(one.is_ok() && other.is_ok());
    assert_eq!(registry.journal().len(), 7);
}

#[tokio::test]
async fn a_question_after_a_write_gets_no_answer_from_before_it() {
    let artifact = fixture::component();
    let (old, new) = (artifact.manifest_bytes.clone(), crate::push::manifest(b"new", ""));
    let state = Arc::new(std::sync::Mutex::new(old.clone()));
    let kept = Arc::clone(&state);
    let server = LyingServer::start(move |request, _| {
        let mut kept = kept.lock().unwrap();
        if request.method == "PUT" {
            kept.clone_from(&request.body);
            return Response::status(201, "").header("Location", "/x");
        }
        // What was there when it was asked, told late.
        Response::ok(kept.clone())
            .header("Content-Type", fixture::MANIFEST_TYPE)
            .delay(std::time::Duration::from_millis(if *kept == old { 200 } else { 0 }))
    });
    let repository = repository(&net(), &format!("{}/acme/hello", server.host()));
    let read = repository.manifest(Selector::Tag("1"));
    let write_and_read = async {
        // The first question is on its way.
        while server.journal().is_empty() {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
        repository.put_manifest(&new).tag("1").send().await.unwrap();
        repository.manifest(Selector::Tag("1")).await.unwrap().raw
    };
    let (before, after) = tokio::join!(read, write_and_read);
    assert!(before.is_ok());
    assert_eq!(after, *new.bytes());
}
