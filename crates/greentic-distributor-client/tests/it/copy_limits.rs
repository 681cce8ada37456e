//! What a copy refuses by the sizes that manifests declare, before it asks for a blob or writes anything.

use std::path::Path;

use greentic_dist_testkit::fixture::{self, Blob};
use greentic_dist_testkit::scenario::{LyingRegistry, hostile};
use greentic_dist_testkit::{Journal, TreeSnapshot};
use greentic_dist_types::Digest;
use greentic_distributor_client::dist::{DistClient, DistError, DistErrorKind, Limit, Limits};
use greentic_distributor_client::oci::{CopyOptions, Place};

use crate::support::{Home, chain, failure, other, registry};

const PIB: u64 = 1 << 50;
/// More than any file system has.
#[cfg(unix)]
const ENDLESS: u64 = 1 << 60;

fn place(text: &str) -> Place {
    Place::parse(text).unwrap()
}

/// A registry with an artifact whose layer says that it has so many bytes.
fn claiming(size_bytes: u64) -> LyingRegistry {
    let registry = registry();
    let size = i64::try_from(size_bytes).unwrap();
    registry.publish_document(&hostile::wrong_layer_size(registry.artifact(), size), Some("vast"));
    registry
}

/// A client that takes blobs of any size.
#[cfg(unix)]
fn unlimited(home: &Home) -> DistClient {
    home.builder().max_artifact_bytes(u64::MAX).build()
}

/// Panics unless no blob was asked for and nothing lies in the directory.
#[track_caller]
fn assert_untouched(journal: &Journal, work: &Path) {
    assert_eq!(journal.count_containing("/blobs/"), 0, "{:#?}", journal.lines());
    assert_eq!(TreeSnapshot::of(work).paths(), [""; 0]);
}

#[tokio::test]
async fn quirk_s09_a_layer_over_the_limit_is_copied_nowhere_and_no_blob_is_asked_for() {
    let (source, to, home) = (claiming(PIB), registry(), Home::new());
    let work = tempfile::tempdir().unwrap();
    let from = place(&source.reference_to("vast"));
    let path = work.path().display();
    for to in [
        format!("oci-layout:{path}/layout"),
        format!("oci-archive:{path}/archive.tar"),
        format!("{}/mirror/hello", to.host()),
        format!("{}/mirror/hello", source.host()),
    ] {
        let error = failure(home.client().copy(&from, &place(&to), &CopyOptions::default()).await);
        assert!(matches!(error, DistError::TooLarge { limit_bytes, .. } if limit_bytes == 2 << 30), "{to}: {error:?}");
        assert_eq!(error.exit_code(), 10, "as a pull");
        assert!(error.to_string().contains(&source.reference_to("vast")), "{error}");
        assert!(error.hints().concat().contains("--set-limit artifact-bytes="), "{:?}", error.hints());
    }
    assert_untouched(&source.journal(), work.path());
    assert_eq!(to.journal().len(), 0);
    // Exactly the limit is not over it, and a blob nobody names is nobody's.
    let largest = source.artifact().blobs().map(|blob| blob.bytes.len() as u64).max().unwrap();
    for (limit, fits) in [(largest, true), (largest - 1, false)] {
        let client = home.builder().limits(Limits::default().with(Limit::ArtifactBytes, limit)).build();
        let to = place(&format!("oci-layout:{path}/{limit}"));
        let copied = client.copy(&place(&source.reference()), &to, &CopyOptions::default()).await;
        assert_eq!(copied.is_ok(), fits, "{limit}");
    }
}

#[cfg(unix)]
#[tokio::test]
async fn quirk_s09_what_a_file_system_has_no_room_for_is_not_begun() {
    let (source, home) = (claiming(ENDLESS), Home::new());
    let (from, client) = (place(&source.reference_to("vast")), unlimited(&home));
    let work = tempfile::tempdir().unwrap();
    let path = work.path().display();
    for to in [format!("oci-layout:{path}/layout"), format!("oci-archive:{path}/archive.tar")] {
        let error = failure(client.copy(&from, &place(&to), &CopyOptions::default()).await);
        assert_no_room(&error, work.path());
    }
    assert_untouched(&source.journal(), work.path());
}

/// Panics unless an error says how much there is and how much is needed, and what to do.
#[cfg(unix)]
#[track_caller]
fn assert_no_room(error: &DistError, dir: &Path) {
    assert_eq!((error.kind(), error.exit_code()), (DistErrorKind::Internal, 10), "{error:?}");
    let text = chain(error);
    assert!(text.contains(&dir.display().to_string()) && text.contains("bytes are needed and"), "{text}");
    let hints = error.hints().concat();
    assert!(hints.contains("free some space") && !hints.contains("cache"), "{hints}");
}

/// What a copy of a tag into a directory says with these limits.
async fn refused(registry: &LyingRegistry, tag: &str, limits: Limits, options: &CopyOptions) -> DistError {
    let (home, work) = (Home::new(), tempfile::tempdir().unwrap());
    let to = place(&format!("oci-layout:{}/layout", work.path().display()));
    let client = home.builder().limits(limits).build();
    registry.journal().clear();
    let error = failure(client.copy(&place(&registry.reference_to(tag)), &to, options).await);
    assert_untouched(&registry.journal(), work.path());
    error
}

/// Panics unless an error names a limit, says which and how it is raised, and blames nobody's input.
#[track_caller]
fn assert_names(error: &DistError, limit: Limit, in_force: u64) {
    assert_eq!((error.kind(), error.exit_code()), (DistErrorKind::Internal, 10), "{error:?}");
    let DistError::Network { source, .. } = error else { panic!("{error:?}") };
    assert_eq!(source.limit(), Some(limit), "{error:?}");
    let text = chain(error);
    assert!(text.contains(&format!("exceeds the limit `{limit}` of {in_force}")), "{text}");
    let raise = format!("--set-limit {limit}={}", in_force * 2);
    assert!(error.hints().concat().contains(&raise), "{:?}", error.hints());
}

fn only_wasm() -> CopyOptions {
    CopyOptions { platform: Some("wasip2/wasm".parse().unwrap()), ..CopyOptions::default() }
}

/// A registry with twelve indexes in each other, each under its depth as a tag.
fn nested() -> LyingRegistry {
    let registry = registry();
    let mut inner = registry.artifact().descriptor();
    for depth in 1..=12 {
        let index = fixture::index(&[(inner, Some(("wasip2", "wasm")))]);
        registry.publish_document(&index, Some(&depth.to_string()));
        inner = index.descriptor();
    }
    registry
}

#[tokio::test]
async fn indexes_that_are_nested_too_deeply_are_a_limit_of_copies_as_of_everything() {
    let registry = nested();
    for options in [CopyOptions::default(), only_wasm()] {
        for (tag, limits) in [("12", Limits::default()), ("3", Limits::default())] {
            let error = refused(&registry, tag, limits, &options).await;
            assert_names(&error, Limit::IndexDepth, 2);
            assert_eq!(registry.journal().count_containing("/manifests/"), 3, "no index beyond the limit is opened");
        }
        let error = refused(&registry, "12", Limits::default().with(Limit::IndexDepth, 11), &options).await;
        assert_names(&error, Limit::IndexDepth, 11);
        // What is exactly at the limit is taken.
        for (tag, depth) in [("2", 2), ("12", 12)] {
            let (home, work) = (Home::new(), tempfile::tempdir().unwrap());
            let to = place(&format!("oci-layout:{}/layout", work.path().display()));
            let client = home.builder().limits(Limits::default().with(Limit::IndexDepth, depth)).build();
            client.copy(&place(&registry.reference_to(tag)), &to, &options).await.unwrap();
        }
    }
}

#[tokio::test]
async fn more_manifests_than_a_copy_takes_are_not_even_asked_for() {
    let registry = registry();
    let others: Vec<_> = (1..=3).map(other).collect();
    for other in &others {
        registry.publish(other, "other");
    }
    let children: Vec<_> = others.iter().map(|other| (other.descriptor(), None)).collect();
    let index = fixture::index(&children);
    registry.publish_document(&index, Some("index"));
    let all = CopyOptions::default();
    let error = refused(&registry, "index", Limits::default().with(Limit::CopyManifests, 3), &all).await;
    assert_names(&error, Limit::CopyManifests, 3);
    assert_eq!(registry.journal().len(), 1, "the index alone was read");
    let bytes = index.bytes.len() + others.iter().map(|other| other.manifest_bytes.len()).sum::<usize>() - 1;
    let bytes = u64::try_from(bytes).unwrap();
    let error = refused(&registry, "index", Limits::default().with(Limit::CopyManifestBytes, bytes), &all).await;
    assert_names(&error, Limit::CopyManifestBytes, bytes);
    assert_eq!(registry.journal().len(), 1, "the index alone was read");
    let (home, work) = (Home::new(), tempfile::tempdir().unwrap());
    let limits = Limits::default().with(Limit::CopyManifests, 4).with(Limit::CopyManifestBytes, bytes + 1);
    let to = place(&format!("oci-layout:{}/layout", work.path().display()));
    let client = home.builder().limits(limits).build();
    let report = client.copy(&place(&registry.reference_to("index")), &to, &all).await.unwrap();
    assert_eq!(report.manifests_copied, 4);
}

/// A manifest that refers to another one.
fn referring_to(subject: &serde_json::Value) -> Blob {
    fixture::artifact_manifest("application/example", &[], Some(subject.clone()))
}

/// Lets a registry without a referrers API list these as referring to a manifest.
fn list(registry: &LyingRegistry, subject: Digest, referrers: &[&Blob]) {
    let entries: Vec<_> = referrers.iter().map(|referrer| (referrer.descriptor(), None)).collect();
    registry.publish_document(&fixture::index(&entries), Some(&format!("sha256-{}", subject.to_hex())));
}

#[tokio::test]
async fn a_chain_of_referrers_and_a_list_of_them_have_limits_with_names() {
    let registry = registry();
    let (mut subject, all) = (registry.artifact().descriptor(), CopyOptions::default());
    for step in 1..=9 {
        let referrer = referring_to(&subject);
        registry.publish_document(&referrer, None);
        list(&registry, subject["digest"].as_str().unwrap().parse().unwrap(), &[&referrer]);
        subject = referrer.descriptor();
        if step == 8 {
            let (home, work) = (Home::new(), tempfile::tempdir().unwrap());
            let to = place(&format!("oci-layout:{}/layout", work.path().display()));
            let report = home.client().copy(&place(&registry.reference()), &to, &all).await.unwrap();
            assert_eq!(report.referrers, 8);
        }
    }
    assert_names(&refused(&registry, "1", Limits::default(), &all).await, Limit::ReferrerDepth, 8);

    let two = [referring_to(&registry.artifact().descriptor()), other_referrer(&registry)];
    list(&registry, registry.artifact().manifest_digest, &[&two[0], &two[1]]);
    let limits = Limits::default().with(Limit::Referrers, 1);
    assert_names(&refused(&registry, "1", limits, &all).await, Limit::Referrers, 1);
    // Without them it is copied, and who only looks at it is told why they are not known.
    let home = Home::new();
    let client = home.builder().limits(limits).build();
    let described = client.describe(&place(&registry.reference())).await.unwrap();
    assert_eq!(described.referrers, None);
    assert!(described.referrers_unknown.unwrap().contains("the limit `referrers` of 1"));
    let to = place(&format!("oci-layout:{}/out", home.outside().display()));
    let alone = CopyOptions { referrers: false, ..CopyOptions::default() };
    client.copy(&place(&registry.reference()), &to, &alone).await.unwrap();
}

fn other_referrer(registry: &LyingRegistry) -> Blob {
    fixture::artifact_manifest("application/another", &[], Some(registry.artifact().descriptor()))
}

/// A registry with an index, tagged `index`, of eight children, each with `around` it what is published for it. Returns the bytes of
/// the index and its children too.
fn eight_children(around: impl Fn(&LyingRegistry, &serde_json::Value)) -> (LyingRegistry, u64) {
    let registry = registry();
    let children: Vec<_> = (1..=8).map(other).collect();
    for child in &children {
        registry.publish(child, "child");
        around(&registry, &child.descriptor());
    }
    let entries: Vec<_> = children.iter().map(|child| (child.descriptor(), None)).collect();
    let index = fixture::index(&entries);
    registry.publish_document(&index, Some("index"));
    let bytes = index.bytes.len() + children.iter().map(|child| child.manifest_bytes.len()).sum::<usize>();
    (registry, u64::try_from(bytes).unwrap())
}

#[tokio::test]
async fn what_refers_to_several_manifests_is_held_against_one_limit_while_it_comes() {
    let all = CopyOptions::default();
    let referrer = |subject: &serde_json::Value, number: u8| {
        fixture::artifact_manifest(&format!("application/n{number}"), &[], Some(subject.clone()))
    };
    // Four of each child, none of which is over the limit alone.
    let digests = std::sync::Mutex::new(Vec::new());
    let (registry, bytes) = eight_children(|registry, subject| {
        let referrers: Vec<_> = (0..4).map(|number| referrer(subject, number)).collect();
        for referrer in &referrers {
            registry.publish_document(referrer, None);
        }
        list(registry, subject["digest"].as_str().unwrap().parse().unwrap(), &referrers.iter().collect::<Vec<_>>());
        digests.lock().unwrap().extend(referrers.iter().map(|referrer| (referrer.digest, referrer.bytes.len() as u64)));
    });
    let digests = digests.into_inner().unwrap();
    let size = digests[0].1;
    assert!(digests.iter().all(|(_, bytes)| *bytes == size) && bytes > 4 * size);
    let asked = |registry: &LyingRegistry| -> usize {
        digests.iter().map(|(digest, _)| registry.journal().count_containing(&digest.to_string())).sum()
    };
    for (limit, in_force) in [(Limit::CopyManifestBytes, bytes + 6 * size), (Limit::CopyManifests, 9 + 6)] {
        let error = refused(&registry, "index", Limits::default().with(limit, in_force), &all).await;
        assert_names(&error, limit, in_force);
        assert!(asked(&registry) <= 6, "{:#?}", registry.journal().lines());
    }
    // Exactly what there is fits.
    let limits = Limits::default().with(Limit::CopyManifestBytes, bytes + 32 * size).with(Limit::CopyManifests, 9 + 32);
    let (home, work) = (Home::new(), tempfile::tempdir().unwrap());
    let to = place(&format!("oci-layout:{}/layout", work.path().display()));
    let client = home.builder().limits(limits).build();
    let report = client.copy(&place(&registry.reference_to("index")), &to, &all).await.unwrap();
    assert_eq!((report.manifests_copied, report.referrers), (41, 32));

    // Nobody knows how large a signature is before it is there: those on their way come, and no more.
    let (registry, bytes) = eight_children(|registry, subject| {
        let hex = subject["digest"].as_str().unwrap().replace(':', "-");
        for (number, suffix) in [(0, "sig"), (1, "att"), (2, "sbom")] {
            registry.publish_document(&referrer(subject, number), Some(&format!("{hex}.{suffix}")));
        }
    });
    let in_force = bytes + 3 * size;
    let error = refused(&registry, "index", Limits::default().with(Limit::CopyManifestBytes, in_force), &all).await;
    assert_names(&error, Limit::CopyManifestBytes, in_force);
    let attached =
        [".sig", ".att", ".sbom"].map(|suffix| registry.journal().count_containing(suffix)).iter().sum::<usize>();
    // Three fit, and each of the eight that are asked at a time learns once that it does not. The index has none.
    assert!(attached <= 3 + 8 + 3, "{:#?}", registry.journal().lines());
}
