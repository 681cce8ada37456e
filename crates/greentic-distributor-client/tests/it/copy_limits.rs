//! What a copy refuses by the sizes that manifests declare, before it asks for a blob or writes anything.

use std::path::Path;

use greentic_dist_testkit::scenario::{LyingRegistry, hostile};
use greentic_dist_testkit::{Journal, TreeSnapshot};
use greentic_distributor_client::dist::{DistClient, DistError, DistErrorKind, Limit, Limits};
use greentic_distributor_client::oci::{CopyOptions, Place};

use crate::support::{Home, chain, failure, registry};

const PIB: u64 = 1 << 50;
/// More than any file system has.
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
#[track_caller]
fn assert_no_room(error: &DistError, dir: &Path) {
    assert_eq!((error.kind(), error.exit_code()), (DistErrorKind::Internal, 10), "{error:?}");
    let text = chain(error);
    assert!(text.contains(&dir.display().to_string()) && text.contains("bytes are needed and"), "{text}");
    let hints = error.hints().concat();
    assert!(hints.contains("free some space") && !hints.contains("cache"), "{hints}");
}
