//! The trust stamp: what it spares, and everything that makes it void.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use greentic_dist_store::{Proof, StoreErrorKind};

use crate::support::*;

/// An entry with a valid stamp.
fn stamped(cache: &Cache) -> (Artifact, greentic_dist_store::Entry) {
    let artifact = artifact(b"the right component");
    let entry = artifact.publish_in(cache).entry;
    let_the_clock_tick();
    bytes_of(cache, &artifact.pin, Proof::Full);
    assert!(entry.dir.join("verified").exists());
    (artifact, entry)
}

/// Replaces the bytes in place in a way that leaves size and modification time as they were.
fn edit_in_secret(path: &std::path::Path, bytes: &[u8]) {
    let meta = fs::metadata(path).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(path, bytes).unwrap();
    fs::set_permissions(path, meta.permissions()).unwrap();
    fs::File::open(path).unwrap().set_modified(meta.modified().unwrap()).unwrap();
    let after = fs::metadata(path).unwrap();
    assert_eq!((meta.mtime_nsec(), meta.len(), meta.ino()), (after.mtime_nsec(), after.len(), after.ino()));
}

#[test]
fn an_edit_in_place_voids_the_stamp_even_with_the_old_time_put_back() {
    let cache = cache();
    let (artifact, entry) = stamped(&cache);
    edit_in_secret(&entry.path, b"the WRONG component");
    assert_eq!(kind(cache.open(&artifact.pin, Proof::Stamped)), StoreErrorKind::Corrupt);
    edit_in_secret(&entry.path, b"the right component");
    assert_eq!(bytes_of(&cache, &artifact.pin, Proof::Stamped), artifact.bytes);
}

#[test]
fn an_edit_at_once_after_publication_is_noticed() {
    for round in 0..50_u32 {
        let cache = cache();
        let artifact = artifact(format!("component {round:02}").as_bytes());
        let entry = artifact.publish_in(&cache).entry;
        edit_in_secret(&entry.path, format!("COMPONENT {round:02}").as_bytes());
        assert_eq!(kind(cache.open(&artifact.pin, Proof::Stamped)), StoreErrorKind::Corrupt, "round {round}");
    }
}

#[test]
fn an_edit_at_once_after_an_open_is_noticed() {
    for round in 0..50_u32 {
        let cache = cache();
        let artifact = artifact(format!("component {round:02}").as_bytes());
        let entry = artifact.publish_in(&cache).entry;
        fs::remove_file(entry.dir.join("verified")).ok();
        bytes_of(&cache, &artifact.pin, Proof::Stamped);
        edit_in_secret(&entry.path, format!("COMPONENT {round:02}").as_bytes());
        assert_eq!(kind(cache.open(&artifact.pin, Proof::Stamped)), StoreErrorKind::Corrupt, "round {round}");
    }
}

#[test]
fn a_stamp_that_was_tampered_with_is_worth_nothing() {
    let cache = cache();
    let (artifact, entry) = stamped(&cache);
    let path = entry.dir.join("verified");
    let good = fs::read_to_string(&path).unwrap();
    edit_in_secret(&entry.path, b"the WRONG component");
    let fields: Vec<&str> = good.trim_end().split(' ').collect();
    assert_eq!(fields.len(), 8);
    let joined = |fields: &[&str]| format!("{}\n", fields.join(" "));
    for (position, _) in fields.iter().enumerate() {
        let mut forged = fields.clone();
        forged[position] = "0";
        fs::write(&path, joined(&forged)).unwrap();
        assert_eq!(kind(cache.open(&artifact.pin, Proof::Stamped)), StoreErrorKind::Corrupt, "{forged:?}");
    }
    for forged in ["", "1", &good[..good.len() - 1], &format!("{good}{good}")] {
        fs::write(&path, forged).unwrap();
        assert_eq!(kind(cache.open(&artifact.pin, Proof::Stamped)), StoreErrorKind::Corrupt, "{forged:?}");
    }
}

#[test]
fn a_stamp_of_another_boot_is_proven_again_and_renewed() {
    let cache = cache();
    let (artifact, entry) = stamped(&cache);
    let path = entry.dir.join("verified");
    let good = fs::read_to_string(&path).unwrap();
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    assert!(good.contains(boot.trim()));
    let old = good.replace(boot.trim(), "00000000-0000-0000-0000-000000000000");
    fs::write(&path, &old).unwrap();
    assert_eq!(bytes_of(&cache, &artifact.pin, Proof::Stamped), artifact.bytes);
    assert_eq!(fs::read_to_string(&path).unwrap(), good);
}

#[test]
fn the_stamp_spares_the_hashing() {
    let cache = cache();
    let (artifact, entry) = stamped(&cache);
    // Nothing shows from outside whether bytes were hashed, except to somebody who forges a stamp for wrong ones.
    edit_in_secret(&entry.path, b"the WRONG component");
    let meta = fs::metadata(&entry.path).unwrap();
    let path = entry.dir.join("verified");
    let old = fs::read_to_string(&path).unwrap();
    let mut fields: Vec<String> = old.trim_end().split(' ').map(str::to_owned).collect();
    fields[6] = format!("{}", i128::from(meta.ctime()) * 1_000_000_000 + i128::from(meta.ctime_nsec()));
    fs::write(&path, format!("{}\n", fields.join(" "))).unwrap();
    assert!(cache.open(&artifact.pin, Proof::Stamped).is_ok(), "the stamp was not used");
    assert_eq!(kind(cache.open(&artifact.pin, Proof::Full)), StoreErrorKind::Corrupt);
}

#[test]
fn a_stamp_that_is_a_link_is_neither_read_nor_written_through() {
    let cache = cache();
    let (artifact, entry) = stamped(&cache);
    let path = entry.dir.join("verified");
    let victim = cache.dir.path().join("victim");
    fs::rename(&path, &victim).unwrap();
    std::os::unix::fs::symlink(&victim, &path).unwrap();
    let good = fs::read(&victim).unwrap();
    bytes_of(&cache, &artifact.pin, Proof::Full);
    assert_eq!(fs::read(&victim).unwrap(), good);
    // Nor through a second name.
    fs::remove_file(&path).unwrap();
    fs::write(&victim, b"precious").unwrap();
    fs::hard_link(&victim, &path).unwrap();
    bytes_of(&cache, &artifact.pin, Proof::Full);
    assert_eq!(fs::read(&victim).unwrap(), b"precious");
}

#[test]
fn noting_the_use_of_an_entry_voids_no_stamp() {
    let cache = cache();
    let (artifact, entry) = stamped(&cache);
    let stamp = fs::read(entry.dir.join("verified")).unwrap();
    assert!(cache.touch(&entry) && cache.touch(&entry));
    assert_eq!(fs::read(entry.dir.join("last_used")).unwrap(), b"");
    assert_eq!(bytes_of(&cache, &artifact.pin, Proof::Stamped), artifact.bytes);
    assert_eq!(fs::read(entry.dir.join("verified")).unwrap(), stamp);
}

#[test]
fn many_artifacts_published_through_one_handle_are_each_found_out_when_edited() {
    use std::io::Write;
    let cache = cache();
    // What is known of the time stamps of the device after the first must hold for all.
    for number in 0..50_u8 {
        let artifact = artifact(&[number; 5000]);
        let entry = artifact.publish_in(&cache).entry;
        fs::set_permissions(&entry.path, fs::Permissions::from_mode(0o644)).unwrap();
        fs::OpenOptions::new().write(true).open(&entry.path).unwrap().write_all(b"edited").unwrap();
        assert_eq!(kind(cache.open(&artifact.pin, Proof::Stamped)), StoreErrorKind::Corrupt, "{number}");
    }
}
