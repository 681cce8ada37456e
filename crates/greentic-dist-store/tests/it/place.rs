//! Where a cache may be: whose directory, with which rights, on which file system.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use greentic_dist_store::{Proof, Store, StoreErrorKind, StoreOptions};
use greentic_dist_types::Digest;

use crate::child::{Child, big, command};
use crate::support::*;

fn skip(why: &str) {
    println!("SKIPPED: {why}");
}

#[test]
fn row_65_modes_do_not_depend_on_the_umask() {
    for umask in ["000", "077", "022", "0777"] {
        let cache = cache();
        let program = command("bring", cache.root());
        let mut shell = Command::new("sh");
        shell.args(["-c", "umask \"$0\"; exec \"$@\"", umask]).arg(program.get_program()).args(program.get_args());
        shell.envs(program.get_envs().filter_map(|(key, value)| Some((key, value?))));
        Child::spawn(&mut shell).finish();
        let mut files = 0;
        for (path, what) in tree(cache.root()) {
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            let expected = match name.as_str() {
                _ if what.ends_with("directory") => "40700",
                "component.wasm" => "100444",
                _ => "100600",
            };
            assert_eq!(what.split(' ').next(), Some(expected), "umask {umask}: {}: {what}", path.display());
            files += 1;
        }
        assert!(files > 8, "{files}");
    }
}

#[test]
fn row_64_a_root_that_others_may_write_to_is_refused() {
    let cache = cache();
    let artifact = artifact(b"component");
    artifact.publish_in(&cache);
    for mode in [0o777, 0o770, 0o720, 0o702, 0o1777] {
        fs::set_permissions(cache.root(), fs::Permissions::from_mode(mode)).unwrap();
        let before = tree(cache.root());
        let error = cache.open(&artifact.pin, Proof::Stamped).unwrap_err();
        assert_eq!(*error.kind(), StoreErrorKind::NotOurs, "{mode:o}");
        assert!(error.to_string().contains(&format!("mode {mode:04o}")) && error.hints()[0].contains("chmod go-w"));
        assert_eq!(kind(cache.stat(&artifact.pin)), StoreErrorKind::NotOurs);
        assert_eq!(kind(cache.list()), StoreErrorKind::NotOurs);
        assert_eq!(kind(cache.try_lock(&artifact.pin)), StoreErrorKind::NotOurs);
        assert_eq!(kind(cache.ingest_measured(1)), StoreErrorKind::NotOurs);
        assert_eq!(kind(cache.remove(&artifact.pin)), StoreErrorKind::NotOurs);
        assert_eq!(kind(cache.gc()), StoreErrorKind::NotOurs);
        assert_eq!(kind(cache.recall("x")), StoreErrorKind::NotOurs);
        assert_eq!(tree(cache.root()), before);
        let shared = Store::with_options(cache.root(), StoreOptions { allow_shared_root: true, ..unsynced() });
        assert_eq!(bytes_of(&shared, &artifact.pin, Proof::Stamped), artifact.bytes);
    }
    fs::set_permissions(cache.root(), fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(bytes_of(&cache, &artifact.pin, Proof::Stamped), artifact.bytes);
}

#[test]
fn row_64_a_root_of_another_user_is_refused() {
    if !is_root() {
        return skip("giving a directory to another user needs root");
    }
    let cache = cache();
    let artifact = artifact(b"component");
    artifact.publish_in(&cache);
    std::os::unix::fs::chown(cache.root(), Some(65534), None).unwrap();
    let error = cache.open(&artifact.pin, Proof::Stamped).unwrap_err();
    assert_eq!(*error.kind(), StoreErrorKind::NotOurs);
    assert!(error.to_string().contains("belongs to user 65534"), "{error}");
    assert_eq!(kind(cache.ingest_measured(1)), StoreErrorKind::NotOurs);
    let shared = Store::with_options(cache.root(), StoreOptions { allow_shared_root: true, ..unsynced() });
    assert_eq!(bytes_of(&shared, &artifact.pin, Proof::Stamped), artifact.bytes);
}

/// Runs a role as the user `nobody`.
fn as_nobody(role: &str, root: &Path) -> std::process::Output {
    use std::os::unix::process::CommandExt;
    // The program must be somewhere that nobody may run it from.
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let program = command(role, root);
    let copy = dir.path().join("it");
    fs::copy(program.get_program(), &copy).unwrap();
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).unwrap();
    let mut nobody = Command::new(&copy);
    nobody.args(program.get_args()).envs(program.get_envs().filter_map(|(key, value)| Some((key, value?))));
    nobody.uid(65534).gid(65534).current_dir("/").output().unwrap()
}

#[test]
fn a_cache_of_the_superuser_can_be_read_and_not_written_by_others() {
    if !is_root() {
        return skip("becoming another user needs root");
    }
    let cache = cache();
    let artifact = big();
    let entry = artifact.publish_in(&cache).entry;
    for path in [cache.dir.path(), cache.root(), &entry.dir] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    for name in ["manifest.json", "entry.json"] {
        fs::set_permissions(entry.dir.join(name), fs::Permissions::from_mode(0o644)).unwrap();
    }
    let before = tree(cache.root());
    let read = as_nobody("read", cache.root());
    let said = String::from_utf8_lossy(&read.stdout);
    assert!(said.contains("Ok(true)"), "{said}");
    assert!(!as_nobody("bring", cache.root()).status.success());
    assert_eq!(tree(cache.root()), before);
}

#[test]
fn row_63_directories_of_the_cache_that_are_links_are_refused() {
    for sub in ["tmp", "partial", "locks", "refs"] {
        let cache = cache();
        publish_content(&cache, b"makes the root");
        let outside = cache.dir.path().join("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("precious"), b"precious").unwrap();
        let path = cache.root().join(sub);
        if path.exists() {
            fs::remove_dir_all(&path).unwrap();
        }
        symlink(&outside, &path).unwrap();
        let artifact = artifact(b"component");
        let refused = match sub {
            "refs" => kind(cache.remember(&greentic_dist_store::RefRecord::new("x", artifact.pin, 1))),
            "locks" => kind(cache.try_lock(&artifact.content)),
            "partial" => {
                let lock = cache.lock(&artifact.content, &mut |_| ()).unwrap();
                kind(cache.ingest(&lock, artifact.expected()))
            }
            _ => kind(cache.ingest_measured(1)),
        };
        assert_eq!(refused, StoreErrorKind::NotOurs, "{sub}");
        drop(cache.gc());
        assert_eq!(names(&outside), ["precious"], "{sub}");
    }
    for sub in ["trash", "quarantine"] {
        let cache = cache();
        let artifact = artifact(b"component");
        artifact.publish_in(&cache);
        let outside = cache.dir.path().join("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("000000000001-precious"), b"precious").unwrap();
        symlink(&outside, cache.root().join(sub)).unwrap();
        let refused = match sub {
            "trash" => kind(cache.remove(&artifact.pin)),
            _ => kind(cache.quarantine(&artifact.pin, "why")),
        };
        assert_eq!(refused, StoreErrorKind::NotOurs, "{sub}");
        drop(cache.gc());
        assert_eq!(names(&outside), ["000000000001-precious"], "{sub}");
    }
}

#[test]
fn a_root_that_is_a_link_is_followed_and_one_that_is_a_file_is_not_a_root() {
    let cache = cache();
    let artifact = artifact(b"component");
    artifact.publish_in(&cache);
    let link = cache.dir.path().join("link");
    symlink(cache.root(), &link).unwrap();
    let linked = Store::with_options(&link, unsynced());
    assert_eq!(bytes_of(&linked, &artifact.pin, Proof::Stamped), artifact.bytes);
    assert_eq!(linked.list().unwrap(), [artifact.pin]);
    assert!(linked.remove(&artifact.pin).unwrap().existed);
    let file = cache.dir.path().join("file");
    fs::write(&file, b"x").unwrap();
    let store = Store::new(&file);
    assert_eq!(kind(store.stat(&artifact.pin)), StoreErrorKind::NotOurs);
    assert_eq!(kind(store.try_lock(&artifact.pin)), StoreErrorKind::NotOurs);
}

#[test]
fn a_new_root_is_private_and_marked_as_a_cache() {
    let cache = cache();
    let deep = cache.dir.path().join("a/b/cache");
    publish_content(&Store::with_options(&deep, unsynced()), b"x");
    assert_eq!(fs::metadata(&deep).unwrap().mode() & 0o7777, 0o700);
    let tag = fs::read_to_string(deep.join("CACHEDIR.TAG")).unwrap();
    assert!(tag.starts_with("Signature: 8a477f597d28d172789f06886806bc55"));
}

#[test]
fn the_path_of_a_root_may_be_any_bytes() {
    use std::os::unix::ffi::OsStrExt;
    let cache = cache();
    let store = Store::with_options(cache.dir.path().join(std::ffi::OsStr::from_bytes(b"\xff\x1b[31m")), unsynced());
    let artifact = artifact(b"component");
    let entry = artifact.publish_in(&store).entry;
    assert_eq!(bytes_of(&store, &artifact.pin, Proof::Full), artifact.bytes);
    assert_eq!(store.stat(&artifact.pin).unwrap().unwrap().path, entry.path);
    fs::remove_file(&entry.path).unwrap();
    let shown = store.open(&artifact.pin, Proof::Full).unwrap_err().to_string();
    assert!(!shown.contains('\u{1b}'), "{shown:?}");
}

#[test]
fn a_relative_root_works() {
    // The working directory belongs to the whole process, so this only reads.
    let store = Store::new("no such directory here");
    assert!(store.stat(&Digest::sha256(b"x")).unwrap().is_none());
}

/// A small file system of its own, unmounted when dropped.
struct Mounted {
    dir: tempfile::TempDir,
}

impl Mounted {
    fn tmpfs(options: &str) -> Option<Self> {
        if !is_root() {
            skip("mounting a small file system needs root");
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", options, "tmpfs"])
            .arg(dir.path())
            .status()
            .is_ok_and(|status| status.success());
        if !mounted {
            skip("a small file system cannot be mounted here");
            return None;
        }
        Some(Self { dir })
    }

    fn remount(&self, options: &str) {
        let status = Command::new("mount").args(["-o", &format!("remount,{options}")]).arg(self.dir.path()).status();
        assert!(status.unwrap().success());
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.dir.path()).status();
    }
}

#[test]
fn row_67_a_full_disk_is_named_and_leaves_what_was_there() {
    for options in ["size=256k,mode=700", "size=100m,nr_inodes=24,mode=700"] {
        let Some(mount) = Mounted::tmpfs(options) else { return };
        let store = Store::with_options(mount.dir.path().join("cache"), StoreOptions::default());
        let first = artifact(b"the first one");
        first.publish_in(&store);
        let mut full = false;
        for number in 0..100_u32 {
            let bytes: Vec<u8> = (0..8_000_u32).flat_map(|at| (at ^ number).to_le_bytes()).collect();
            let artifact = artifact(&bytes);
            let brought = store.lock(&artifact.content, &mut |_| ()).and_then(|lock| {
                let mut ingest = store.ingest(&lock, artifact.expected())?;
                ingest.restart()?;
                ingest.write(&artifact.bytes)?;
                store.publish(ingest.finish()?.stage(artifact.draft())?)
            });
            match brought {
                Ok(published) => assert_eq!(bytes_of(&store, &published.entry.pin, Proof::Full), bytes),
                Err(error) => {
                    assert_eq!(*error.kind(), StoreErrorKind::NoSpace, "{options}: {error}");
                    assert!(error.hints()[0].contains("cache gc"));
                    full = true;
                    break;
                }
            }
        }
        assert!(full, "{options}");
        for pin in store.list().unwrap() {
            assert!(store.open(&pin, Proof::Full).unwrap().is_some());
        }
        assert_eq!(bytes_of(&store, &first.pin, Proof::Full), first.bytes);
        for sub in ["tmp", "partial"] {
            assert_eq!(names(&store.root().join(sub)), Vec::<String>::new(), "{options}: {sub}/");
        }
        // There is room again as soon as something goes.
        for pin in store.list().unwrap() {
            store.remove(&pin).unwrap();
        }
        first.publish_in(&store);
    }
}

#[test]
fn row_67_a_download_that_fills_the_disk_leaves_no_partial_file() {
    let Some(mount) = Mounted::tmpfs("size=256k,mode=700") else { return };
    let store = Store::with_options(mount.dir.path().join("cache"), unsynced());
    let mut ingest = store.ingest_measured(1 << 30).unwrap();
    let error = loop {
        if let Err(error) = ingest.write(&[1; 16 << 10]) {
            break error;
        }
    };
    assert_eq!(*error.kind(), StoreErrorKind::NoSpace);
    let free: u64 = error.to_string().split_once("left (").unwrap().1.split(' ').next().unwrap().parse().unwrap();
    assert!(free < 16 << 10, "what was given up afterwards is not free space: {error}");
    drop(ingest);
    assert_tidy(&store);
    let artifact = artifact(&vec![3; 200 << 10]);
    let lock = store.lock(&artifact.content, &mut |_| ()).unwrap();
    let mut ingest = store.ingest(&lock, artifact.expected()).unwrap();
    ingest.write(&artifact.bytes[..1000]).unwrap();
    fs::write(mount.dir.path().join("somebody else"), vec![0; 100 << 10]).unwrap();
    let error = ingest.write(&artifact.bytes[1000..]).unwrap_err();
    assert_eq!(*error.kind(), StoreErrorKind::NoSpace);
    assert!(error.to_string().contains("204800 bytes are needed in all"), "{error}");
}

#[test]
fn row_70_a_read_only_cache_serves_hits_and_refuses_writes() {
    let Some(mount) = Mounted::tmpfs("size=16m,mode=700") else { return };
    let store = Store::with_options(mount.dir.path().join("cache"), unsynced());
    let artifact = artifact(b"component");
    let entry = artifact.publish_in(&store).entry;
    store.remember(&greentic_dist_store::RefRecord::new("tag", artifact.pin, 1)).unwrap();
    store.quarantine_endpoint("https://m.example", Duration::from_mins(10)).unwrap();
    fs::remove_file(entry.dir.join("verified")).ok();
    mount.remount("ro");
    for proof in [Proof::Stamped, Proof::Full] {
        assert_eq!(bytes_of(&store, &artifact.pin, proof), artifact.bytes);
        assert_eq!(bytes_of(&store, &artifact.content, proof), artifact.bytes);
    }
    assert_eq!(store.recall("tag").unwrap().unwrap().pin, artifact.pin);
    assert_eq!(store.list().unwrap(), [artifact.pin]);
    assert_eq!(store.quarantined_endpoints().unwrap().len(), 1);
    assert_eq!(kind(store.quarantine_endpoint("https://n.example", Duration::ZERO)), StoreErrorKind::Permission);
    store.touch(&entry);
    assert_eq!(kind(store.try_lock(&artifact.pin)), StoreErrorKind::Permission);
    assert_eq!(kind(store.remove(&artifact.pin)), StoreErrorKind::Permission);
    assert_eq!(kind(store.gc()), StoreErrorKind::Permission);
    assert_eq!(kind(store.ingest_measured(1)), StoreErrorKind::Permission);
    mount.remount("rw");
    assert!(store.remove(&artifact.pin).unwrap().existed);
}
