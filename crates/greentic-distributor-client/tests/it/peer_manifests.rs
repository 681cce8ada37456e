//! Documents under their right digests that are no manifests to be believed.

use greentic_dist_testkit::fixture::{self, Artifact, Document, INDEX_TYPE, MANIFEST_TYPE, WASM_TYPE, index};
use greentic_dist_testkit::scenario::{Lie, bystander, hostile};
use greentic_dist_types::Digest;
use greentic_distributor_client::dist::DistErrorKind::{self, Integrity, Internal, NotFound};
use serde_json::{Value, json};

use crate::support::{Doubt, assert_delivers, other, sample};

/// The manifest of [`sample`] with one piece of its text exchanged.
fn edited(from: &str, to: &str) -> Document {
    let text = String::from_utf8(sample().manifest_bytes).unwrap();
    assert!(text.contains(from), "`{from}` is not in {text}");
    Document::new(MANIFEST_TYPE, text.replace(from, to))
}

/// Publishes a document as the tag `x`, pulls it by tag and by pin, and expects the same refusal of both. No blob is asked
/// for.
async fn refused(document: &Document, kind: DistErrorKind, exit: i32, reasons: &[&str]) {
    let doubt = Doubt::about([]).await;
    doubt.registry.publish_document(document, Some("x"));
    let by_tag = format!("oci://{}", doubt.registry.reference_to("x"));
    let by_pin = format!("oci://{}", doubt.registry.pinned_to(document.digest));
    for reference in [by_tag, by_pin] {
        doubt.refused(&doubt.home.client(), &reference).await.is(kind, exit, reasons);
    }
    assert_eq!(doubt.asked().1, 0, "{:?}", doubt.journal().lines());
    doubt.heals(&doubt.home.client()).await;
}

#[tokio::test]
async fn row_24_a_manifest_over_four_mebibytes_is_refused() {
    refused(&hostile::huge_manifest(&sample(), (4 << 20) + 1), Internal, 10, &["4194304"]).await;
}

#[tokio::test]
async fn a_manifest_just_under_four_mebibytes_is_accepted() {
    let doubt = Doubt::about([]).await;
    let artifact = sample();
    let filler = format!(r#","filler":"{}"}}"#, "x".repeat((4 << 20) - 2_000));
    let text = String::from_utf8(artifact.manifest_bytes.clone()).unwrap();
    let document = Document::new(MANIFEST_TYPE, text.strip_suffix('}').unwrap().to_owned() + &filler);
    doubt.registry.publish_document(&document, Some("x"));
    let pulled = doubt.home.client().resolve_ref(&format!("oci://{}", doubt.registry.reference_to("x"))).await.unwrap();
    assert_eq!(pulled.digest, document.digest.to_string());
    assert!(pulled.wasm_bytes().unwrap() == artifact.layer_bytes());
}

#[tokio::test]
async fn a_manifest_whose_annotations_fit_into_no_record_is_refused() {
    let doubt = Doubt::about([]).await;
    let document = hostile::huge_manifest(&sample(), 1 << 20);
    doubt.registry.publish_document(&document, Some("x"));
    let reference = format!("oci://{}", doubt.registry.reference_to("x"));
    let error = doubt.refused(&doubt.home.client(), &reference).await.error;
    assert_eq!((error.kind(), error.exit_code()), (Internal, 10), "{error}");
    assert!(crate::support::chain(&error).contains("32768 bytes of annotations"));
    assert_eq!(doubt.registry.journal().count_containing("/blobs/"), 0, "no blob is asked for");
}

#[tokio::test]
async fn row_23_a_schema_1_manifest_is_refused() {
    refused(&hostile::schema1(), Internal, 10, &["not supported"]).await;
    for version in ["1", "3", "\"2\"", "null"] {
        let document = edited("\"schemaVersion\":2", &format!("\"schemaVersion\":{version}"));
        refused(&document, Internal, 10, &["schema version", "not supported"]).await;
    }
    refused(&edited("\"schemaVersion\":2", "\"x\":2"), Internal, 10, &["schemaVersion"]).await;
}

#[tokio::test]
async fn row_24_a_manifest_with_duplicate_keys_is_refused() {
    refused(&hostile::duplicate_keys(&sample()), Internal, 10, &["duplicate"]).await;
}

#[tokio::test]
async fn row_21_a_manifest_with_layers_and_manifests_is_refused() {
    refused(&hostile::layers_and_manifests(&sample()), Internal, 10, &["both"]).await;
    refused(&edited("\"layers\":", "\"manifests\":"), Internal, 10, &["both"]).await;
}

#[tokio::test]
async fn an_index_that_calls_itself_a_manifest_is_refused() {
    refused(&hostile::mislabelled_index(&sample()), Internal, 10, &["ambiguous"]).await;
}

#[tokio::test]
async fn row_25_a_layer_with_a_size_no_content_can_have_is_refused() {
    refused(&hostile::wrong_layer_size(&sample(), -1), Internal, 10, &["malformed"]).await;
    refused(&hostile::wrong_layer_size(&sample(), i64::MAX), Internal, 10, &["limit"]).await;
    for size in ["1e3", "\"5\"", "18446744073709551616"] {
        refused(&edited("\"size\":200000", &format!("\"size\":{size}")), Internal, 10, &["malformed"]).await;
    }
}

#[tokio::test]
async fn a_layer_whose_digest_is_a_path_is_refused() {
    for digest in ["sha256:../../x", "/abs", "../x", "sha256:", "", "sha512:aa", "md5:d41d8cd98f00b204e9800998ecf8427e"]
    {
        refused(&hostile::wrong_layer_digest(&sample(), digest), Internal, 10, &["malformed"]).await;
    }
}

#[tokio::test]
async fn row_28_a_manifest_of_too_many_layers_is_refused() {
    for count in [1_001, 2_000] {
        refused(&hostile::many_layers(&sample(), count), Internal, 10, &["more than 1000 layers"]).await;
    }
}

#[tokio::test]
async fn row_28_of_a_thousand_equal_layers_one_is_fetched() {
    let doubt = Doubt::about([]).await;
    let document = hostile::many_layers(&sample(), 1_000);
    doubt.registry.publish_document(&document, Some("x"));
    let pulled = doubt.home.client().resolve_ref(&format!("oci://{}", doubt.registry.reference_to("x"))).await.unwrap();
    assert_eq!(pulled.digest, document.digest.to_string());
    assert!(pulled.wasm_bytes().unwrap() == sample().layer_bytes());
    assert_eq!(doubt.asked(), (1, 1));
}

#[tokio::test]
async fn row_29_an_index_of_too_many_entries_is_refused() {
    let many = |count: usize| index(&vec![(sample().descriptor(), None); count]);
    refused(&many(1_001), Internal, 10, &["more than 1000 manifests"]).await;
    refused(&many(100_000), Internal, 10, &["4194304"]).await;
}

#[tokio::test]
async fn row_24_json_nested_beyond_reason_is_refused() {
    refused(&hostile::deeply_nested(100_000), Internal, 10, &["malformed"]).await;
}

#[tokio::test]
async fn row_24_text_that_is_no_manifest_is_refused() {
    let blob = |text: &str| fixture::Blob::new("application/json", text);
    let good = String::from_utf8(sample().manifest_bytes).unwrap();
    let (trailing, not_a_number) = (format!("{good} x"), good.replace("200000", "NaN"));
    for (text, reason) in [
        (trailing.as_str(), "malformed"),
        (not_a_number.as_str(), "malformed"),
        ("", "malformed"),
        ("{}", "malformed"),
        ("null", "malformed"),
        ("[]", "malformed"),
        ("{\"schemaVersion\":2}", "manifest"),
        ("{\"schemaVersion\":3,\"layers\":[]}", "not supported"),
        ("<html><body>log in</body></html>", "web page"),
    ] {
        refused(&blob(text), Internal, 10, &[reason]).await;
    }
    let (front, back) = good.split_once("application/wasm").unwrap();
    let no_utf_8 = [front.as_bytes(), b"application/\xff", back.as_bytes()].concat();
    refused(&Document::new(MANIFEST_TYPE, no_utf_8), Internal, 10, &["malformed"]).await;
}

#[tokio::test]
async fn row_29_indexes_nested_beyond_the_depth_are_refused() {
    let artifact = sample();
    let doubt = Doubt::about([]).await;
    let chain = hostile::index_chain(&artifact, 50);
    for document in &chain {
        doubt.registry.publish_document(document, None);
    }
    let pinned = |depth: usize| format!("oci://{}", doubt.registry.pinned_to(chain[depth - 1].digest));
    for depth in [3, 50] {
        doubt.journal().clear();
        doubt.refused(&doubt.home.client(), &pinned(depth)).await.is(Internal, 10, &["nesting of indexes"]);
        assert!(doubt.asked().0 <= 3 && doubt.asked().1 == 0, "{:?}", doubt.journal().lines());
    }
    assert_delivers(&doubt.home.client().resolve_ref(&pinned(2)).await.unwrap(), &artifact);
}

#[tokio::test]
async fn row_29_an_index_that_leads_back_to_itself_is_refused() {
    let doubt = Doubt::about([Lie::IndexLoop]).await;
    // A true loop has no digest; the manifest behind the index is not the one the index names.
    doubt.refused(&doubt.home.client(), &doubt.reference()).await.is(Integrity, 8, &[]);
    assert_eq!(doubt.asked(), (3, 0), "{:?}", doubt.journal().lines());
}

#[tokio::test]
async fn an_index_without_a_manifest_for_us_is_not_found_and_says_what_there_is() {
    let doubt = Doubt::about([]).await;
    let (one, two) = (sample().descriptor(), other(99).descriptor());
    let document = index(&[(one, Some(("linux", "amd64"))), (two, Some(("linux", "arm64")))]);
    doubt.registry.publish_document(&document, Some("x"));
    let reference = format!("oci://{}", doubt.registry.reference_to("x"));
    doubt.refused(&doubt.home.client(), &reference).await.is(NotFound, 3, &["amd64", "arm64"]);
}

#[tokio::test]
async fn an_index_that_lies_about_a_size_is_refused() {
    let doubt = Doubt::about([]).await;
    let mut descriptor = sample().descriptor();
    descriptor["size"] = 7.into();
    let document = index(&[(descriptor, None)]);
    doubt.registry.publish_document(&document, Some("x"));
    let reference = format!("oci://{}", doubt.registry.reference_to("x"));
    doubt.refused(&doubt.home.client(), &reference).await.is(Integrity, 8, &["7"]);
    assert_eq!(doubt.asked().1, 0);
}

#[tokio::test]
async fn an_empty_index_is_not_found() {
    let document = index(&[]);
    assert_eq!(document.media_type, INDEX_TYPE);
    refused(&document, NotFound, 3, &[]).await;
}

#[tokio::test]
async fn a_manifest_of_foreign_layers_is_refused_with_their_types() {
    let artifact = fixture::artifact("application/vnd.oci.image.layer.v1.tar+gzip", "tar");
    let doubt = Doubt::about([]).await;
    doubt.registry.publish(&artifact, "image");
    let reference = format!("oci://{}", doubt.registry.reference_to("image"));
    let refusal = doubt.refused(&doubt.home.client(), &reference).await;
    refusal.is(Internal, 10, &["tar+gzip"]);
    assert_eq!(doubt.asked(), (1, 0));
}

#[tokio::test]
async fn row_22_a_content_type_that_contradicts_the_body_is_refused() {
    for (content_type, reason) in [(INDEX_TYPE, "ambiguous"), ("text/html", "web page")] {
        let doubt = Doubt::about([Lie::ContentType(content_type.to_owned())]).await;
        doubt.refused(&doubt.home.client(), &doubt.reference()).await.is(Internal, 10, &[reason]);
    }
}

#[tokio::test]
async fn a_vague_content_type_leaves_the_decision_to_the_body() {
    for content_type in ["application/json", "text/plain; charset=utf-8", "application/octet-stream"] {
        let doubt = Doubt::about([Lie::ContentType(content_type.to_owned())]).await;
        let pulled = doubt.home.client().resolve_ref(&doubt.reference()).await.unwrap();
        assert_delivers(&pulled, doubt.registry.artifact());
    }
}

/// The same artifact with one more field in the descriptor of its layer.
fn with_layer_field(artifact: Artifact, field: &str, value: Value) -> Artifact {
    let mut manifest: Value = serde_json::from_slice(&artifact.manifest_bytes).unwrap();
    manifest["layers"][0][field] = value;
    let manifest_bytes = manifest.to_string().into_bytes();
    Artifact { manifest_digest: Digest::sha256(&manifest_bytes), manifest_bytes, ..artifact }
}

#[tokio::test]
async fn row_31_the_urls_of_a_layer_are_asked_by_nobody() {
    let elsewhere = bystander([127, 0, 0, 2].into());
    let urls = json!([format!("{}/layer", elsewhere.url())]);
    let doubt = Doubt::about([]).await;
    // A registry that has the layer is asked for it; where it is missing, it is missing.
    let missing = with_layer_field(other(31), "urls", urls.clone());
    doubt.registry.publish_document(&Document::new(MANIFEST_TYPE, missing.manifest_bytes), Some("missing"));
    let reference = format!("oci://{}", doubt.registry.reference_to("missing"));
    doubt.refused(&doubt.home.client(), &reference).await.is(NotFound, 3, &[]);
    let there = with_layer_field(other(32), "urls", urls);
    doubt.registry.publish(&there, "there");
    let reference = format!("oci://{}", doubt.registry.reference_to("there"));
    assert_delivers(&doubt.home.client().resolve_ref(&reference).await.unwrap(), &there);
    assert_eq!(elsewhere.connections(), 0);
}

#[tokio::test]
async fn row_32_content_inside_a_descriptor_that_is_not_the_promised_one_is_never_used() {
    // `evil`, which is as long as what its digest promises.
    let lying = with_layer_field(fixture::artifact(WASM_TYPE, "good"), "data", json!("ZXZpbA=="));
    let doubt = Doubt::about([Lie::WrongBlob]).await;
    doubt.registry.publish(&lying, "inline");
    let reference = format!("oci://{}", doubt.registry.reference_to("inline"));
    doubt.refused(&doubt.home.client(), &reference).await.is(Integrity, 8, &[]);
    doubt.registry.be_honest();
    let pulled = doubt.home.client().resolve_ref(&reference).await.unwrap();
    assert_delivers(&pulled, &lying);
    assert_eq!(pulled.wasm_bytes().unwrap(), b"good");
}
