//! Registries whose bytes are not the promised ones: wrong, short, long, endless, late.

use greentic_dist_testkit::fixture::{WASM_TYPE, artifact};
use greentic_dist_testkit::scenario::{Lie, hostile};
use greentic_distributor_client::dist::DistErrorKind::{Integrity, NotFound, Temporary};

use crate::support::{Doubt, assert_delivers, assert_fails, other, sample};

/// Most bytes an endless body may push into the sockets before it is cut off.
const ENDLESS_BYTES: u64 = 32 << 20;

#[tokio::test]
async fn row_17_wrong_blob_bytes_under_a_right_manifest_are_refused() {
    let doubt = Doubt::about([Lie::WrongBlob]).await;
    let client = doubt.home.client();
    let refusal = doubt.refused(&client, &doubt.reference()).await;
    let expected = doubt.registry.artifact().layer_digest().to_string();
    refusal.is(Integrity, 8, &["corrupt artifact", &expected]);
    assert!(!refusal.error.is_transient());
    // Asked for once more, for a cache between may have been stale; then it is the registry's answer.
    assert_eq!(doubt.asked(), (1, 2), "{:?}", doubt.journal().lines());
    doubt.heals(&client).await;
}

#[tokio::test]
async fn wrong_blob_bytes_under_a_pin_are_refused() {
    let doubt = Doubt::about([Lie::WrongBlob]).await;
    let refusal = doubt.refused(&doubt.home.client(), &doubt.pinned()).await;
    refusal.is(Integrity, 8, &[]);
    let opened = doubt.home.client().open_cached(&doubt.registry.artifact().manifest_digest.to_string());
    assert_eq!(opened.unwrap_err().kind(), NotFound);
}

#[tokio::test]
async fn row_16_a_wrong_manifest_under_a_pin_is_refused_though_the_header_repeats_the_pin() {
    let doubt = Doubt::about([Lie::WrongManifestEchoed]).await;
    let refusal = doubt.refused(&doubt.home.client(), &doubt.pinned()).await;
    let pin = doubt.registry.artifact().manifest_digest.to_string();
    refusal.is(Integrity, 8, &["the bytes hash to", &format!("expected {pin}")]);
    // The blobs of the wrong manifest exist and are never asked for.
    assert_eq!(doubt.asked(), (2, 0), "{:?}", doubt.journal().lines());
    doubt.heals(&doubt.home.client()).await;
}

#[tokio::test]
async fn a_manifest_with_one_byte_more_than_its_pin_is_refused() {
    let doubt = Doubt::about([Lie::PaddedManifest]).await;
    let refusal = doubt.refused(&doubt.home.client(), &doubt.pinned()).await;
    refusal.is(Integrity, 8, &[]);
    assert_eq!(doubt.asked().1, 0);
}

#[tokio::test]
async fn row_19_a_digest_header_that_is_a_path_leads_nowhere() {
    let other_algorithm = format!("sha512:{}", "0".repeat(128));
    for header in
        ["sha256:../../x", "/abs", "sha256:", "..", "sha256:/etc/passwd", "sha256:\u{e9}", other_algorithm.as_str()]
    {
        for pinned in [false, true] {
            let doubt = Doubt::about([Lie::DigestHeader(header.to_owned())]).await;
            let reference = if pinned { doubt.pinned() } else { doubt.reference() };
            // The header is a hint, and a bad hint is no hint: the digest is that of the bytes.
            let pulled = doubt.home.client().resolve_ref(&reference).await.unwrap();
            assert_delivers(&pulled, doubt.registry.artifact());
            assert_eq!(pulled.local_path, doubt.home.entry(&pulled.digest).join("component.wasm"));
            doubt.home.assert_nothing_outside_changed();
            assert_eq!(doubt.home.client().list_cache().len(), 2);
        }
    }
}

#[tokio::test]
async fn row_18_a_digest_header_of_another_manifest_names_nothing() {
    let named = other(5).manifest_digest;
    let doubt = Doubt::about([Lie::DigestHeader(named.to_string())]).await;
    let client = doubt.home.client();
    // The header is a hint: what is kept under a digest is what hashes to it, whatever the header says.
    let pulled = client.resolve_ref(&doubt.reference()).await.unwrap();
    assert_delivers(&pulled, doubt.registry.artifact());
    assert_eq!(doubt.asked(), (1, 1));
    let mut kept = [doubt.registry.artifact().manifest_digest.to_string(), other(99).manifest_digest.to_string()];
    kept.sort();
    assert_eq!(client.list_cache(), kept);
    assert_fails(client.open_cached(&named.to_string()), NotFound, 3);
}

#[tokio::test]
async fn row_26_a_truncated_blob_is_refused() {
    let doubt = Doubt::about([Lie::ShortBlob(100_000)]).await;
    let client = doubt.home.client();
    let refusal = doubt.cut_off(&client, &doubt.reference()).await;
    refusal.is(Integrity, 8, &["100000", "200000"]);
    doubt.heals(&client).await;
}

#[tokio::test]
async fn an_empty_blob_is_refused() {
    let doubt = Doubt::about([Lie::ShortBlob(0)]).await;
    let refusal = doubt.refused(&doubt.home.client(), &doubt.reference()).await;
    refusal.is(Integrity, 8, &["200000"]);
}

#[tokio::test]
async fn row_26_an_over_long_blob_is_refused() {
    for lie in [Lie::OverLongBlob(5), Lie::OverLongBlobChunked(5), Lie::OverLongBlobChunked(1_000_000)] {
        let doubt = Doubt::about([lie]).await;
        let client = doubt.home.client();
        let refusal = doubt.refused(&client, &doubt.reference()).await;
        refusal.is(Integrity, 8, &["200000"]);
        doubt.heals(&client).await;
    }
}

#[tokio::test]
async fn row_26_a_layer_whose_declared_size_is_not_that_of_its_blob_is_refused() {
    for size in [0, 1, 199_999, 200_001] {
        let doubt = Doubt::about([]).await;
        let document = hostile::wrong_layer_size(&sample(), size);
        doubt.registry.publish_document(&document, Some("x"));
        let by_tag = format!("oci://{}", doubt.registry.reference_to("x"));
        let by_pin = format!("oci://{}", doubt.registry.pinned_to(document.digest));
        for reference in [by_tag, by_pin] {
            doubt.cut_off(&doubt.home.client(), &reference).await.is(Integrity, 8, &[&size.to_string()]);
        }
        doubt.heals(&doubt.home.client()).await;
    }
}

#[tokio::test]
async fn row_27_an_endless_blob_is_cut_off_at_its_declared_size() {
    let doubt = Doubt::about([Lie::EndlessBlob]).await;
    let client = doubt.home.client();
    let refusal = doubt.refused(&client, &doubt.reference()).await;
    refusal.is(Integrity, 8, &["200000"]);
    assert!(doubt.journal().body_bytes_sent("/blobs/") < ENDLESS_BYTES);
    doubt.heals(&client).await;
}

#[tokio::test]
async fn a_blob_that_never_gets_beyond_a_cut_is_given_up_and_its_start_is_kept() {
    let doubt =
        Doubt::about([Lie::CutBlob { after: 50_000, times: 1 }, Lie::CutBlob { after: 0, times: Lie::ALWAYS }]).await;
    let client = doubt.home.client();
    let refusal = doubt.cut_off(&client, &doubt.reference()).await;
    refusal.is(Temporary, 7, &[]);
    assert!(refusal.error.is_transient());
    let part = doubt.home.cache().join("partial");
    let kept = std::fs::read_dir(part).unwrap().next().unwrap().unwrap().metadata().unwrap().len();
    assert_eq!(kept, 50_000);
    // Whoever comes next goes on from there.
    doubt.journal().clear();
    doubt.heals(&doubt.home.client()).await;
    let range = doubt.journal().entries().iter().find_map(|entry| entry.headers.get("range").map(str::to_owned));
    assert_eq!(range.as_deref(), Some("bytes=50000-"));
}

#[tokio::test]
async fn a_blob_that_is_always_reset_at_its_start_is_given_up() {
    let doubt = Doubt::about([Lie::ResetBlob { after: 0, times: Lie::ALWAYS }]).await;
    let refusal = doubt.refused(&doubt.home.client(), &doubt.reference()).await;
    refusal.is(Temporary, 7, &[]);
    assert_eq!(doubt.asked().0, 1);
}

#[tokio::test]
async fn a_blob_cut_every_so_often_arrives_once_and_whole() {
    for lie in [Lie::cut_every(30_000), Lie::ResetBlob { after: 30_000, times: 6 }] {
        let doubt = Doubt::about([lie]).await;
        let pulled = doubt.home.client().resolve_ref(&doubt.reference()).await.unwrap();
        assert_delivers(&pulled, doubt.registry.artifact());
    }
}

#[tokio::test]
async fn a_stalled_blob_goes_on_over_a_new_connection() {
    let doubt = Doubt::about([Lie::StallBlob { after: 120_000, times: 1 }]).await;
    let pulled = doubt.home.impatient().resolve_ref(&doubt.reference()).await.unwrap();
    assert_delivers(&pulled, doubt.registry.artifact());
    let ranges: Vec<_> =
        doubt.journal().entries().iter().filter_map(|it| it.headers.get("range").map(str::to_owned)).collect();
    assert_eq!(ranges, ["bytes=120000-"]);
}

#[tokio::test]
async fn a_blob_that_stalls_for_ever_is_given_up_and_its_start_is_kept() {
    let lies = [Lie::StallBlob { after: 70_000, times: 1 }, Lie::StallBlob { after: 0, times: Lie::ALWAYS }];
    let doubt = Doubt::about(lies).await;
    let refusal = doubt.cut_off(&doubt.home.impatient(), &doubt.reference()).await;
    refusal.is(Temporary, 7, &[]);
    assert_eq!(doubt.home.client().list_cache().len(), 1);
    doubt.heals(&doubt.home.client()).await;
}

#[tokio::test]
async fn a_blob_in_drops_arrives_whole() {
    let lie = Lie::DripBlob { piece: 20_000, interval: std::time::Duration::from_millis(2) };
    let doubt = Doubt::about([lie]).await;
    let pulled = doubt.home.client().resolve_ref(&doubt.reference()).await.unwrap();
    assert_delivers(&pulled, doubt.registry.artifact());
    assert_eq!(doubt.asked(), (1, 1));
}

#[tokio::test]
async fn a_blob_without_a_length_arrives_whole() {
    let doubt = Doubt::about([Lie::ChunkedBlob]).await;
    let pulled = doubt.home.client().resolve_ref(&doubt.reference()).await.unwrap();
    assert_delivers(&pulled, doubt.registry.artifact());
}

#[tokio::test]
async fn ranges_that_lie_never_put_wrong_bytes_into_the_cache() {
    let cut = Lie::CutBlob { after: 90_000, times: 1 };
    for lie in [
        Lie::RangeIgnored,
        Lie::WrongContentRange,
        Lie::WrongRangeBytes,
        Lie::NoContentRange,
        Lie::RangeRefused(416),
        Lie::RangeRefused(400),
    ] {
        let doubt = Doubt::about([cut.clone(), lie.clone()]).await;
        // Bytes from elsewhere under the right range are found out at the end, and asked for from the start.
        let pulled = doubt.home.client().resolve_ref(&doubt.reference()).await;
        let pulled = pulled.unwrap_or_else(|error| panic!("{lie:?}: {}", crate::support::chain(&error)));
        assert_delivers(&pulled, doubt.registry.artifact());
    }
}

#[tokio::test]
async fn a_truncated_manifest_is_given_up() {
    let doubt = Doubt::about([Lie::CutManifest { after: 20, times: Lie::ALWAYS }]).await;
    let refusal = doubt.refused(&doubt.home.client(), &doubt.reference()).await;
    refusal.is(Temporary, 7, &["5 attempts"]);
    assert_eq!(doubt.asked(), (5, 0));
}

#[tokio::test]
async fn a_stalled_manifest_is_given_up() {
    let doubt = Doubt::about([Lie::StallManifest(20)]).await;
    let refusal = doubt.refused(&doubt.home.impatient(), &doubt.reference()).await;
    refusal.is(Temporary, 7, &[]);
    assert_eq!(doubt.asked().1, 0);
}

#[tokio::test]
async fn a_registry_that_never_answers_is_given_up() {
    let doubt = Doubt::about([Lie::Silence { on: greentic_dist_testkit::scenario::Part::Manifest }]).await;
    let refusal = doubt.refused(&doubt.home.impatient(), &doubt.reference()).await;
    refusal.is(Temporary, 7, &["attempts"]);
    assert_eq!(doubt.asked(), (5, 0));
}

#[tokio::test]
async fn an_endless_manifest_is_cut_off_at_its_limit() {
    let doubt = Doubt::about([Lie::EndlessManifest]).await;
    let refusal = doubt.refused(&doubt.home.client(), &doubt.reference()).await;
    refusal.is(greentic_distributor_client::dist::DistErrorKind::Internal, 10, &["4194304"]);
    assert!(doubt.journal().body_bytes_sent("/manifests/") < ENDLESS_BYTES);
}

#[tokio::test]
async fn an_artifact_over_the_limit_is_refused_before_it_is_asked_for() {
    let doubt = Doubt::about([]).await;
    let client = doubt.home.builder().max_artifact_bytes(199_999).build();
    let refusal = doubt.refused(&client, &doubt.reference()).await;
    refusal.is(greentic_distributor_client::dist::DistErrorKind::Internal, 10, &["199999"]);
    assert_eq!(doubt.asked(), (1, 0));
    let exact = doubt.home.builder().max_artifact_bytes(200_000).build();
    assert_delivers(&exact.resolve_ref(&doubt.reference()).await.unwrap(), doubt.registry.artifact());
}

#[tokio::test]
async fn an_artifact_of_no_bytes_is_an_artifact() {
    let doubt = Doubt::about([]).await;
    let empty = artifact(WASM_TYPE, Vec::new());
    doubt.registry.publish(&empty, "empty");
    let reference = format!("oci://{}", doubt.registry.reference_to("empty"));
    let pulled = doubt.home.client().resolve_ref(&reference).await.unwrap();
    assert_delivers(&pulled, &empty);
}
