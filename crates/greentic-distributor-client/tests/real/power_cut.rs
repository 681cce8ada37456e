//! The power fails: a real ext4 on a loop device is shut down without its journal's last words, mounted again, and looked at.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use greentic_dist_testkit::process::{Run, find};
use greentic_dist_testkit::real::skip_line;

use crate::machine::Machine;

/// Shuts the file system of a directory down as a power cut does: nothing more reaches the disk, the journal included.
const SHUTDOWN: &str = "import fcntl, os, struct, sys\n\
    fcntl.ioctl(os.open(sys.argv[1], os.O_RDONLY), 0x8004587d, struct.pack('I', 2))\n";

/// An ext4 of its own, mounted.
struct Disk {
    image: PathBuf,
    mount: PathBuf,
    dir: tempfile::TempDir,
}

impl Disk {
    /// `None` where this may not be done.
    fn new() -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let (image, mount) = (dir.path().join("image"), dir.path().join("mount"));
        fs::create_dir(&mount).unwrap();
        fs::File::create(&image).unwrap().set_len(128 << 20).unwrap();
        let made = Run::new("mkfs.ext4").args(["-q", "-F"]).arg(&image).output();
        let disk = Self { image, mount, dir };
        (made.code == Some(0) && disk.mount()).then_some(disk)
    }

    fn mount(&self) -> bool {
        Run::new("mount").args(["-o", "loop"]).arg(&self.image).arg(&self.mount).output().code == Some(0)
    }

    fn unmount(&self) -> bool {
        Run::new("umount").arg(&self.mount).output().code == Some(0)
    }

    /// Cuts the power.
    fn power_off(&self) {
        let cut = Run::new("python3").args(["-c", SHUTDOWN]).arg(&self.mount).output();
        assert_eq!(cut.code, Some(0), "{cut:?}");
    }

    /// Turns it on again.
    fn power_on(&self) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !self.unmount() {
            assert!(Instant::now() < deadline, "the file system stays busy");
            std::thread::sleep(Duration::from_millis(20));
        }
        assert!(self.mount());
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _already_gone = Command::new("umount").arg("-l").arg(&self.mount).status();
        assert!(self.dir.path().exists());
    }
}

/// The command on a cache of the disk.
fn on(machine: &Machine, cache: &Path, args: &[&str]) -> Run {
    machine.command(args.iter().copied()).env("GREENTIC_CACHE_DIR", cache).env("GREENTIC_CACHE_MAX_BYTES", "400000")
}

#[test]
fn row_73_after_a_power_cut_no_entry_lies_and_every_staged_bundle_is_there() {
    const TEST: &str = "row_73_after_a_power_cut_no_entry_lies_and_every_staged_bundle_is_there";
    for program in ["mkfs.ext4", "mount", "umount", "python3"] {
        if find(program).is_none() {
            return skip_line(TEST, program);
        }
    }
    let Some(disk) = Disk::new() else { return skip_line(TEST, "mount, as the superuser, of a loop device") };
    let machine = Machine::new();
    let cache = disk.mount.join("cache");
    let mut staged: Vec<String> = Vec::new();
    let mut number = 0;
    let mut artifact = || {
        number += 1;
        let path = machine.dir().join(format!("artifact-{number}"));
        fs::write(&path, format!("{number:0>20000}")).unwrap();
        path.to_str().unwrap().to_owned()
    };
    for cut in 0..5 {
        // Pulls that meet the cap, a stage now and then, and evictions, until the power fails in the middle of one.
        for round in 0..4 + cut {
            for _ in 0..3 {
                on(&machine, &cache, &["pull", &artifact()]).output().expect_code(0);
            }
            let outcome = on(&machine, &cache, &["--json", "bundle", "stage", &artifact()]).output();
            staged.push(outcome.expect_code(0).json()["cache_entry"]["digest"].as_str().unwrap().to_owned());
            if round % 2 == 1 {
                on(&machine, &cache, &["retention", "apply", "--max-bytes", "200000"]).output().expect_code(0);
            }
        }
        let (reference, delay) = (artifact(), Duration::from_millis(3 * cut));
        let started = Instant::now();
        let last = on(&machine, &cache, &["pull", &reference]).spawn();
        while started.elapsed() < delay {
            std::thread::sleep(Duration::from_micros(200));
        }
        disk.power_off();
        let _whatever_became_of_it = last.wait();
        disk.power_on();

        let verified = on(&machine, &cache, &["--json", "cache", "verify"]).output();
        verified.expect_code(0);
        assert_eq!(verified.json()["damaged"], serde_json::json!([]));
        let bundles = on(&machine, &cache, &["--json", "bundle", "ls"]).output();
        bundles.expect_code(0);
        for digest in &staged {
            assert!(bundles.says(digest), "after cut {cut} the record of {digest} is gone: {bundles:?}");
            on(&machine, &cache, &["--offline", "pull", digest]).output().expect_code(0);
        }
        on(&machine, &cache, &["cache", "gc"]).output().expect_code(0);
    }
}
