//! Pushing and deleting: statuses, locations, digests and redirects as registries really send them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use greentic_dist_net::{
    BytesSource, HttpRule, NetErrorKind, PushedBlob, RawManifest, ReferrersUpkeep, Selector, UploadMode,
};
use greentic_dist_testkit::real::{DockerRegistry, TlsFront, ready};
use greentic_dist_testkit::scenario::bystander;
use greentic_dist_testkit::{LyingServer, Response};
use greentic_dist_types::media_type::WASM;
use greentic_dist_types::{Algorithm, Descriptor, Digest, Manifest};

use super::{CANARY, START, at, created, head_line, missing, script, serving, session, with_password};
use crate::push::{manifest, source, with_blobs};
use crate::support::{descriptor, net, quick, read, repository, with_login};

const BYTES: &[u8] = b"content";

async fn push(server: &LyingServer) -> Result<PushedBlob, NetErrorKind> {
    at(&net(), server).put_blob(source(BYTES)).send().await.map_err(|error| error.kind())
}

fn put_line(location: &str) -> String {
    let separator = if location.contains('?') { '&' } else { '?' };
    format!("PUT {location}{separator}digest={}", Digest::sha256(BYTES))
}

#[tokio::test]
async fn quirk_p29_a_manifest_that_is_accepted_without_a_location_is_pushed() {
    let server = script([Response::status(201, "")]);
    let manifest = manifest(b"layer", "");
    let pushed = at(&net(), &server).put_manifest(&manifest).tag("1").send().await.unwrap();
    assert_eq!((pushed.digest, pushed.referrers), (*manifest.digest(), ReferrersUpkeep::NotNeeded));
    assert_eq!(server.journal().lines(), ["PUT /v2/acme/hello/manifests/1"]);
    assert_eq!(server.journal().entries()[0].body, manifest.bytes()[..]);
}

#[tokio::test]
async fn quirk_p30_odd_statuses_of_a_commit_count_when_the_blob_is_there() {
    for (status, asks) in [(201, false), (204, false), (200, true), (202, true)] {
        let server = script([missing(), session("/s"), Response::status(status, ""), Response::ok("")]);
        assert_eq!(push(&server).await, Ok(PushedBlob::Sent), "{status}");
        let mut lines = vec![head_line(BYTES), START.to_owned(), put_line("/s")];
        if asks {
            lines.push(head_line(BYTES));
        }
        assert_eq!(server.journal().lines(), lines, "{status}");
    }
    // It is not: accepted, and lost. The session is given back.
    let server = script([missing(), session("/s"), Response::status(202, ""), missing()]);
    assert_eq!(push(&server).await, Err(NetErrorKind::Protocol));
    assert_eq!(server.journal().lines().last().unwrap(), "DELETE /s");
    // Chunks are accepted with 201 (ECR) and 204, too.
    for status in [201, 204] {
        let answers = [session("/s"), Response::status(status, ""), created()];
        let server = script(answers);
        let upload = at(&net(), &server).put_blob(source(BYTES)).check_first(false);
        assert_eq!(upload.mode(UploadMode::Chunked { chunk_bytes: 7 }).send().await.unwrap(), PushedBlob::Sent);
        assert_eq!(server.journal().lines(), [START.to_owned(), "PATCH /s".into(), put_line("/s")]);
    }
}

#[tokio::test]
async fn quirk_p33_locations_are_resolved_and_keep_what_their_query_holds() {
    const STATE: &str = "_state=a%2Bb%3D%3D&x=y+z";
    for relative in [true, false] {
        let server = serving(move |request, ctx| match request.method.as_str() {
            "HEAD" => missing(),
            "POST" if relative => session(&format!("9?{STATE}")),
            "POST" => session(&ctx.url(&format!("/v2/acme/hello/blobs/uploads/9?{STATE}"))),
            _ => created(),
        });
        assert_eq!(push(&server).await, Ok(PushedBlob::Sent));
        let location = format!("/v2/acme/hello/blobs/uploads/9?{STATE}");
        assert_eq!(server.journal().lines()[2], put_line(&location));
    }
    for broken in ["", "http://", "http://[::x/"] {
        let server = script([missing(), session(broken)]);
        // An empty location is the URL itself, which takes no PUT; the others are none.
        assert_eq!(push(&server).await, Err(NetErrorKind::Protocol), "{broken}");
    }
    let server = script([missing(), Response::status(202, "")]);
    assert_eq!(push(&server).await, Err(NetErrorKind::Protocol));
}

#[tokio::test]
async fn quirk_p33_a_location_that_forgot_its_tls_is_upgraded() {
    if !ready("quirk_p33_a_location_that_forgot_its_tls_is_upgraded", &["docker-registry", "nginx"]) {
        return;
    }
    let registry = DockerRegistry::open();
    // The registry behind it does not know that it is asked over TLS, and names `http://` locations.
    let front = TlsFront::start_unannounced(registry.addr());
    let pem = std::fs::read(front.ca_file()).unwrap();
    let net = quick().http_rule(HttpRule::Never).root_certificates_pem(pem).build().unwrap();
    let repository = repository(&net, &format!("{}/acme/hello", front.host()));
    for mode in [UploadMode::Whole, UploadMode::Chunked { chunk_bytes: 3 }] {
        let bytes = format!("{mode:?}");
        let pushed = repository.put_blob(source(bytes.as_bytes())).mode(mode).send().await.unwrap();
        assert_eq!(pushed, PushedBlob::Sent);
        let blob = repository.blob(&descriptor(bytes.as_bytes())).open().await.unwrap();
        assert_eq!(read(blob).await.unwrap(), bytes.as_bytes());
    }
}

#[tokio::test]
async fn quirk_p34_a_location_on_another_host_gets_the_bytes_and_no_login() {
    let store = LyingServer::start_on([127, 0, 0, 2].into(), |request, _| match request.method.as_str() {
        "PUT" => created(),
        _ => Response::status(500, ""),
    });
    let location = format!("{}/bucket/9?sig=s", store.url());
    let registry = with_password(move |request, _| match request.method.as_str() {
        "HEAD" => missing(),
        _ => session(&location),
    });
    let net = with_login(&registry.host(), "ann", CANARY).build().unwrap();
    assert_eq!(at(&net, &registry).put_blob(source(BYTES)).send().await.unwrap(), PushedBlob::Sent);
    assert_eq!(store.journal().lines(), [put_line("/bucket/9?sig=s")]);
    assert_eq!(store.journal().entries()[0].body, BYTES);
    assert!(!store.journal().contains(CANARY) && store.journal().authorization_of(0).is_none());
    // A store that asks for a login gets none either.
    let asking = LyingServer::start_on([127, 0, 0, 2].into(), |_, _| Response::basic_challenge("give"));
    let location = format!("{}/x?_state={CANARY}", asking.url());
    let registry = with_password(move |request, _| match request.method.as_str() {
        "HEAD" => missing(),
        _ => session(&location),
    });
    let net = with_login(&registry.host(), "ann", CANARY).build().unwrap();
    let error = at(&net, &registry).put_blob(source(BYTES)).send().await.unwrap_err();
    assert_eq!(error.kind(), NetErrorKind::Unauthorized);
    assert_eq!(asking.journal().len(), 2, "the bytes, and the end of the session");
    assert!(!asking.journal().any_header_contains(CANARY));
    // Nor does what the location holds stand in an error.
    assert!(!format!("{error} {error:?}").contains(CANARY));
}

#[tokio::test]
async fn quirk_p34_a_location_in_an_inner_network_or_of_another_kind_is_refused() {
    // From a loopback registry every address but the forbidden ones is as near or farther; a public one is tested with the rule.
    for location in
        ["http://169.254.169.254/latest", "ftp://127.0.0.1/x", "http://user:pw@127.0.0.1/x", "http://10.0.0.1/x"]
    {
        let server = script([missing(), session(location)]);
        assert_eq!(push(&server).await, Err(NetErrorKind::Refused), "{location}");
        assert_eq!(server.journal().len(), 2, "{location}");
    }
}

#[tokio::test]
async fn quirk_p37_a_mount_that_is_not_one_becomes_an_upload() {
    let mount = |from: &str| format!("{START}?mount={}&from={from}", Digest::sha256(BYTES));
    // 202: the session is there, it is used.
    let server = script([session("/s"), created()]);
    let upload = at(&net(), &server).put_blob(source(BYTES)).check_first(false).mount_from("acme/other");
    assert_eq!(upload.send().await.unwrap(), PushedBlob::Sent);
    assert_eq!(server.journal().lines(), [mount("acme/other"), put_line("/s")]);
    // Refused: asked without it.
    for status in [400, 403, 404, 405] {
        let server = script([Response::status(status, ""), session("/s"), created()]);
        let upload = at(&net(), &server).put_blob(source(BYTES)).check_first(false).mount_from("acme/other");
        assert_eq!(upload.send().await.unwrap(), PushedBlob::Sent, "{status}");
        assert_eq!(server.journal().lines(), [mount("acme/other"), START.to_owned(), put_line("/s")]);
    }
    // A blob that may be there is asked for only when the mount did not bring it, and a session nobody needs is given back.
    for (answers, pushed, lines) in [
        (vec![created()], PushedBlob::Mounted, vec![mount("acme/other")]),
        (
            vec![session("/s"), missing(), created()],
            PushedBlob::Sent,
            vec![mount("acme/other"), head_line(BYTES), put_line("/s")],
        ),
        (
            vec![session("/s"), Response::ok(BYTES), Response::status(204, "")],
            PushedBlob::Existed,
            vec![mount("acme/other"), head_line(BYTES), "DELETE /s".to_owned()],
        ),
        (
            vec![Response::status(405, ""), Response::ok(BYTES)],
            PushedBlob::Existed,
            vec![mount("acme/other"), head_line(BYTES)],
        ),
        (
            vec![Response::status(405, ""), missing(), session("/s"), created()],
            PushedBlob::Sent,
            vec![mount("acme/other"), head_line(BYTES), START.to_owned(), put_line("/s")],
        ),
    ] {
        let server = script(answers);
        let upload = at(&net(), &server).put_blob(source(BYTES)).mount_from("acme/other");
        assert_eq!(upload.send().await.unwrap(), pushed);
        assert_eq!(server.journal().lines(), lines);
    }
    // No right to read the other repository: the token server says so.
    let server = serving(|request, ctx| {
        let token = "Bearer t";
        match (request.path.as_str(), request.header("authorization")) {
            ("/token", _) if request.query.iter().any(|(_, scope)| scope.contains("acme/other")) => {
                Response::status(401, "")
            }
            ("/token", _) => Response::ok(r#"{"token":"t"}"#),
            (_, Some(shown)) if shown == token => {
                if request.method == "POST" {
                    session("/s")
                } else {
                    created()
                }
            }
            _ => Response::bearer_challenge(&ctx.url("/token"), "s", ""),
        }
    });
    let upload = at(&net(), &server).put_blob(source(BYTES)).check_first(false).mount_from("acme/other");
    assert_eq!(upload.send().await.unwrap(), PushedBlob::Sent);
    // docker-registry takes over what it has, and only that.
    if !ready("quirk_p37_a_mount_that_is_not_one_becomes_an_upload", &["docker-registry"]) {
        return;
    }
    let registry = DockerRegistry::open();
    let net = net();
    let from = repository(&net, &format!("{}/acme/from", registry.host()));
    from.put_blob(source(BYTES)).send().await.unwrap();
    for (name, bytes, expected) in [("acme/a", BYTES, PushedBlob::Mounted), ("acme/b", b"absent", PushedBlob::Sent)] {
        let to = repository(&net, &format!("{}/{name}", registry.host()));
        assert_eq!(to.put_blob(source(bytes)).mount_from("acme/from").send().await.unwrap(), expected);
        assert_eq!(read(to.blob(&descriptor(bytes)).open().await.unwrap()).await.unwrap(), bytes);
    }
}

#[tokio::test]
async fn quirk_p38_a_registry_without_single_requests_opens_a_session_once_and_is_not_asked_again() {
    let single = format!("{START}?digest={}", Digest::sha256(BYTES));
    let server = script([session("/s"), created(), session("/t"), created()]);
    let repository = at(&net(), &server);
    for _ in 0..2 {
        let upload = repository.put_blob(source(BYTES)).check_first(false).mode(UploadMode::Single);
        assert_eq!(upload.send().await.unwrap(), PushedBlob::Sent);
    }
    assert_eq!(server.journal().lines(), [single.clone(), put_line("/s"), START.to_owned(), put_line("/t")]);
    // One that does not know the parameter at all.
    for status in [400, 404, 405, 411, 415, 501] {
        let server = script([Response::status(status, ""), session("/s"), created()]);
        let upload = at(&net(), &server).put_blob(source(BYTES)).check_first(false).mode(UploadMode::Single);
        assert_eq!(upload.send().await.unwrap(), PushedBlob::Sent, "{status}");
        assert_eq!(server.journal().lines(), [single.clone(), START.to_owned(), put_line("/s")]);
    }
}

#[tokio::test]
async fn quirk_p39_empty_and_tiny_blobs_are_pushed_and_an_empty_body_says_its_length() {
    for bytes in [&b""[..], b"{}"] {
        for mode in [UploadMode::Whole, UploadMode::Single, UploadMode::Chunked { chunk_bytes: 1 }] {
            let server = serving(|request, _| match request.method.as_str() {
                "POST" if request.param("digest").is_some() => created(),
                "POST" => session("/s"),
                _ => created(),
            });
            let upload = at(&net(), &server).put_blob(source(bytes)).check_first(false).mode(mode);
            assert_eq!(upload.send().await.unwrap(), PushedBlob::Sent, "{mode:?}");
            for entry in server.journal().entries() {
                let length = entry.headers.get("content-length").unwrap_or("absent");
                assert_eq!(length, entry.body.len().to_string(), "{} {mode:?}", entry.line());
                assert_eq!(entry.headers.get("transfer-encoding"), None);
            }
            let sent: usize = server.journal().entries().iter().map(|entry| entry.body.len()).sum();
            assert_eq!(sent, bytes.len());
        }
    }
    if !ready("quirk_p39_empty_and_tiny_blobs_are_pushed_and_an_empty_body_says_its_length", &["docker-registry"]) {
        return;
    }
    let registry = DockerRegistry::open();
    let repository = repository(&net(), &format!("{}/acme/hello", registry.host()));
    for bytes in [&b""[..], b"{}"] {
        assert_eq!(repository.put_blob(source(bytes)).send().await.unwrap(), PushedBlob::Sent);
        assert_eq!(read(repository.blob(&descriptor(bytes)).open().await.unwrap()).await.unwrap(), bytes);
    }
}

#[tokio::test]
async fn quirk_p40_another_algorithm_in_the_answer_is_no_difference() {
    let named = |digest: Digest| created().header("Docker-Content-Digest", digest.to_string());
    let sha512 = Digest::of(Algorithm::Sha512, BYTES);
    let blob = || Arc::new(BytesSource::described(Descriptor::new(WASM, sha512, 7), BYTES));
    let server = script([session("/s"), named(Digest::sha256(BYTES))]);
    let upload = at(&net(), &server).put_blob(blob()).check_first(false);
    assert_eq!(upload.send().await.unwrap(), PushedBlob::Sent);
    assert_eq!(server.journal().len(), 2);
    // Another digest of the same algorithm is looked into.
    for (there, outcome) in [(Response::ok(""), Ok(PushedBlob::Sent)), (missing(), Err(NetErrorKind::Protocol))] {
        let server = script([session("/s"), named(Digest::sha256(b"other")), there]);
        let upload = at(&net(), &server).put_blob(source(BYTES)).check_first(false);
        assert_eq!(upload.send().await.map_err(|error| error.kind()), outcome);
        assert_eq!(server.journal().lines()[2], head_line(BYTES));
    }
    // The same for manifests.
    let manifest = manifest(b"layer", "");
    let server = script([named(Digest::sha256(b"other")), missing()]);
    let error = at(&net(), &server).put_manifest(&manifest).tag("1").send().await.unwrap_err();
    assert_eq!(error.kind(), NetErrorKind::Integrity);
    let server = script([named(Digest::of(Algorithm::Sha512, manifest.bytes()))]);
    at(&net(), &server).put_manifest(&manifest).tag("1").send().await.unwrap();
    // docker-registry makes sha256 of everything and finds it by both.
    if !ready("quirk_p40_another_algorithm_in_the_answer_is_no_difference", &["docker-registry"]) {
        return;
    }
    let registry = DockerRegistry::open();
    let repository = repository(&net(), &format!("{}/acme/hello", registry.host()));
    assert_eq!(repository.put_blob(blob()).send().await.unwrap(), PushedBlob::Sent);
    let by_own = repository.head_blob(&sha512).await.unwrap();
    let by_sha256 = repository.blob(&descriptor(BYTES)).open().await.unwrap();
    assert_eq!(read(by_sha256).await.unwrap(), BYTES);
    assert!(by_own.is_some());
}

#[tokio::test]
async fn quirk_p45_every_success_of_a_deletion_is_one_and_a_disabled_one_is_unsupported() {
    let manifest = manifest(b"layer", "");
    let fetched = || {
        let media_type = manifest.media_type().to_owned();
        Response::ok(manifest.bytes().clone()).header("Content-Type", media_type)
    };
    for status in [200, 202, 204] {
        let server = script([fetched(), Response::status(status, "")]);
        at(&net(), &server).delete_manifest(manifest.digest()).await.unwrap();
        let path = format!("/v2/acme/hello/manifests/{}", manifest.digest());
        assert_eq!(server.journal().lines(), [format!("GET {path}"), format!("DELETE {path}")]);
        let server = script([Response::status(status, "")]);
        at(&net(), &server).delete_blob(&Digest::sha256(BYTES)).await.unwrap();
    }
    for status in [400, 405, 501] {
        let server = script([fetched(), Response::status(status, "")]);
        let error = at(&net(), &server).delete_manifest(manifest.digest()).await.unwrap_err();
        assert_eq!((error.kind(), error.status()), (NetErrorKind::Unsupported, Some(status)));
        assert!(error.to_string().contains("deletion of manifests is disabled"), "{error}");
        assert!(!error.hints().is_empty());
    }
    // What the login may not is told as that.
    let server = script([fetched(), Response::oci_error(403, "DENIED", "no")]);
    let error = at(&net(), &server).delete_manifest(manifest.digest()).await.unwrap_err();
    assert_eq!(error.kind(), NetErrorKind::Forbidden);
}

#[tokio::test]
async fn quirk_p46_a_tag_that_cannot_be_deleted_leaves_the_manifest_alone() {
    for status in [400, 405] {
        let server = script([Response::oci_error(status, "UNSUPPORTED", "no")]);
        let error = at(&net(), &server).delete_tag("1").await.unwrap_err();
        assert_eq!(error.kind(), NetErrorKind::Unsupported);
        assert_eq!(server.journal().lines(), ["DELETE /v2/acme/hello/manifests/1"]);
    }
    if !ready("quirk_p46_a_tag_that_cannot_be_deleted_leaves_the_manifest_alone", &["docker-registry"]) {
        return;
    }
    let registry = DockerRegistry::open();
    let repository = repository(&net(), &format!("{}/acme/hello", registry.host()));
    let manifest = with_blobs(&repository, b"layer", "").await;
    repository.put_manifest(&manifest).tags(["1", "2"]).send().await.unwrap();
    let error = repository.delete_tag("1").await.unwrap_err();
    assert_eq!(error.kind(), NetErrorKind::Unsupported, "{error}");
    assert_eq!(repository.manifest(Selector::Tag("2")).await.unwrap().digest, *manifest.digest());
    repository.delete_manifest(manifest.digest()).await.unwrap();
}

#[tokio::test]
async fn quirk_p55_a_write_follows_307_and_308_with_its_body_and_no_other_redirect() {
    for status in [307, 308] {
        let server = serving(move |request, _| match (request.method.as_str(), request.path.as_str()) {
            ("POST", "/v2/acme/hello/blobs/uploads/") => Response::redirect(status, "/elsewhere/"),
            ("POST", _) => session("9"),
            ("PUT", "/elsewhere/9") => Response::redirect(status, format!("/final{}", request.target)),
            _ => created(),
        });
        let upload = at(&net(), &server).put_blob(source(BYTES)).check_first(false);
        assert_eq!(upload.send().await.unwrap(), PushedBlob::Sent);
        let lines = server.journal().lines();
        assert_eq!(
            lines,
            [START.to_owned(), "POST /elsewhere/".into(), put_line("/elsewhere/9"), put_line("/final/elsewhere/9"),]
        );
        assert_eq!(server.journal().entries()[3].body, BYTES);
    }
    for status in [301, 302, 303] {
        let server = serving(move |_, _| Response::redirect(status, "/elsewhere"));
        let error = at(&net(), &server).put_blob(source(BYTES)).check_first(false).send().await.unwrap_err();
        assert_eq!((error.kind(), error.status()), (NetErrorKind::Protocol, Some(status)));
        assert!(error.to_string().contains("this redirect is not followed"), "{error}");
        assert_eq!(server.journal().lines(), [START]);
        let error = at(&net(), &server).delete_tag("1").await.unwrap_err();
        assert_eq!((error.kind(), error.status()), (NetErrorKind::Protocol, Some(status)));
    }
    // A redirect of a write to another host takes the bytes along and leaves the login behind.
    let store = bystander([127, 0, 0, 2].into());
    let url = store.url();
    let registry = with_password(move |_, _| Response::redirect(307, format!("{url}/x")));
    let net = with_login(&registry.host(), "ann", CANARY).build().unwrap();
    let manifest = manifest(b"layer", "");
    let error = at(&net, &registry).put_manifest(&manifest).tag("1").send().await.unwrap_err();
    assert_eq!(error.kind(), NetErrorKind::NotFound);
    assert_eq!(store.journal().lines(), ["PUT /x"]);
    assert!(!store.journal().contains(CANARY));
}

#[tokio::test]
async fn quirk_p60_blobs_that_were_collected_meanwhile_are_pushed_again_once() {
    let layer = b"layer";
    let manifest = manifest(layer, "");
    let named = Digest::sha256(layer);
    let refusal = move || {
        let body = format!(
            r#"{{"errors":[{{"code":"MANIFEST_BLOB_UNKNOWN","message":"blob unknown","detail":{{"Digest":"{named}"}}}}]}}"#
        );
        Response::status(400, body).header("Content-Type", "application/json")
    };
    let puts = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&puts);
    let server = serving(move |request, _| match request.method.as_str() {
        "POST" => session("/s"),
        "PUT" if request.path == "/s" => created(),
        _ if counted.fetch_add(1, Ordering::Relaxed) == 0 => refusal(),
        _ => created(),
    });
    let upload = at(&net(), &server);
    let upload = upload.put_manifest(&manifest).tag("1").blobs([source(b"{}"), source(layer)]);
    upload.send().await.unwrap();
    let put = "PUT /v2/acme/hello/manifests/1".to_owned();
    // Only the one that was named, and without asking whether it is there.
    assert_eq!(server.journal().lines(), [put.clone(), START.to_owned(), format!("PUT /s?digest={named}"), put]);
    // Once, and then it is told.
    let server = serving(move |request, _| match request.method.as_str() {
        "POST" => session("/s"),
        "PUT" if request.path == "/s" => created(),
        _ => refusal(),
    });
    let repository = at(&net(), &server);
    let error = repository.put_manifest(&manifest).tag("1").blobs([source(layer)]).send().await.unwrap_err();
    assert!(error.has_code("MANIFEST_BLOB_UNKNOWN"));
    assert_eq!((error.kind(), error.digests()), (NetErrorKind::NotFound, &[named][..]));
    assert!(error.to_string().contains(&format!("it has no {named}, which the manifest names")), "{error}");
    assert_eq!(server.journal().count("PUT", "/v2/"), 2);
}

#[tokio::test]
async fn quirk_p60_what_a_registry_misses_is_not_asked_for_again_where_nobody_here_has_it() {
    let elsewhere = Digest::sha256(b"elsewhere");
    let stays = Descriptor::new("application/vnd.oci.image.layer.nondistributable.v1.tar", elsewhere, 9);
    let foreign = Manifest::new(descriptor(b"{}"), vec![descriptor(b"layer"), stays]);
    let foreign = RawManifest::image(&foreign).unwrap();
    // docker-registry 2.8 answers 500 and says what it is about among other things.
    for (status, named, kind) in [
        (500, elsewhere, NetErrorKind::Unsupported),
        (400, elsewhere, NetErrorKind::Unsupported),
        (500, Digest::sha256(b"child"), NetErrorKind::NotFound),
    ] {
        let body = format!(
            r#"{{"errors":[{{"code":"UNKNOWN","message":"unknown error"}},{{"code":"MANIFEST_BLOB_UNKNOWN","message":"blob unknown","detail":"{named}"}}]}}"#
        );
        let server = serving(move |_, _| Response::status(status, body.clone()));
        let repository = at(&net(), &server);
        let upload = repository.put_manifest(&foreign).tag("1").blobs([source(b"layer")]);
        let error = upload.send().await.unwrap_err();
        assert_eq!((error.kind(), error.is_transient()), (kind, false), "{error}");
        assert!(error.to_string().contains(&named.to_string()), "{error}");
        assert!(error.hints().concat().contains("stays with its publisher"), "{:?}", error.hints());
        assert_eq!(server.journal().lines(), ["PUT /v2/acme/hello/manifests/1"], "{status} {named}");
    }
    // Without a word about the content a 500 may pass.
    let server = script([Response::status(500, ""), created()]);
    at(&net(), &server).put_manifest(&foreign).tag("1").send().await.unwrap();
    assert_eq!(server.journal().len(), 2);
}
