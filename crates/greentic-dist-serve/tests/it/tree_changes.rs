//! A directory that changes while it is served: what is asked for is what is there.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use greentic_dist_serve::TreeLayout;
use greentic_dist_types::{Algorithm, Digest, Hasher};
use serde_json::json;

use crate::tree::{KIT, Served, pulled};
use crate::{assert_error, get};

/// Larger than what sockets hold, so that an answer nobody takes stays on its way.
const LARGE_BYTES: u64 = 64 << 20;

#[test]
fn five_thousand_files_are_listed_by_one_look_at_the_directory() {
    let served = Served::new(TreeLayout::Flat, &[("root/packs/README.md", b"")]);
    let packs = served.dir.path().join("root/packs");
    for number in 0..5_000 {
        drop(File::create(packs.join(format!("p{number:04}-1.0.0.gtpack"))).unwrap());
    }
    // One look for each of them would take longer than an answer may.
    let page = get(&served.running, "/v2/_catalog?n=2&last=packs/p4997");
    assert_eq!(page.json()["repositories"], json!(["packs/p4998", "packs/p4999"]));
    assert_eq!(get(&served.running, "/v2/packs/p4999/tags/list").json()["tags"], json!(["1.0.0"]));
    assert_eq!(pulled(&served.running, "packs/p4999", "1.0.0").1, b"");
}

#[test]
fn two_artifacts_with_the_same_content_do_not_depend_on_each_other() {
    let served = Served::flat();
    served.file("root/packs/twin-1.0.0.gtpack", KIT);
    for id in ["kit", "twin"] {
        assert_eq!(pulled(&served.running, &format!("packs/{id}"), "1.0.0").1, KIT);
    }
    for (gone, left) in [("kit", "twin"), ("twin", "kit")] {
        fs::remove_file(served.dir.path().join(format!("root/packs/{gone}-1.0.0.gtpack"))).unwrap();
        assert_eq!(pulled(&served.running, &format!("packs/{left}"), "1.0.0").1, KIT);
        served.file(&format!("root/packs/{gone}-1.0.0.gtpack"), KIT);
        assert_eq!(pulled(&served.running, &format!("packs/{gone}"), "1.0.0").1, KIT);
    }
}

#[test]
fn a_version_whose_file_is_gone_is_not_there_by_tag_nor_by_digest() {
    let served = Served::flat();
    let pin = get(&served.running, "/v2/packs/kit/manifests/1.0.0").header("docker-content-digest").to_owned();
    fs::remove_file(served.dir.path().join("root/packs/kit-1.0.0.gtpack")).unwrap();
    for reference in ["1.0.0", &pin] {
        let answer = get(&served.running, &format!("/v2/packs/kit/manifests/{reference}"));
        assert_error(&answer, 404, "MANIFEST_UNKNOWN");
    }
    for digest in [pin, Digest::sha256(KIT).to_string()] {
        assert_error(&get(&served.running, &format!("/v2/packs/kit/blobs/{digest}")), 404, "BLOB_UNKNOWN");
    }
}

#[test]
fn a_file_of_the_same_size_and_time_is_another_one() {
    let served = Served::flat();
    let place = served.dir.path().join("root/packs/kit-1.0.0.gtpack");
    let modified_at = fs::metadata(&place).unwrap().modified().unwrap();
    let set_back = || File::options().write(true).open(&place).unwrap().set_modified(modified_at).unwrap();
    assert_eq!(pulled(&served.running, "packs/kit", "1.0.0").1, KIT);
    // In place, and by another file that takes its name.
    fs::write(&place, b"PK a bark").unwrap();
    set_back();
    assert_eq!(pulled(&served.running, "packs/kit", "1.0.0").1, b"PK a bark");
    served.file("root/packs/other", b"PK a rack");
    fs::rename(served.dir.path().join("root/packs/other"), &place).unwrap();
    set_back();
    assert_eq!(pulled(&served.running, "packs/kit", "1.0.0").1, b"PK a rack");
    // The name alone tells nothing.
    let old = get(&served.running, &format!("/v2/packs/kit/blobs/{}", Digest::sha256(KIT)));
    assert_error(&old, 404, "BLOB_UNKNOWN");
}

#[test]
fn writes_within_one_tick_of_the_clock_are_seen() {
    let served = Served::flat();
    for number in 0_u8..50 {
        let bytes = [number; 9];
        served.file("root/packs/kit-1.0.0.gtpack", &bytes);
        assert_eq!(pulled(&served.running, "packs/kit", "1.0.0").1, bytes);
    }
}

/// Begins to pull a large pack and takes nothing of its content yet.
fn begun(served: &Served) -> (Digest, BufReader<TcpStream>) {
    let large = File::create(served.dir.path().join("root/packs/large-1.0.0.gtpack")).unwrap();
    large.set_len(LARGE_BYTES).unwrap();
    let manifest = get(&served.running, "/v2/packs/large/manifests/1.0.0").json();
    let digest = manifest["layers"][0]["digest"].as_str().unwrap();
    let mut stream = TcpStream::connect(served.running.addr()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let head = format!("GET /v2/packs/large/blobs/{digest} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    let mut answer = BufReader::new(stream);
    let mut line = String::new();
    while line != "\r\n" {
        line.clear();
        answer.read_line(&mut line).unwrap();
    }
    (digest.parse().unwrap(), answer)
}

/// Everything that still comes: how much, and what it hashes to.
fn rest(mut answer: impl std::io::Read) -> (u64, Digest) {
    let (mut hasher, mut size_bytes, mut piece) = (Hasher::new(Algorithm::Sha256), 0, vec![0; 256 << 10]);
    loop {
        // A cut may be a reset.
        let read = answer.read(&mut piece).unwrap_or_default();
        if read == 0 {
            return (size_bytes, hasher.finish());
        }
        hasher.update(&piece[..read]);
        size_bytes += u64::try_from(read).unwrap();
    }
}

#[test]
fn an_answer_whose_file_is_written_to_is_cut_before_a_new_byte() {
    let served = Served::flat();
    let (_, answer) = begun(&served);
    let mut large = File::options().write(true).open(served.dir.path().join("root/packs/large-1.0.0.gtpack")).unwrap();
    let modified_at = large.metadata().unwrap().modified().unwrap();
    large.seek(SeekFrom::Start(LARGE_BYTES / 2)).unwrap();
    large.write_all(b"new").unwrap();
    // Nor does a time that was set back hide it.
    large.set_modified(modified_at).unwrap();
    let (size_bytes, _) = rest(answer.take(LARGE_BYTES));
    assert!(size_bytes <= LARGE_BYTES / 2, "{size_bytes} bytes came");
}

#[test]
fn an_answer_whose_file_is_replaced_or_removed_comes_to_its_end() {
    let served = Served::flat();
    let place = served.dir.path().join("root/packs/large-1.0.0.gtpack");
    let (digest, answer) = begun(&served);
    served.file("root/packs/new", b"new");
    fs::rename(served.dir.path().join("root/packs/new"), &place).unwrap();
    assert_eq!(rest(answer), (LARGE_BYTES, digest));
    assert_eq!(pulled(&served.running, "packs/large", "1.0.0").1, b"new");
    let (digest, answer) = begun(&served);
    fs::remove_file(&place).unwrap();
    assert_eq!(rest(answer), (LARGE_BYTES, digest));
}

#[cfg(target_os = "linux")]
#[test]
fn row_81_a_file_exchanged_for_a_link_that_leads_out_serves_nothing_from_there() {
    use std::sync::atomic::{AtomicBool, Ordering};

    use rustix::fs::{CWD, RenameFlags, renameat_with};

    let served = Served::flat();
    served.file("secret", b"secret");
    let components = served.dir.path().join("root/components");
    std::os::unix::fs::symlink("../../secret", components.join("link")).unwrap();
    let (place, link, over) = (components.join("part-1.2.0.wasm"), components.join("link"), AtomicBool::new(false));
    let outside = Digest::sha256(b"secret").to_string();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                renameat_with(CWD, &place, CWD, &link, RenameFlags::EXCHANGE).unwrap();
            }
        });
        let told: Vec<String> = (0..500).map(|_| served.resolve("part", "1.2.0").text()).collect();
        over.store(true, Ordering::Relaxed);
        assert!(told.iter().all(|text| !text.contains(&outside)), "a file outside of the root was hashed");
    });
}
