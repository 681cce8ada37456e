//! Bytes on their way in.

use greentic_dist_store::{Expected, Proof, StoreErrorKind};
use greentic_dist_types::{Digest, Mismatch};

use crate::child::scatter;
use crate::support::*;

fn part_of(cache: &Cache, content: &Digest) -> std::path::PathBuf {
    cache.root().join("partial").join(format!("sha256-{}.part", content.to_hex()))
}

#[test]
fn what_was_dropped_half_way_is_gone_on_with() {
    let cache = cache();
    let artifact = artifact(b"0123456789");
    let lock = cache.lock(&artifact.content, &mut |_| ()).unwrap();
    let mut ingest = cache.ingest(&lock, artifact.expected()).unwrap();
    assert_eq!((ingest.offset(), ingest.is_resumed()), (0, false));
    ingest.write(b"0123").unwrap();
    drop(ingest);
    let mut ingest = cache.ingest(&lock, artifact.expected()).unwrap();
    assert_eq!((ingest.offset(), ingest.is_resumed()), (4, true));
    ingest.write(b"456789").unwrap();
    let blob = ingest.finish().unwrap();
    assert_eq!((blob.verified().digest(), blob.verified().size_bytes()), (artifact.content, 10));
    cache.publish(blob.stage(artifact.draft()).unwrap()).unwrap();
    drop(lock);
    assert_eq!(bytes_of(&cache, &artifact.pin, Proof::Full), artifact.bytes);
    assert!(!part_of(&cache, &artifact.content).exists());
    assert_tidy(&cache);
}

#[test]
fn a_server_that_starts_over_is_followed() {
    let cache = cache();
    let artifact = artifact(b"0123456789");
    let lock = cache.lock(&artifact.content, &mut |_| ()).unwrap();
    let mut ingest = cache.ingest(&lock, artifact.expected()).unwrap();
    ingest.write(b"01234").unwrap();
    ingest.restart().unwrap();
    assert_eq!(ingest.offset(), 0);
    ingest.write(&artifact.bytes).unwrap();
    assert_eq!(ingest.finish().unwrap().verified().digest(), artifact.content);
}

#[test]
fn proven_bytes_that_were_not_published_need_no_second_download() {
    let cache = cache();
    let artifact = artifact(b"0123456789");
    let lock = cache.lock(&artifact.content, &mut |_| ()).unwrap();
    let mut ingest = cache.ingest(&lock, artifact.expected()).unwrap();
    ingest.write(&artifact.bytes).unwrap();
    drop(ingest.finish().unwrap());
    let ingest = cache.ingest(&lock, artifact.expected()).unwrap();
    assert_eq!(ingest.offset(), 10);
    cache.publish(ingest.finish().unwrap().stage(artifact.draft()).unwrap()).unwrap();
    assert_eq!(bytes_of(&cache, &artifact.pin, Proof::Full), artifact.bytes);
}

#[test]
fn a_partial_file_of_no_use_is_begun_anew() {
    let cache = cache();
    let artifact = artifact(b"0123456789");
    let lock = cache.lock(&artifact.content, &mut |_| ()).unwrap();
    drop(cache.ingest(&lock, artifact.expected()).unwrap());
    for left in [&b"0123456789+"[..], b"012345678X", b""] {
        std::fs::write(part_of(&cache, &artifact.content), left).unwrap();
        let ingest = cache.ingest(&lock, artifact.expected()).unwrap();
        assert_eq!((ingest.offset(), ingest.is_resumed()), (0, false), "{left:?}");
        drop(ingest);
        assert!(!part_of(&cache, &artifact.content).exists(), "an empty partial file is left");
    }
}

#[test]
fn wrong_bytes_in_front_are_found_at_the_end_and_nothing_is_kept() {
    let cache = cache();
    let artifact = artifact(b"0123456789");
    let lock = cache.lock(&artifact.content, &mut |_| ()).unwrap();
    drop(cache.ingest(&lock, artifact.expected()).unwrap());
    std::fs::write(part_of(&cache, &artifact.content), b"XXXX").unwrap();
    let mut ingest = cache.ingest(&lock, artifact.expected()).unwrap();
    assert_eq!((ingest.offset(), ingest.is_resumed()), (4, true));
    ingest.write(b"456789").unwrap();
    let error = ingest.finish().unwrap_err();
    assert!(matches!(error.kind(), StoreErrorKind::Integrity(Mismatch::Digest { .. })));
    assert!(!part_of(&cache, &artifact.content).exists());
    assert_eq!(cache.ingest(&lock, artifact.expected()).unwrap().offset(), 0);
}

#[test]
fn the_first_byte_too_many_ends_the_ingest() {
    let cache = cache();
    let artifact = artifact(b"0123456789");
    let lock = cache.lock(&artifact.content, &mut |_| ()).unwrap();
    let mut ingest = cache.ingest(&lock, artifact.expected()).unwrap();
    ingest.write(b"0123456789").unwrap();
    assert_eq!(kind(ingest.write(b"+")), StoreErrorKind::Integrity(Mismatch::Long { expected: 10 }));
    assert_eq!(kind(ingest.write(b"")), StoreErrorKind::Io);
    assert_eq!(kind(ingest.finish()), StoreErrorKind::Io);
    assert!(!part_of(&cache, &artifact.content).exists());
}

#[test]
fn too_few_bytes_are_not_finished() {
    let cache = cache();
    let artifact = artifact(b"0123456789");
    let lock = cache.lock(&artifact.content, &mut |_| ()).unwrap();
    let mut ingest = cache.ingest(&lock, artifact.expected()).unwrap();
    ingest.write(b"012345678").unwrap();
    let error = ingest.finish().unwrap_err();
    assert_eq!(*error.kind(), StoreErrorKind::Integrity(Mismatch::Short { expected: 10, actual: 9 }));
    assert_eq!(error.mismatch(), Some(&Mismatch::Short { expected: 10, actual: 9 }));
}

#[test]
fn bytes_given_up_are_gone() {
    let cache = cache();
    let artifact = artifact(b"0123456789");
    let lock = cache.lock(&artifact.content, &mut |_| ()).unwrap();
    let mut ingest = cache.ingest(&lock, artifact.expected()).unwrap();
    ingest.write(b"0123").unwrap();
    ingest.discard();
    assert!(!part_of(&cache, &artifact.content).exists());
}

#[test]
fn content_nobody_named_is_measured_within_its_limit() {
    let cache = cache();
    let mut ingest = cache.ingest_measured(4).unwrap();
    ingest.write(b"0123").unwrap();
    assert_eq!(ingest.finish().unwrap().verified().digest(), Digest::sha256(b"0123"));
    let mut ingest = cache.ingest_measured(4).unwrap();
    assert_eq!(kind(ingest.write(b"01234")), StoreErrorKind::Integrity(Mismatch::TooLarge { limit: 4 }));
    drop(ingest);
    let mut dropped = cache.ingest_measured(4).unwrap();
    dropped.write(b"0").unwrap();
    drop(dropped);
    assert_tidy(&cache);
}

#[test]
fn the_empty_artifact_is_an_artifact() {
    let cache = cache();
    let entry = publish_content(&cache, b"");
    assert_eq!(bytes_of(&cache, &entry.pin, Proof::Stamped), b"");
    let artifact = artifact(b"");
    artifact.publish_in(&cache);
    assert_eq!(bytes_of(&cache, &artifact.pin, Proof::Full), b"");
    assert_eq!(cache.list().unwrap().len(), 2);
}

#[test]
fn a_second_ingest_of_the_same_content_writes_to_a_file_of_its_own() {
    let cache = cache();
    let artifact = artifact(b"0123456789");
    // Two callers with locks that do not exclude each other: of two pins with the same content.
    let locks = [b"a", b"b"].map(|key| cache.lock(&Digest::sha256(key), &mut |_| ()).unwrap());
    let mut first = cache.ingest(&locks[0], artifact.expected()).unwrap();
    first.write(b"01234").unwrap();
    let mut second = cache.ingest(&locks[1], artifact.expected()).unwrap();
    assert_eq!(second.offset(), 0);
    second.write(&artifact.bytes).unwrap();
    first.write(b"56789").unwrap();
    for ingest in [first, second] {
        cache.publish(ingest.finish().unwrap().stage(artifact.draft()).unwrap()).unwrap();
    }
    drop(locks);
    assert_eq!(bytes_of(&cache, &artifact.pin, Proof::Full), artifact.bytes);
    assert_tidy(&cache);
}

#[test]
fn more_than_the_disk_has_is_refused_before_a_byte_is_written() {
    let cache = cache();
    let digest = Digest::sha256(b"huge");
    let lock = cache.lock(&digest, &mut |_| ()).unwrap();
    let expected = Expected { digest, size_bytes: 1 << 60 };
    let error = cache.ingest(&lock, expected).unwrap_err();
    assert_eq!(*error.kind(), StoreErrorKind::NoSpace);
    assert!(error.to_string().contains("1152921504606846976 bytes are needed"), "{error}");
    assert_eq!(names(&cache.root().join("partial")), Vec::<String>::new());
}

#[test]
fn bytes_that_come_in_any_order_are_the_same_artifact() {
    // From two MiB on they are hashed on a thread of their own.
    for size in [150_000, 5_000_000] {
        let cache = cache();
        let bytes: Vec<u8> = (0..size).map(|at: u32| at.to_le_bytes()[at as usize % 3]).collect();
        let artifact = artifact(&bytes);
        let lock = cache.lock(&artifact.content, &mut |_| ()).unwrap();
        let mut ingest = cache.ingest(&lock, artifact.expected()).unwrap();
        scatter(&mut ingest, &bytes, 0);
        assert_eq!(ingest.offset(), u64::from(size));
        cache.publish(ingest.finish().unwrap().stage(artifact.draft()).unwrap()).unwrap();
        drop(lock);
        assert_eq!(bytes_of(&cache, &artifact.pin, Proof::Full), artifact.bytes);
        assert_eq!(names(&cache.root().join("partial")), Vec::<String>::new());
        assert_tidy(&cache);
    }
}

#[test]
fn wrong_bytes_that_came_before_their_turn_are_found() {
    let cache = cache();
    let artifact = artifact(b"0123456789");
    let lock = cache.lock(&artifact.content, &mut |_| ()).unwrap();
    let mut ingest = cache.ingest(&lock, artifact.expected()).unwrap();
    ingest.write_shared_at(5, b"5678X").unwrap();
    ingest.write_shared_at(0, b"01234").unwrap();
    let error = ingest.finish().unwrap_err();
    assert!(matches!(error.kind(), StoreErrorKind::Integrity(Mismatch::Digest { .. })));
    assert_eq!(names(&cache.root().join("partial")), Vec::<String>::new());
}

#[test]
fn a_hole_that_nobody_fills_is_noticed() {
    let cache = cache();
    let artifact = artifact(b"0123456789");
    let lock = cache.lock(&artifact.content, &mut |_| ()).unwrap();
    let mut ingest = cache.ingest(&lock, artifact.expected()).unwrap();
    ingest.write_shared_at(0, b"01").unwrap();
    ingest.write_shared_at(4, b"456789").unwrap();
    let error = ingest.finish().unwrap_err();
    assert_eq!(*error.kind(), StoreErrorKind::Integrity(Mismatch::Short { expected: 10, actual: 2 }));
}

#[test]
fn bytes_behind_the_end_or_bytes_that_came_before_end_the_ingest() {
    for (offset, piece, expected) in [
        (5, &b"56789+"[..], StoreErrorKind::Integrity(Mismatch::Long { expected: 10 })),
        (u64::MAX, b"+", StoreErrorKind::Integrity(Mismatch::Long { expected: 10 })),
        (1, b"1", StoreErrorKind::Io),
    ] {
        let cache = cache();
        let artifact = artifact(b"0123456789");
        let lock = cache.lock(&artifact.content, &mut |_| ()).unwrap();
        let mut ingest = cache.ingest(&lock, artifact.expected()).unwrap();
        ingest.write(b"012").unwrap();
        ingest.write_shared_at(7, b"78").unwrap();
        assert_eq!(kind(ingest.write_shared_at(offset, &piece.to_vec())), expected, "{offset}");
        assert_eq!(kind(ingest.finish()), StoreErrorKind::Io);
        assert_eq!(names(&cache.root().join("partial")), Vec::<String>::new());
    }
}

#[test]
fn what_was_dropped_with_holes_goes_on_at_the_first() {
    let cache = cache();
    let artifact = artifact(b"0123456789");
    let lock = cache.lock(&artifact.content, &mut |_| ()).unwrap();
    for (at, piece, left) in [(0, b"012", Some(3)), (4, b"456", None)] {
        let mut ingest = cache.ingest(&lock, artifact.expected()).unwrap();
        ingest.write_shared_at(7, b"789").unwrap();
        ingest.write_shared_at(at, piece).unwrap();
        drop(ingest);
        let part = part_of(&cache, &artifact.content);
        assert_eq!(std::fs::metadata(&part).ok().map(|meta| meta.len()), left);
        assert!(!part.with_extension("upto").exists());
        let ingest = cache.ingest(&lock, artifact.expected()).unwrap();
        assert_eq!(ingest.offset(), left.unwrap_or(0));
        ingest.discard();
    }
}

#[test]
fn nothing_counts_of_a_partial_file_beside_a_note_of_no_use() {
    let cache = cache();
    let artifact = artifact(b"0123456789");
    let lock = cache.lock(&artifact.content, &mut |_| ()).unwrap();
    drop(cache.ingest(&lock, artifact.expected()).unwrap());
    let part = part_of(&cache, &artifact.content);
    let note = part.with_extension("upto");
    let elsewhere = cache.root().join("elsewhere");
    std::fs::write(&elsewhere, format!("{:020}\n", 4)).unwrap();
    for (what, counts) in
        [("00000000000000000004\n", 4), ("00000000000000000099\n", 6), ("4\n", 0), ("", 0), ("link", 0)]
    {
        std::fs::write(&part, b"012345").unwrap();
        if what == "link" {
            std::os::unix::fs::symlink(&elsewhere, &note).unwrap();
        } else {
            std::fs::write(&note, what).unwrap();
        }
        let ingest = cache.ingest(&lock, artifact.expected()).unwrap();
        assert_eq!(ingest.offset(), counts, "{what:?}");
        drop(ingest);
        assert!(std::fs::symlink_metadata(&note).is_err(), "{what:?}");
    }
    assert_eq!(std::fs::read(&elsewhere).unwrap().len(), 21, "what a link leads to is not touched");
}
