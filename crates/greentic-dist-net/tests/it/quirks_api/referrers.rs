//! What refers to a manifest: asked of the API, of the tag, and never guessed.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use greentic_dist_net::{Limit, Limits, NetErrorKind, ReferrersSource, ReferrersUpkeep, RetryPolicy, Timeouts};
use greentic_dist_testkit::real::{DockerRegistry, ready};
use greentic_dist_testkit::{LyingServer, Response};
use greentic_dist_types::Digest;
use greentic_dist_types::media_type::{OCI_INDEX, OCI_MANIFEST};

use super::{CANARY, at, created, missing, script, serving, with_password};
use crate::push::{manifest, with_blobs};
use crate::support::{net, quick, repository, with_login};

fn entry(name: &str, artifact_type: &str) -> String {
    let digest = Digest::sha256(name.as_bytes());
    format!(
        r#"{{"mediaType":"{OCI_MANIFEST}","digest":"{digest}","size":{},"artifactType":"{artifact_type}"}}"#,
        name.len()
    )
}

fn index(entries: &[String]) -> String {
    format!(r#"{{"schemaVersion":2,"mediaType":"{OCI_INDEX}","manifests":[{}]}}"#, entries.join(","))
}

fn list(entries: &[String]) -> Response {
    Response::ok(index(entries)).header("Content-Type", OCI_INDEX)
}

fn subject() -> Digest {
    Digest::sha256(b"subject")
}

fn api() -> String {
    format!("GET /v2/acme/hello/referrers/{}", subject())
}

fn tag() -> String {
    format!("/v2/acme/hello/manifests/sha256-{}", subject().to_hex())
}

/// Where the list came from and how many entries it has.
async fn asked(server: &LyingServer) -> Result<(ReferrersSource, usize), NetErrorKind> {
    let referrers = at(&net(), server).referrers(&subject(), None).await.map_err(|error| error.kind())?;
    let source = referrers.source;
    let all = referrers.pages.collect(100).await.map_err(|error| error.kind())?;
    Ok((source, all.len()))
}

#[tokio::test]
async fn quirk_p41_without_the_api_the_tag_is_read_and_what_cannot_be_asked_is_no_empty_list() {
    let odd_answers = [
        missing(),
        Response::status(400, ""),
        Response::status(405, ""),
        Response::status(406, ""),
        Response::ok("<html>hello</html>").header("Content-Type", "text/html"),
        Response::ok(index(&[])).header("Content-Type", "application/json"),
    ];
    for odd in odd_answers {
        let server = script([odd.clone(), list(&[entry("one", "a/b")])]);
        assert_eq!(asked(&server).await, Ok((ReferrersSource::Tag, 1)));
        assert_eq!(server.journal().lines(), [api(), format!("GET {}", tag())]);
        let server = script([odd, Response::oci_error(404, "MANIFEST_UNKNOWN", "unknown")]);
        assert_eq!(asked(&server).await, Ok((ReferrersSource::Tag, 0)));
    }
    // The tag names something that is no list.
    let image = manifest(b"layer", "");
    let image = Response::ok(image.bytes().clone()).header("Content-Type", OCI_MANIFEST);
    assert_eq!(asked(&script([missing(), image])).await, Err(NetErrorKind::Protocol));
    // Neither the API nor the tag could be asked: not "nobody".
    for (status, kind) in [
        (429, NetErrorKind::RateLimited),
        (500, NetErrorKind::Server),
        (503, NetErrorKind::Server),
        (403, NetErrorKind::Forbidden),
    ] {
        assert_eq!(asked(&serving(move |_, _| Response::status(status, ""))).await, Err(kind), "{status}");
        let at_the_tag =
            serving(
                move |request, _| {
                    if request.path.contains("/referrers/") { missing() } else { Response::status(status, "") }
                },
            );
        assert_eq!(asked(&at_the_tag).await, Err(kind), "{status}");
    }
    let silent = serving(|_, _| Response::silence());
    let impatient = Timeouts { headers: Duration::from_millis(100), ..Timeouts::default() };
    let once = RetryPolicy { attempts: 1, ..RetryPolicy::default() };
    let net = quick().timeouts(impatient).retry(once).build().unwrap();
    let error = at(&net, &silent).referrers(&subject(), None).await.unwrap_err();
    assert_eq!(error.kind(), NetErrorKind::Timeout);
}

#[tokio::test]
async fn quirk_p42_a_filter_is_applied_here_too_and_pages_are_followed() {
    let server = serving(|request, _| match request.param("page") {
        // Says that it filtered, and did not.
        None => list(&[entry("one", "a/b"), entry("two", "c/d")])
            .header("OCI-Filters-Applied", "artifactType")
            .header("Link", format!("<{}&page=2>; rel=\"next\"", request.target)),
        Some(_) => list(&[entry("three", "c/d"), entry("four", "a/b")]),
    });
    let referrers = at(&net(), &server).referrers(&subject(), Some("a/b")).await.unwrap();
    let found = referrers.pages.collect(10).await.unwrap();
    let digests: Vec<Digest> = found.iter().map(|one| one.digest).collect();
    assert_eq!(digests, [Digest::sha256(b"one"), Digest::sha256(b"four")]);
    let first = format!("{}?artifactType=a%2Fb", api());
    assert_eq!(server.journal().lines(), [first.clone(), format!("{first}&page=2")]);
}

#[tokio::test]
async fn every_page_of_referrers_is_limited_as_a_manifest_is() {
    // Announced too large, and without an announcement: not read to its end either way.
    for announced in [true, false] {
        let server = serving(move |request, _| {
            if request.param("page").is_none() {
                let link = format!("<{}?page=2>; rel=\"next\"", request.target);
                return list(&[entry("one", "a/b")]).header("Link", link);
            }
            let page = Response::ok(vec![b' '; 2 << 20]).header("Content-Type", OCI_INDEX);
            if announced { page } else { page.chunked() }
        });
        let net = quick().limits(Limits { manifest_bytes: 1 << 20, ..Limits::default() }).build().unwrap();
        let mut pages = at(&net, &server).referrers(&subject(), None).await.unwrap().pages;
        assert_eq!(pages.next_page().await.unwrap().unwrap().len(), 1);
        let error = pages.next_page().await.unwrap().unwrap_err();
        assert_eq!((error.kind(), error.limit()), (NetErrorKind::TooLarge, Some(Limit::ManifestBytes)), "{error}");
        assert!(net.stats().bytes_received < 1_200_000, "{:?}", net.stats());
    }
}

#[tokio::test]
async fn quirk_p41_a_list_from_another_server_is_not_believed_and_the_tag_is_read() {
    let at_the_tag = || list(&[entry("one", "a/b")]);
    for (to_a_server, status) in [(true, 303), (true, 302), (true, 307), (false, 303)] {
        // Has a list of its own for everybody.
        let other = serving(|_, _| list(&[entry("forged", "a/b"), entry("forged too", "a/b")]));
        // Another server, or a place nobody may be sent to.
        let to = if to_a_server { format!("{}/referrers", other.url()) } else { "http://169.254.169.254/x".to_owned() };
        let server = with_password(move |request, _| {
            if request.path.contains("/referrers/") { Response::redirect(status, to.clone()) } else { at_the_tag() }
        });
        let net = with_login(&server.host(), "ann", CANARY).build().unwrap();
        let referrers = at(&net, &server).referrers(&subject(), None).await.unwrap();
        assert_eq!(referrers.source, ReferrersSource::Tag);
        let found = referrers.pages.collect(100).await.unwrap();
        assert_eq!(found.iter().map(|one| one.digest).collect::<Vec<_>>(), [Digest::sha256(b"one")]);
        // Refused, logged in, sent elsewhere; then the tag.
        assert_eq!(server.journal().lines(), [api(), api(), format!("GET {}", tag())]);
        assert!(server.journal().any_header_contains("Basic") && !other.journal().contains(CANARY));
        assert!(other.journal().is_empty(), "it is not even asked");
    }
    // What leads nowhere says neither "none" nor "no such API".
    for (location, limit) in [
        (Some("{path}"), None),
        (Some("{path}x"), Some(Limit::Redirects)),
        (Some("ftp://127.0.0.1/x"), None),
        (None, None),
    ] {
        let server = serving(move |request, _| match location {
            _ if request.path.contains("/manifests/") => missing(),
            Some(to) => Response::redirect(307, to.replace("{path}", &request.path)),
            None => Response::status(302, ""),
        });
        let error = at(&net(), &server).referrers(&subject(), None).await.unwrap_err();
        assert_eq!((error.kind(), error.limit()), (NetErrorKind::Refused, limit), "{location:?}: {error}");
        assert_eq!(server.journal().count_containing("/manifests/"), 0, "{location:?}");
    }
    // A redirect on the same server is its own answer.
    let server = serving(|request, _| match request.path.as_str() {
        "/elsewhere" => list(&[entry("one", "a/b")]),
        _ => Response::redirect(307, "/elsewhere"),
    });
    assert_eq!(asked(&server).await, Ok((ReferrersSource::Api, 1)));
}

#[tokio::test]
async fn quirk_p42_a_later_page_from_another_server_is_refused() {
    let other = serving(|_, _| list(&[entry("forged", "a/b")]));
    let to = other.url();
    let server = serving(move |request, _| match request.param("page") {
        None => list(&[entry("one", "a/b")]).header("Link", format!("<{}?page=2>; rel=\"next\"", request.target)),
        Some(_) => Response::redirect(307, to.clone()),
    });
    assert_eq!(asked(&server).await, Err(NetErrorKind::Refused));
}

/// Keeps the list of referrers, with conditions obeyed or not, and lets somebody else write at chosen moments.
fn tag_store(obeys: bool, rivals: usize) -> LyingServer {
    tag_store_with(None, obeys, rivals)
}

/// As [`tag_store`], with a list that is there already.
fn tag_store_with(list: Option<String>, obeys: bool, rivals: usize) -> LyingServer {
    struct State {
        list: Option<String>,
        rivals: usize,
        /// The other manifests, by their paths.
        manifests: HashMap<String, Vec<u8>>,
    }
    let state = Mutex::new(State { list, rivals, manifests: HashMap::new() });
    serving(move |request, _| {
        let mut state = state.lock().unwrap();
        let etag = |list: &str| format!("\"{}\"", Digest::sha256(list.as_bytes()));
        if !request.path.contains("/manifests/sha256-") {
            if request.method == "PUT" {
                state.manifests.insert(request.path.clone(), request.body.clone());
            }
            let there = state.manifests.get(&request.path).filter(|_| request.method == "GET");
            return match there {
                Some(manifest) => Response::ok(manifest.clone()).header("Content-Type", OCI_MANIFEST),
                None if request.method == "GET" => missing(),
                None => created(),
            };
        }
        if request.method == "GET" {
            let answer = state.list.as_ref().map_or_else(missing, |list| {
                Response::ok(list.clone()).header("Content-Type", OCI_INDEX).header("ETag", etag(list))
            });
            return answer;
        }
        let rival = state.rivals > 0;
        if rival {
            // Somebody else is a moment faster, with a list of the own.
            state.rivals -= 1;
            state.list = Some(index(&[entry(&format!("rival {}", state.rivals), "x/y")]));
        }
        let current = state.list.as_deref().map(etag);
        let holds = match (request.header("if-match"), request.header("if-none-match")) {
            (Some(wanted), _) => current.as_deref() == Some(wanted),
            (None, Some(_)) => current.is_none(),
            (None, None) => true,
        };
        if obeys && !holds {
            return Response::status(412, "");
        }
        // Who does not look at conditions lets the last one win: the rival.
        if obeys || !rival {
            state.list = Some(String::from_utf8(request.body.clone()).unwrap());
        }
        created()
    })
}

fn with_subject() -> String {
    format!(r#","subject":{{"mediaType":"{OCI_MANIFEST}","digest":"{}","size":7}}"#, subject())
}

#[tokio::test]
async fn quirk_p43_the_list_under_the_tag_is_kept_against_others_and_a_lost_race_is_told() {
    for obeys in [true, false] {
        for rivals in [0, 1, 2] {
            let server = tag_store(obeys, rivals);
            let repository = at(&net(), &server);
            let referrer = manifest(b"sbom", &with_subject());
            let pushed = repository.put_manifest(&referrer).send().await.unwrap();
            assert_eq!(pushed.referrers, ReferrersUpkeep::Tag);
            let found = repository.referrers(&subject(), None).await.unwrap().pages.collect(10).await.unwrap();
            assert_eq!(found.last(), Some(&referrer.descriptor()));
            let writes =
                server.journal().entries().into_iter().filter(|entry| entry.method == "PUT" && entry.path == tag());
            assert_eq!(writes.count(), rivals + 1, "{obeys} {rivals}");
        }
        let server = tag_store(obeys, 100);
        let error = at(&net(), &server).put_manifest(&manifest(b"sbom", &with_subject())).send().await.unwrap_err();
        assert_eq!(error.kind(), NetErrorKind::Conflict);
        assert!(error.is_transient());
        let writes =
            server.journal().entries().into_iter().filter(|entry| entry.method == "PUT" && entry.path == tag());
        assert_eq!(writes.count(), 3);
    }
    // The condition of each write: nobody has one yet, then the one that was read.
    let server = tag_store(true, 1);
    at(&net(), &server).put_manifest(&manifest(b"sbom", &with_subject())).send().await.unwrap();
    let steps: Vec<String> = server
        .journal()
        .entries()
        .iter()
        .skip(1)
        .map(|entry| {
            let condition =
                entry.headers.iter().find(|(name, _)| name.starts_with("if-")).map(|(name, _)| name.to_owned());
            format!("{} {} {}", entry.method, entry.status, condition.unwrap_or_default()).trim_end().to_owned()
        })
        .collect();
    assert_eq!(steps, ["GET 404", "PUT 412 if-none-match", "GET 200", "PUT 201 if-match", "GET 200"]);
}

/// A list of so many entries, each with so many bytes of annotations.
fn long_list(entries: usize, annotation_bytes: usize) -> String {
    let padding = "x".repeat(annotation_bytes);
    let entry = |number: usize| {
        entry(&number.to_string(), "a/b").replacen('{', &format!(r#"{{"annotations":{{"p":"{padding}"}},"#), 1)
    };
    index(&(0..entries).map(entry).collect::<Vec<_>>())
}

#[tokio::test]
async fn quirk_p43_a_list_that_is_full_stays_as_it_is_and_something_can_be_taken_out_of_it() {
    let referrer = manifest(b"sbom", &with_subject());
    let (many, large) = (long_list(1_000, 0), long_list(10, 100));
    let exact = Limits::default().with(Limit::ManifestBytes, u64::try_from(large.len()).unwrap());
    for (list, limits, limit) in [(many, Limits::default(), Limit::IndexEntries), (large, exact, Limit::ManifestBytes)]
    {
        let server = tag_store_with(Some(list), true, 0);
        let net = quick().limits(limits).build().unwrap();
        let repository = at(&net, &server);
        let before = repository.referrers(&subject(), None).await.unwrap().pages.collect(1_000).await.unwrap();
        for _ in 0..2 {
            let error = repository.put_manifest(&referrer).send().await.unwrap_err();
            assert_eq!((error.kind(), error.limit()), (NetErrorKind::TooLarge, Some(limit)), "{error}");
            assert!(error.to_string().contains(&format!("sha256-{}", subject().to_hex())), "{error}");
            assert!(error.hints().concat().contains(&format!("--set-limit {limit}=")), "{:?}", error.hints());
        }
        let written = |server: &LyingServer| {
            server.journal().entries().iter().filter(|entry| entry.method == "PUT" && entry.path == tag()).count()
        };
        assert_eq!(written(&server), 0);
        let after = repository.referrers(&subject(), None).await.unwrap().pages.collect(1_000).await.unwrap();
        assert_eq!(after, before);
        // Who raised the limit made it longer; everybody finds what is listed, adds nothing, and takes it out again.
        let wide = quick().limits(Limits::default().with(limit, u64::MAX)).build().unwrap();
        at(&wide, &server).put_manifest(&referrer).send().await.unwrap();
        assert_eq!(repository.referrers(&subject(), None).await.unwrap_err().limit(), Some(limit));
        assert_eq!(repository.put_manifest(&referrer).send().await.unwrap().referrers, ReferrersUpkeep::Tag);
        assert_eq!(written(&server), 1);
        assert_eq!(repository.delete_manifest(referrer.digest()).await.unwrap(), ReferrersUpkeep::Tag);
        let after = repository.referrers(&subject(), None).await.unwrap().pages.collect(1_000).await.unwrap();
        assert_eq!(after, before);
    }
}

#[tokio::test]
async fn quirk_p43_a_registry_that_keeps_the_list_is_left_to_it() {
    let server = script([created().header("OCI-Subject", subject().to_string())]);
    let pushed = at(&net(), &server).put_manifest(&manifest(b"sbom", &with_subject())).send().await.unwrap();
    assert_eq!(pushed.referrers, ReferrersUpkeep::Registry);
    assert_eq!(server.journal().len(), 1);
}

#[tokio::test]
async fn quirk_p43_docker_registry_gets_its_list_from_this_client() {
    if !ready("quirk_p43_docker_registry_gets_its_list_from_this_client", &["docker-registry"]) {
        return;
    }
    let registry = DockerRegistry::open();
    let repository = repository(&net(), &format!("{}/acme/hello", registry.host()));
    let referrer = with_blobs(&repository, b"sbom", &with_subject()).await;
    let before = registry.requests().len();
    assert_eq!(repository.put_manifest(&referrer).send().await.unwrap().referrers, ReferrersUpkeep::Tag);
    let steps: Vec<String> = registry.requests_after(before, 4).into_iter().map(|request| request.method).collect();
    assert_eq!(steps, ["PUT", "GET", "PUT", "GET"]);
    let found = repository.referrers(&subject(), None).await.unwrap();
    assert_eq!(found.source, ReferrersSource::Tag);
    assert_eq!(found.pages.collect(10).await.unwrap(), [referrer.descriptor()]);
}
