//! The lying registry is honest until told otherwise, and each lie is the one its name says.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use greentic_dist_testkit::fixture::{self, Artifact, WASM_TYPE};
use greentic_dist_testkit::raw_client::{Answer, exchange};
use greentic_dist_testkit::scenario::{
    Auth, Lie, LyingRegistry, Part, Scenario, blob_host, bystander, hostile, retry_after_date,
};
use greentic_dist_types::Digest;

fn sample() -> Artifact {
    fixture::artifact(WASM_TYPE, fixture::random_bytes(7, 10_000))
}

fn get_with(registry: &LyingRegistry, target: &str, headers: &[(&str, &str)]) -> std::io::Result<Answer> {
    exchange(registry.server().addr(), "GET", target, headers, &[])
}

fn manifest(registry: &LyingRegistry) -> std::io::Result<Answer> {
    get_with(registry, "/v2/acme/hello/manifests/1", &[])
}

fn blob(registry: &LyingRegistry, headers: &[(&str, &str)]) -> std::io::Result<Answer> {
    get_with(registry, &format!("/v2/acme/hello/blobs/{}", registry.artifact().layer_digest()), headers)
}

fn lying(lie: Lie) -> LyingRegistry {
    Scenario::new(sample()).lie(lie).start()
}

#[test]
fn without_lies_the_artifact_is_served_whole() {
    let registry = Scenario::new(sample()).start();
    let answer = manifest(&registry).unwrap();
    assert_eq!(answer.body, registry.artifact().manifest_bytes);
    assert_eq!(answer.header("docker-content-digest"), registry.artifact().manifest_digest.to_string());
    assert_eq!(answer.header("content-type"), fixture::MANIFEST_TYPE);
    let again = get_with(&registry, "/v2/acme/hello/manifests/1", &[("If-None-Match", answer.header("etag"))]).unwrap();
    assert_eq!(again.status, 304);
    assert_eq!(blob(&registry, &[]).unwrap().body, registry.artifact().layer_bytes());
    let part = blob(&registry, &[("Range", "bytes=9990-")]).unwrap();
    assert_eq!((part.status, part.body), (206, registry.artifact().layer_bytes()[9990..].to_vec()));
    assert_eq!(get_with(&registry, "/v2/", &[]).unwrap().status, 200);
    assert_eq!(get_with(&registry, "/v2/acme/hello/tags/list", &[]).unwrap().json()["tags"][0], "1");
    assert_eq!(get_with(&registry, "/v2/acme/hello/manifests/2", &[]).unwrap().status, 404);
    assert_eq!(get_with(&registry, "/v2/acme/other/manifests/1", &[]).unwrap().status, 404);
    assert!(registry.reference().ends_with("/acme/hello:1"));
    assert_eq!(registry.journal().count("GET", "/v2/acme/hello/blobs/"), 2);
}

#[test]
fn lies_can_be_switched_while_it_runs() {
    let registry = lying(Lie::WrongBlob);
    let wrong = blob(&registry, &[]).unwrap().body;
    assert_eq!(wrong.len(), 10_000);
    assert_ne!(Digest::sha256(&wrong), registry.artifact().layer_digest());
    registry.be_honest();
    assert_eq!(blob(&registry, &[]).unwrap().body, registry.artifact().layer_bytes());
    registry.lie(Lie::ShortBlob(10));
    assert_eq!(blob(&registry, &[]).unwrap().body.len(), 10);
}

#[test]
fn the_wrong_manifest_repeats_the_pin_and_its_blobs_exist() {
    let registry = lying(Lie::WrongManifestEchoed);
    let pin = registry.artifact().manifest_digest;
    let answer = get_with(&registry, &format!("/v2/acme/hello/manifests/{pin}"), &[]).unwrap();
    assert_eq!(answer.header("docker-content-digest"), pin.to_string());
    assert_ne!(Digest::sha256(&answer.body), pin);
    let layer = answer.json()["layers"][0]["digest"].as_str().unwrap().to_owned();
    assert_eq!(get_with(&registry, &format!("/v2/acme/hello/blobs/{layer}"), &[]).unwrap().status, 200);
}

#[test]
fn an_index_loop_never_reaches_a_manifest() {
    let registry = lying(Lie::IndexLoop);
    let mut name = "1".to_owned();
    for _ in 0..3 {
        let answer = get_with(&registry, &format!("/v2/acme/hello/manifests/{name}"), &[]).unwrap();
        assert_eq!(answer.header("content-type"), fixture::INDEX_TYPE);
        name = answer.json()["manifests"][0]["digest"].as_str().unwrap().to_owned();
    }
}

#[test]
fn digest_headers_say_what_they_are_told() {
    for text in ["sha256:../../x", "/abs", "sha256:"] {
        assert_eq!(manifest(&lying(Lie::DigestHeader(text.into()))).unwrap().header("docker-content-digest"), text);
    }
    assert!(manifest(&lying(Lie::NoDigestHeader)).unwrap().headers.get("docker-content-digest").is_none());
}

#[test]
fn bursts_end_and_tell_when_to_come_back() {
    let registry = lying(Lie::burst(Part::Manifest, 500, 2));
    let statuses: Vec<u16> = (0..4).map(|_| manifest(&registry).unwrap().status).collect();
    assert_eq!(statuses, [500, 500, 200, 200]);
    for value in ["1".to_owned(), retry_after_date(Duration::from_secs(1))] {
        let registry = lying(Lie::Status { on: Part::All, status: 429, times: 1, retry_after: Some(value.clone()) });
        let answer = manifest(&registry).unwrap();
        assert_eq!((answer.status, answer.header("retry-after")), (429, value.as_str()));
        assert_eq!(manifest(&registry).unwrap().status, 200);
    }
    let registry = lying(Lie::ResetInstead { on: Part::Blob, times: 1 });
    assert!(blob(&registry, &[]).is_err());
    assert_eq!(blob(&registry, &[]).unwrap().status, 200);
}

#[test]
fn a_body_cut_every_so_often_arrives_by_ranges() {
    let registry = lying(Lie::cut_every(3000));
    let mut have = Vec::new();
    let mut rounds = 0;
    while have.len() < 10_000 {
        rounds += 1;
        let range = format!("bytes={}-", have.len());
        match blob(&registry, &[("Range", &range)]) {
            Ok(answer) => have.extend(answer.body),
            Err(_cut) => {
                let range = format!("bytes={}-{}", have.len(), have.len() + 2999);
                have.extend(blob(&registry, &[("Range", &range)]).unwrap().body);
            }
        }
    }
    assert_eq!(rounds, 4);
    assert_eq!(have, registry.artifact().layer_bytes());
}

#[test]
fn range_lies_are_about_ranges_alone() {
    let range = [("Range", "bytes=100-")];
    let whole = |lie: Lie| blob(&lying(lie), &[]).unwrap().body.len();
    assert_eq!(whole(Lie::RangeIgnored), 10_000);
    assert_eq!(whole(Lie::RangeRefused(400)), 10_000);
    let answer = blob(&lying(Lie::RangeIgnored), &range).unwrap();
    assert_eq!((answer.status, answer.body.len()), (200, 10_000));
    let answer = blob(&lying(Lie::WrongContentRange), &range).unwrap();
    assert_eq!((answer.status, answer.header("content-range")), (206, "bytes 101-10000/10000"));
    let registry = lying(Lie::WrongRangeBytes);
    assert_eq!(blob(&registry, &range).unwrap().body, registry.artifact().layer_bytes()[..9900]);
    assert!(blob(&lying(Lie::NoContentRange), &range).unwrap().headers.get("content-range").is_none());
    assert_eq!(blob(&lying(Lie::RangeRefused(416)), &range).unwrap().status, 416);
}

#[test]
fn long_short_and_cut_bodies_are_framed_as_named() {
    assert_eq!(blob(&lying(Lie::OverLongBlob(5)), &[]).unwrap().header("content-length"), "10005");
    let chunked = blob(&lying(Lie::OverLongBlobChunked(5)), &[]).unwrap();
    assert_eq!((chunked.body.len(), chunked.header("content-length")), (10_005, ""));
    assert_eq!(blob(&lying(Lie::ChunkedBlob), &[]).unwrap().body.len(), 10_000);
    assert!(blob(&lying(Lie::CutBlob { after: 10, times: 1 }), &[]).is_err());
    assert!(blob(&lying(Lie::ResetBlob { after: 10, times: 1 }), &[]).is_err());
    assert!(manifest(&lying(Lie::CutManifest { after: 10, times: 1 })).is_err());
    let padded = manifest(&lying(Lie::PaddedManifest)).unwrap();
    assert_ne!(Digest::sha256(&padded.body).to_string(), padded.header("docker-content-digest"));
    let dripped = blob(&lying(Lie::DripBlob { piece: 5000, interval: Duration::from_millis(1) }), &[]).unwrap();
    assert_eq!(dripped.body.len(), 10_000);
}

#[test]
fn redirects_lead_to_the_other_host() {
    let second = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
    let artifact = sample();
    let other = blob_host(second, &artifact);
    let registry = Scenario::new(artifact).lie(Lie::RedirectBlob { status: 307, base: other.url() }).start();
    let answer = blob(&registry, &[]).unwrap();
    let location = answer.header("location").strip_prefix(&other.url()).unwrap().to_owned();
    assert_eq!(answer.status, 307);
    let answer = exchange(other.addr(), "GET", &location, &[], &[]).unwrap();
    assert_eq!(answer.body, registry.artifact().layer_bytes());
    assert_eq!(other.journal().len(), 1);
    assert_eq!(exchange(bystander(second).addr(), "GET", "/", &[], &[]).unwrap().status, 404);
    let answer = blob(&lying(Lie::RedirectLoop), &[]).unwrap();
    assert!(answer.header("location").starts_with("/v2/acme/hello/blobs/"));
}

#[test]
fn bearer_needs_a_token_and_the_token_its_user() {
    let registry = Scenario::new(sample()).auth(Auth::bearer("alice", "hunter2")).start();
    let refused = manifest(&registry).unwrap();
    assert_eq!(refused.status, 401);
    assert!(refused.header("www-authenticate").contains("scope=\"repository:acme/hello:pull\""));
    assert_eq!(get_with(&registry, "/token", &[]).unwrap().status, 401);
    let basic = ("Authorization", "Basic YWxpY2U6aHVudGVyMg==");
    let token = get_with(&registry, "/token", &[basic]).unwrap().json()["token"].as_str().unwrap().to_owned();
    let bearer = format!("Bearer {token}");
    let shown = [("Authorization", bearer.as_str())];
    assert_eq!(get_with(&registry, "/v2/acme/hello/manifests/1", &shown).unwrap().status, 200);
    registry.expire_tokens();
    assert_eq!(get_with(&registry, "/v2/acme/hello/manifests/1", &shown).unwrap().status, 401);
    registry.lie(Lie::Realm("http://127.0.0.2:1/token".into()));
    assert!(manifest(&registry).unwrap().header("www-authenticate").contains("realm=\"http://127.0.0.2:1/token\""));

    let registry = Scenario::new(sample()).auth(Auth::basic("alice", "hunter2")).start();
    assert_eq!(manifest(&registry).unwrap().status, 401);
    assert_eq!(get_with(&registry, "/v2/acme/hello/manifests/1", &[basic]).unwrap().status, 200);
}

#[test]
fn hostile_documents_stand_under_their_right_digests() {
    let artifact = sample();
    let registry = Scenario::new(artifact.clone()).start();
    let chain = hostile::index_chain(&artifact, 3);
    let mut documents = vec![
        hostile::huge_manifest(&artifact, 5 << 20),
        hostile::schema1(),
        hostile::duplicate_keys(&artifact),
        hostile::layers_and_manifests(&artifact),
        hostile::mislabelled_index(&artifact),
        hostile::wrong_layer_size(&artifact, -1),
        hostile::wrong_layer_digest(&artifact, "sha256:../../x"),
        hostile::many_layers(&artifact, 2_000),
        hostile::deeply_nested(10_000),
    ];
    documents.extend(chain);
    for document in documents {
        registry.publish_document(&document, Some("1"));
        let answer = manifest(&registry).unwrap();
        assert_eq!(answer.header("docker-content-digest"), document.digest.to_string());
        assert_eq!(Digest::sha256(&answer.body), document.digest);
    }
}
