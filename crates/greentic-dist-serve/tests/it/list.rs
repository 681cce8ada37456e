//! Tags, repositories and referrers.

use greentic_dist_serve::RunningRegistry;
use greentic_dist_testkit::fixture::{self, INDEX_TYPE, MANIFEST_TYPE};
use serde_json::json;

use crate::{ask, assert_error, both, get};

fn seed(running: &RunningRegistry, repository: &str, tags: &[&str]) {
    running.registry().put_manifest(repository, tags, MANIFEST_TYPE, b"{}").unwrap();
}

/// The target of a `Link` to the next page.
fn next(link: &str) -> String {
    link.strip_prefix('<').and_then(|rest| rest.strip_suffix(">; rel=\"next\"")).unwrap().to_owned()
}

#[test]
fn tags_come_sorted_and_in_pages() {
    for (running, _dir) in both() {
        seed(&running, "acme/hello", &["b", "a", "c", "B", "1"]);
        let list = |query: &str| get(&running, &format!("/v2/acme/hello/tags/list{query}"));
        assert_eq!(list("").json(), json!({ "name": "acme/hello", "tags": ["1", "B", "a", "b", "c"] }));
        let first = list("?n=2");
        assert_eq!(first.json()["tags"], json!(["1", "B"]));
        let second = get(&running, &next(first.header("link")));
        assert_eq!(second.json()["tags"], json!(["a", "b"]));
        let third = get(&running, &next(second.header("link")));
        assert_eq!((third.json()["tags"].clone(), third.header("link")), (json!(["c"]), ""));
        assert_eq!(list("?last=a").json()["tags"], json!(["b", "c"]));
        assert_eq!(
            (list("?n=0").json()["tags"].clone(), list("?n=0").header("link").to_owned()),
            (json!([]), String::new())
        );
        assert_error(&list("?n=x"), 400, "PAGINATION_NUMBER_INVALID");
        assert_error(&list("?n=-1"), 400, "PAGINATION_NUMBER_INVALID");
        assert_error(&get(&running, "/v2/acme/nobody/tags/list"), 404, "NAME_UNKNOWN");
    }
}

#[test]
fn a_page_never_has_more_than_a_thousand_names() {
    let (running, _dir) = &both()[0];
    let tags: Vec<String> = (0..1_001).map(|number| format!("t{number:04}")).collect();
    let tags: Vec<&str> = tags.iter().map(String::as_str).collect();
    seed(running, "acme/many", &tags);
    for query in ["", "?n=5000"] {
        let answer = get(running, &format!("/v2/acme/many/tags/list{query}"));
        assert_eq!(answer.json()["tags"].as_array().unwrap().len(), 1_000);
        assert_eq!(get(running, &next(answer.header("link"))).json()["tags"], json!(["t1000"]));
    }
}

#[test]
fn the_catalog_names_every_repository() {
    for (running, _dir) in both() {
        assert_eq!(get(&running, "/v2/_catalog").json(), json!({ "repositories": [] }));
        for repository in ["b/c", "a", "b"] {
            seed(&running, repository, &["1"]);
        }
        let first = get(&running, "/v2/_catalog?n=2");
        assert_eq!(first.json()["repositories"], json!(["a", "b"]));
        assert_eq!(get(&running, &next(first.header("link"))).json()["repositories"], json!(["b/c"]));
    }
}

#[test]
fn referrers_are_found_by_their_subject_and_filtered_by_type() {
    for (running, _dir) in both() {
        let artifact = fixture::component();
        for blob in artifact.blobs() {
            running.registry().put_blob(blob.bytes.clone()).unwrap();
        }
        let subject = artifact.manifest_digest;
        let target = format!("/v2/acme/hello/referrers/{subject}");
        let empty = get(&running, &target);
        assert_eq!((empty.status, empty.header("content-type")), (200, INDEX_TYPE));
        assert_eq!(empty.json()["manifests"], json!([]));

        let referrer = |kind: Option<&str>, note: &str| {
            let mut manifest = json!({
                "schemaVersion": 2,
                "mediaType": MANIFEST_TYPE,
                "config": artifact.config.descriptor(),
                "layers": [],
                "subject": artifact.descriptor(),
                "annotations": { "note": note },
            });
            if let Some(kind) = kind {
                manifest["artifactType"] = kind.into();
            }
            let bytes = manifest.to_string().into_bytes();
            let digest = greentic_dist_types::Digest::sha256(&bytes);
            let answer = ask(
                &running,
                "PUT",
                &format!("/v2/acme/hello/manifests/{digest}"),
                &[("Content-Type", MANIFEST_TYPE)],
                &bytes,
            );
            assert_eq!((answer.status, answer.header("oci-subject")), (201, subject.to_string().as_str()));
        };
        referrer(Some("application/vnd.example.sbom+json"), "one");
        referrer(Some("application/vnd.example.signature"), "two");
        referrer(None, "three");

        let all = get(&running, &target);
        assert_eq!(all.json()["manifests"].as_array().unwrap().len(), 3);
        assert!(all.headers.get("oci-filters-applied").is_none());
        let by_config =
            all.json()["manifests"].as_array().unwrap().iter().any(|found| {
                found["artifactType"] == fixture::WASM_CONFIG_TYPE && found["annotations"]["note"] == "three"
            });
        assert!(by_config, "{}", all.text());

        let some = get(&running, &format!("{target}?artifactType=application/vnd.example.sbom%2Bjson"));
        assert_eq!(some.header("oci-filters-applied"), "artifactType");
        assert_eq!(some.json()["manifests"].as_array().unwrap().len(), 1);
        assert_eq!(some.json()["manifests"][0]["annotations"]["note"], "one");

        let mut page = get(&running, &format!("{target}?n=1"));
        let mut pages = 1;
        while !page.header("link").is_empty() {
            page = get(&running, &next(page.header("link")));
            assert_eq!(page.json()["manifests"].as_array().unwrap().len(), 1);
            pages += 1;
        }
        assert_eq!(pages, 3);
    }
}
