//! OCI image layouts as sources and destinations: directories and archives, whole and hostile ones.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use greentic_dist_testkit::TreeSnapshot;
use greentic_dist_testkit::content::{self, Content};
use greentic_dist_testkit::fixture::{self, Blob};
use greentic_dist_types::Digest;
use greentic_distributor_client::dist::{DistError, DistErrorKind, Event, Reporter};
use greentic_distributor_client::oci::{CopyOptions, CopyReport, LayoutProblem, Place};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{Home, chain};

fn place(kind: &str, path: &Path) -> Place {
    Place::parse(&format!("{kind}:{}", path.display())).unwrap()
}

fn dir(path: &Path) -> Place {
    place("oci-layout", path)
}

fn archive(path: &Path) -> Place {
    place("oci-archive", path)
}

async fn copy(from: &Place, to: &Place) -> Result<CopyReport, DistError> {
    copy_with(from, to, &CopyOptions::default()).await
}

async fn copy_with(from: &Place, to: &Place, options: &CopyOptions) -> Result<CopyReport, DistError> {
    Home::new().client().copy(from, to, options).await
}

/// A layout with the content as `1`.
pub(crate) fn layout_of(content: &Content) -> TempDir {
    let layout = tempfile::tempdir().unwrap();
    content.write_layout(layout.path(), "1");
    layout
}

fn blob_path(layout: &Path, digest: Digest) -> PathBuf {
    layout.join("blobs").join(digest.algorithm().name()).join(digest.to_hex())
}

fn index_of(layout: &Path) -> Value {
    serde_json::from_slice(&fs::read(layout.join("index.json")).unwrap()).unwrap()
}

/// Panics unless a layout holds exactly this content.
#[track_caller]
pub(crate) fn assert_holds(layout: &Path, content: &Content) {
    let mut expected: Vec<String> = content
        .all()
        .map(|blob| format!("blobs/{}/{}", blob.digest.algorithm(), blob.digest.to_hex()))
        .chain(["index.json".to_owned(), "oci-layout".to_owned()])
        .collect();
    expected.sort();
    expected.dedup();
    assert_eq!(TreeSnapshot::of(layout).files(), expected);
    for blob in content.all() {
        assert!(fs::read(blob_path(layout, blob.digest)).unwrap() == blob.bytes, "{}", blob.digest);
    }
}

#[track_caller]
fn problem(error: &DistError) -> &LayoutProblem {
    match error {
        DistError::Layout(error) => error.problem(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn every_kind_of_content_goes_through_directories_and_archives_unchanged() {
    for (name, content) in content::kinds() {
        let from = layout_of(&content);
        let work = tempfile::tempdir().unwrap();
        let [first, second] = ["first", "second"].map(|name| work.path().join(name));
        let [tar, again] = ["a.tar", "b.tar"].map(|name| work.path().join(name));
        for (from, to) in [
            (dir(from.path()), dir(&first)),
            (dir(&first), archive(&tar)),
            (archive(&tar), dir(&second)),
            (dir(&second), archive(&again)),
        ] {
            let report = copy(&from, &to).await.unwrap_or_else(|error| panic!("{name}: {}", chain(&error)));
            assert_eq!(report.digest, content.root.digest.to_string(), "{name}");
            assert_eq!(report.manifests_copied, 1 + content.manifests.len(), "{name}");
            assert_eq!((report.blobs_present, report.blobs_mounted), (0, 0), "{name}");
            assert_eq!(report.referrers, usize::from(name.starts_with("subject")), "{name}");
            assert_eq!(report.tags, [""; 0], "{name}: no name was asked for");
        }
        assert_holds(&first, &content);
        assert_holds(&second, &content);
        assert!(fs::read(&tar).unwrap() == fs::read(&again).unwrap(), "{name}: an archive has one form");
    }
}

#[tokio::test]
async fn an_index_that_names_a_manifest_which_is_not_there_is_not_copied() {
    let content = content::sparse_index();
    let from = layout_of(&content);
    let index: Value = serde_json::from_slice(&content.root.bytes).unwrap();
    let absent = index["manifests"][1]["digest"].as_str().unwrap();
    let to = tempfile::tempdir().unwrap();
    let to = to.path().join("layout");
    let error = copy(&dir(from.path()), &dir(&to)).await.unwrap_err();
    assert_eq!(error.kind(), DistErrorKind::NotFound, "{}", chain(&error));
    assert!(chain(&error).contains(absent), "{}", chain(&error));
    assert!(!to.exists());
    // The platform that is there is copied alone.
    let report = copy_with(&dir(from.path()), &dir(&to), &only("linux/amd64")).await.unwrap();
    assert_eq!(report.digest, content.manifests[0].digest.to_string());
}

#[tokio::test]
async fn the_name_goes_along_and_can_be_another() {
    let content = content::image();
    let from = layout_of(&content);
    let to = tempfile::tempdir().unwrap();
    let to = to.path().join("layout");
    let source = Place::parse(&format!("oci-layout:{}:1", from.path().display())).unwrap();
    assert_eq!(copy(&source, &dir(&to)).await.unwrap().tags, ["1"]);
    let other = Place::parse(&format!("oci-layout:{}:2.0", to.display())).unwrap();
    let report = copy(&source, &other).await.unwrap();
    assert_eq!((report.tags, report.blobs_copied, report.blobs_present), (vec!["2.0".to_owned()], 0, 3));
    assert_eq!((report.manifests_copied, report.manifests_present, report.bytes_copied), (0, 1, 0));
    let names: Vec<_> = index_of(&to)["manifests"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["annotations"]["org.opencontainers.image.ref.name"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(names, ["1", "2.0"]);
    // Both names mean the same, so that none is needed.
    assert_eq!(copy(&dir(&to), &dir(&to)).await.unwrap().digest, content.root.digest.to_string());
    // A name that is not there is told with those that are.
    let absent = Place::parse(&format!("oci-layout:{}:3", to.display())).unwrap();
    let error = copy(&absent, &dir(&to)).await.unwrap_err();
    assert_eq!(error.kind(), DistErrorKind::NotFound);
    assert!(error.to_string().contains("it has no `3`; it has 1, 2.0"), "{error}");
}

#[tokio::test]
async fn one_platform_of_an_index_is_its_manifest_alone() {
    let content = content::nested_index();
    let from = layout_of(&content);
    let to = tempfile::tempdir().unwrap();
    let options = only("wasip1/wasm");
    let report = copy_with(&dir(from.path()), &dir(&to.path().join("layout")), &options).await.unwrap();
    let image = content.manifests.last().unwrap();
    assert_eq!((report.digest, report.manifests_copied, report.blobs_copied), (image.digest.to_string(), 1, 2));
    let options = only("plan9/mips");
    let error = copy_with(&dir(from.path()), &dir(&to.path().join("other")), &options).await.unwrap_err();
    assert!(matches!(error, DistError::Selection { .. }), "{error:?}");
    assert_eq!(error.kind(), DistErrorKind::NotFound);
    assert!(!to.path().join("other").exists());
}

fn only(platform: &str) -> CopyOptions {
    CopyOptions { platform: Some(platform.parse().unwrap()), ..CopyOptions::default() }
}

#[tokio::test]
async fn a_variant_is_copied_by_its_name_and_the_usual_one_without_it() {
    let variants = ["v5", "v6", "v7"].map(|variant| ("arm", variant));
    let content = content::variants(&[&variants[..], &[("amd64", "v2"), ("amd64", "v3")]].concat());
    let from = layout_of(&content);
    let to = tempfile::tempdir().unwrap();
    for (platform, position) in
        [("linux/arm", 2), ("linux/arm/v7", 2), ("linux/arm/v6", 1), ("linux/arm/v5", 0), ("linux/amd64/v3", 4)]
    {
        let report = copy_with(&dir(from.path()), &dir(&to.path().join("layout")), &only(platform)).await.unwrap();
        assert_eq!(report.digest, content.manifests[position].digest.to_string(), "{platform}");
    }
    for (platform, kind, said) in [
        ("linux/amd64", DistErrorKind::InvalidInput, "linux/amd64/v2, linux/amd64/v3"),
        ("linux/arm/v8", DistErrorKind::NotFound, "linux/arm/v7"),
    ] {
        let error = copy_with(&dir(from.path()), &dir(&to.path().join("layout")), &only(platform)).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{platform}: {error:?}");
        assert!(chain(&error).contains(said), "{}", chain(&error));
        assert_eq!(error.hints().is_empty(), kind == DistErrorKind::NotFound);
    }
}

#[tokio::test]
async fn what_refers_to_an_artifact_and_its_signature_tags_come_along_unless_told_otherwise() {
    let content = content::with_subject();
    let from = layout_of(&content);
    // A signature as cosign attaches it, and an unrelated image.
    let signature = content::artifact();
    let unrelated = content::no_layers();
    for other in [&signature, &unrelated] {
        for blob in other.all() {
            fs::write(blob_path(from.path(), blob.digest), &blob.bytes).unwrap();
        }
    }
    let tag = format!("sha256-{}.sig", content.root.digest.to_hex());
    let mut index = index_of(from.path());
    for (blob, name) in [(&signature.root, tag.as_str()), (&unrelated.root, "unrelated")] {
        let mut entry = blob.descriptor();
        entry["annotations"] = json!({ "org.opencontainers.image.ref.name": name });
        index["manifests"].as_array_mut().unwrap().push(entry);
    }
    fs::write(from.path().join("index.json"), index.to_string()).unwrap();
    let work = tempfile::tempdir().unwrap();
    let source = Place::parse(&format!("oci-layout:{}:1", from.path().display())).unwrap();

    let tar = work.path().join("with.tar");
    assert_eq!(copy(&source, &archive(&tar)).await.unwrap().referrers, 2);
    let with = work.path().join("with");
    assert_eq!(copy(&archive(&tar), &dir(&with)).await.unwrap().referrers, 2);
    let mut expected = content.clone();
    expected.manifests.push(signature.root.clone());
    expected.blobs.extend(signature.blobs.clone());
    assert_holds(&with, &expected);
    assert!(fs::read_to_string(with.join("index.json")).unwrap().contains(&tag));

    let without = work.path().join("without");
    let options = CopyOptions { referrers: false, ..CopyOptions::default() };
    let report = copy_with(&source, &dir(&without), &options).await.unwrap();
    assert_eq!((report.referrers, report.manifests_copied), (0, 1));
}

#[tokio::test]
async fn a_cut_copy_into_a_directory_goes_on_where_it_was_and_a_damaged_blob_is_replaced() {
    let content = content::image();
    let from = layout_of(&content);
    let work = tempfile::tempdir().unwrap();
    let to = work.path().join("layout");
    copy(&dir(from.path()), &dir(&to)).await.unwrap();
    let layer = content.blobs.iter().max_by_key(|blob| blob.bytes.len()).unwrap();
    for (left, what) in [
        (&layer.bytes[..30_000], "the beginning"),
        (&layer.bytes[..], "all of it"),
        (b"something else".as_slice(), "the beginning of something else"),
        (&[&layer.bytes[..], b"more"].concat(), "too much"),
    ] {
        fs::remove_file(blob_path(&to, layer.digest)).unwrap();
        fs::create_dir(to.join(".partial")).unwrap();
        fs::write(to.join(".partial").join(format!("sha256-{}", layer.digest.to_hex())), left).unwrap();
        let report =
            copy(&dir(from.path()), &dir(&to)).await.unwrap_or_else(|error| panic!("{what}: {}", chain(&error)));
        assert_eq!((report.blobs_copied, report.blobs_present), (1, 2), "{what}");
        assert_holds(&to, &content);
    }
    fs::write(blob_path(&to, layer.digest), vec![0; layer.bytes.len()]).unwrap();
    assert_eq!(copy(&dir(from.path()), &dir(&to)).await.unwrap().blobs_copied, 1);
    assert_holds(&to, &content);
}

#[tokio::test]
async fn what_is_left_of_a_manifest_is_never_believed() {
    let content = content::image();
    let from = layout_of(&content);
    let work = tempfile::tempdir().unwrap();
    let manifest = &content.root;
    for (at, left) in [vec![0; 100], manifest.bytes[..50].to_vec(), vec![0; 1 << 20]].iter().enumerate() {
        let to = work.path().join(at.to_string());
        copy(&dir(from.path()), &dir(&to)).await.unwrap();
        fs::remove_file(blob_path(&to, manifest.digest)).unwrap();
        fs::create_dir(to.join(".partial")).unwrap();
        fs::write(to.join(".partial").join(format!("sha256-{}", manifest.digest.to_hex())), left).unwrap();
        let copied = copy(&dir(from.path()), &dir(&to)).await;
        let report = copied.unwrap_or_else(|error| panic!("{} bytes: {}", left.len(), chain(&error)));
        assert_eq!(report.manifests_copied, 1);
        assert_holds(&to, &content);
    }
}

type Damage = fn(&Path);

#[tokio::test]
async fn a_source_that_is_damaged_leaves_no_archive_and_no_name_in_a_directory() {
    let content = content::image();
    let layer = &content.blobs[1];
    let root = content.root.digest;
    let cases: [(&str, Digest, Damage, DistErrorKind); 5] = [
        ("flipped", layer.digest, |path| flip(path), DistErrorKind::Integrity),
        ("cut", layer.digest, |path| cut(path), DistErrorKind::Integrity),
        ("longer", layer.digest, |path| grow(path), DistErrorKind::Integrity),
        ("gone", layer.digest, |path| fs::remove_file(path).unwrap(), DistErrorKind::NotFound),
        ("flipped", root, |path| flip(path), DistErrorKind::Integrity),
    ];
    for (what, digest, damage, kind) in cases {
        let from = layout_of(&content);
        damage(&blob_path(from.path(), digest));
        let work = tempfile::tempdir().unwrap();
        let (tar, layout) = (work.path().join("a.tar"), work.path().join("layout"));
        let error = copy(&dir(from.path()), &archive(&tar)).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{what}: {}", chain(&error));
        assert!(chain(&error).contains(&digest.to_string()), "{}", chain(&error));
        assert_eq!(TreeSnapshot::of(work.path()).files(), [""; 0], "{what}");
        let error = copy(&dir(from.path()), &dir(&layout)).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{what}: {}", chain(&error));
        assert!(!blob_path(&layout, digest).exists());
        if layout.exists() {
            assert_eq!(index_of(&layout)["manifests"], json!([]), "{what}");
        }
    }
}

fn flip(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    bytes[0] ^= 1;
    fs::write(path, bytes).unwrap();
}

fn cut(path: &Path) {
    let bytes = fs::read(path).unwrap();
    fs::write(path, &bytes[..bytes.len() - 1]).unwrap();
}

fn grow(path: &Path) {
    let bytes = fs::read(path).unwrap();
    fs::write(path, [bytes, vec![0]].concat()).unwrap();
}

#[tokio::test]
async fn an_archive_that_is_there_is_replaced_only_when_asked() {
    let from = layout_of(&content::image());
    let work = tempfile::tempdir().unwrap();
    let tar = work.path().join("a.tar");
    fs::write(&tar, "precious").unwrap();
    let error = copy(&dir(from.path()), &archive(&tar)).await.unwrap_err();
    assert_eq!(error.kind(), DistErrorKind::InvalidInput);
    assert!(matches!(problem(&error), LayoutProblem::Exists), "{error:?}");
    assert_eq!(fs::read(&tar).unwrap(), b"precious");
    let options = CopyOptions { replace: true, ..CopyOptions::default() };
    copy_with(&dir(from.path()), &archive(&tar), &options).await.unwrap();
    let again = work.path().join("again");
    copy(&archive(&tar), &dir(&again)).await.unwrap();
    assert_holds(&again, &content::image());
    // What is no file is never replaced.
    for odd in ["/dev/null", work.path().to_str().unwrap()] {
        let place = archive(Path::new(odd));
        let error = copy_with(&dir(from.path()), &place, &options).await.unwrap_err();
        assert_eq!(error.kind(), DistErrorKind::Policy, "{odd}: {error:?}");
    }
}

#[tokio::test]
async fn a_directory_that_is_something_else_is_left_alone() {
    let from = layout_of(&content::image());
    let work = tempfile::tempdir().unwrap();
    fs::write(work.path().join("thesis.txt"), "x").unwrap();
    let before = TreeSnapshot::of(work.path());
    let error = copy(&dir(from.path()), &dir(work.path())).await.unwrap_err();
    assert_eq!(error.kind(), DistErrorKind::InvalidInput, "{error:?}");
    assert_eq!(TreeSnapshot::of(work.path()).paths(), before.paths());
    for (marker, kind) in [
        (r#"{"imageLayoutVersion":"2.0.0"}"#.to_owned(), DistErrorKind::InvalidInput),
        ("{}".to_owned(), DistErrorKind::InvalidInput),
        ("x".repeat(100_000), DistErrorKind::InvalidInput),
    ] {
        fs::write(work.path().join("oci-layout"), marker).unwrap();
        assert_eq!(copy(&dir(from.path()), &dir(work.path())).await.unwrap_err().kind(), kind);
        assert_eq!(copy(&dir(work.path()), &archive(&work.path().join("a"))).await.unwrap_err().kind(), kind);
    }
    let nowhere = dir(&work.path().join("no/where"));
    let error = copy(&nowhere, &dir(from.path())).await.unwrap_err();
    assert!(matches!(problem(&error), LayoutProblem::Absent), "{error:?}");
    assert_eq!(error.exit_code(), 3);
}

/// Everything in a layout that could lead a reader or writer out of it.
#[tokio::test]
async fn quirk_s14_links_in_a_layout_and_hostile_archives_are_refused_and_nothing_outside_is_read_or_written() {
    let content = content::image();
    let layer = &content.blobs[1];
    let outside = tempfile::tempdir().unwrap();
    let secret = outside.path().join("secret");
    fs::write(&secret, &layer.bytes).unwrap();

    // Reading: the right bytes at the other end of a link are refused all the same.
    for linked in
        ["blobs", "blobs/sha256", "index.json", "oci-layout", &format!("blobs/sha256/{}", layer.digest.to_hex())]
    {
        let from = layout_of(&content);
        let (inside, moved) = (from.path().join(linked), outside.path().join("moved"));
        drop(fs::remove_dir_all(&moved).or_else(|_| fs::remove_file(&moved)));
        fs::rename(&inside, &moved).unwrap();
        std::os::unix::fs::symlink(&moved, &inside).unwrap();
        let work = tempfile::tempdir().unwrap();
        let error = copy(&dir(from.path()), &archive(&work.path().join("a.tar"))).await.unwrap_err();
        assert_eq!(error.kind(), DistErrorKind::Policy, "{linked}: {}", chain(&error));
        assert!(matches!(problem(&error), LayoutProblem::Refused(_)), "{linked}: {error:?}");
        assert_eq!(TreeSnapshot::of(work.path()).files(), [""; 0], "{linked}");
    }

    // A pipe in place of a blob is refused at once instead of being waited for.
    let from = layout_of(&content);
    let pipe = blob_path(from.path(), layer.digest);
    fs::remove_file(&pipe).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let error = copy(&dir(from.path()), &dir(&outside.path().join("x"))).await.unwrap_err();
    assert_eq!(error.kind(), DistErrorKind::Policy, "{error:?}");

    // Writing: a prepared directory does not lead a byte out of it.
    let from = layout_of(&content);
    let victim = outside.path().join("victim");
    for trap in ["blobs", "blobs/sha256", ".partial", "index.json", "oci-layout"] {
        let to = tempfile::tempdir().unwrap();
        content::no_layers().write_layout(to.path(), "other");
        fs::create_dir_all(&victim).unwrap();
        fs::write(outside.path().join("file"), "untouched").unwrap();
        let target =
            if trap.ends_with("json") || trap == "oci-layout" { outside.path().join("file") } else { victim.clone() };
        let inside = to.path().join(trap);
        drop(fs::remove_dir_all(&inside).or_else(|_| fs::remove_file(&inside)));
        std::os::unix::fs::symlink(&target, &inside).unwrap();
        let error = copy(&dir(from.path()), &dir(to.path())).await.unwrap_err();
        assert_eq!(error.kind(), DistErrorKind::Policy, "{trap}: {}", chain(&error));
        assert_eq!(TreeSnapshot::of(&victim).files(), [""; 0], "{trap}");
        assert_eq!(fs::read_to_string(outside.path().join("file")).unwrap(), "untouched", "{trap}");
    }
    // A file that has another name is not written through, and what is written goes elsewhere.
    let to = tempfile::tempdir().unwrap();
    content::no_layers().write_layout(to.path(), "other");
    fs::create_dir(to.path().join(".partial")).unwrap();
    let precious = outside.path().join("precious");
    fs::write(&precious, "precious").unwrap();
    fs::hard_link(&precious, to.path().join(".partial").join(format!("sha256-{}", layer.digest.to_hex()))).unwrap();
    copy(&dir(from.path()), &dir(to.path())).await.unwrap();
    assert_eq!(fs::read_to_string(&precious).unwrap(), "precious");
    assert!(fs::read(blob_path(to.path(), layer.digest)).unwrap() == layer.bytes);

    hostile_archives(&content, layer, &secret).await;
}

/// Archives that hold what a layout does not.
async fn hostile_archives(content: &Content, layer: &Blob, secret: &Path) {
    let name = format!("blobs/sha256/{}", layer.digest.to_hex());
    let secret_name = secret.to_str().unwrap();
    let twice = name.replacen('/', "//", 1);
    let traps: [(&str, Vec<Member>, DistErrorKind); 12] = [
        ("symbolic link", vec![Member::link(&name, b'2', secret_name)], DistErrorKind::Policy),
        ("hard link", vec![Member::link(&name, b'1', secret_name)], DistErrorKind::Policy),
        ("device", vec![Member::link("dev", b'3', "")], DistErrorKind::Policy),
        ("twice", vec![Member::file(&name, &layer.bytes), Member::file(&name, b"other")], DistErrorKind::Policy),
        ("other bytes", vec![Member::file(&name, b"other")], DistErrorKind::Integrity),
        ("a name that leads out", vec![Member::file("../../escaped", b"x")], DistErrorKind::Policy),
        ("an absolute name", vec![Member::file("/etc/escaped", b"x")], DistErrorKind::Policy),
        ("a name that leads up", vec![Member::file("blobs/sha256/../../up", b"x")], DistErrorKind::Policy),
        ("an index by another name", vec![Member::file("././index.json", b"{}")], DistErrorKind::Policy),
        ("an index of the root", vec![Member::file("/index.json", b"{}")], DistErrorKind::Policy),
        ("an index from below", vec![Member::file("blobs/../index.json", b"{}")], DistErrorKind::Policy),
        ("a blob by another name", vec![Member::file(&twice, b"other")], DistErrorKind::Policy),
    ];
    for (what, extra, kind) in traps {
        let work = tempfile::tempdir().unwrap();
        let layout = layout_of(content);
        let mut members = vec![
            Member::file("./oci-layout", &fs::read(layout.path().join("oci-layout")).unwrap()),
            Member::file("index.json", &fs::read(layout.path().join("index.json")).unwrap()),
        ];
        for blob in content.all().filter(|blob| blob.digest != layer.digest) {
            members.push(Member::file(&format!("blobs/sha256/{}", blob.digest.to_hex()), &blob.bytes));
        }
        members.extend(extra);
        let tar = work.path().join("a.tar");
        fs::write(&tar, members.iter().flat_map(Member::bytes).chain([0; 1024]).collect::<Vec<u8>>()).unwrap();
        let to = work.path().join("layout");
        let error = copy(&archive(&tar), &dir(&to)).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{what}: {}", chain(&error));
        assert!(!blob_path(&to, layer.digest).exists(), "{what}");
        let escaped: Vec<_> = TreeSnapshot::of(work.path())
            .files()
            .iter()
            .filter(|file| file.contains("escaped"))
            .map(ToString::to_string)
            .collect();
        assert_eq!(escaped, [""; 0], "{what}");
    }
}

/// A layout as an archive, written by other code than the client's.
pub(crate) fn archived(layout: &Path) -> Vec<u8> {
    let snapshot = TreeSnapshot::of(layout);
    let members = snapshot.files().into_iter().map(|name| Member::file(name, &fs::read(layout.join(name)).unwrap()));
    members.flat_map(|member| member.bytes()).chain([0; 1024]).collect()
}

/// A member of a tar archive, written by other code than the client's.
struct Member {
    name: String,
    kind: u8,
    link: String,
    content: Vec<u8>,
}

impl Member {
    fn file(name: &str, content: &[u8]) -> Self {
        Self { name: name.to_owned(), kind: b'0', link: String::new(), content: content.to_vec() }
    }

    fn link(name: &str, kind: u8, link: &str) -> Self {
        Self { name: name.to_owned(), kind, link: link.to_owned(), content: Vec::new() }
    }

    fn bytes(&self) -> Vec<u8> {
        let mut header = vec![0_u8; 512];
        header[..self.name.len()].copy_from_slice(self.name.as_bytes());
        header[100..107].copy_from_slice(b"0000777");
        header[124..135].copy_from_slice(format!("{:011o}", self.content.len()).as_bytes());
        header[148..156].fill(b' ');
        header[156] = self.kind;
        header[157..157 + self.link.len()].copy_from_slice(self.link.as_bytes());
        header[257..265].copy_from_slice(b"ustar\x0000");
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..154].copy_from_slice(format!("{sum:06o}").as_bytes());
        header[154] = 0;
        header.extend(&self.content);
        header.resize(header.len().next_multiple_of(512), 0);
        header
    }
}

#[tokio::test]
async fn memory_and_files_stay_small_when_an_index_lies() {
    let content = content::image();
    for (what, change) in [
        ("a huge size", json!({ "size": u64::MAX })),
        ("a wrong size", json!({ "size": 1 })),
        ("an unknown digest", json!({ "digest": Digest::sha256(b"unknown").to_string() })),
        ("a digest that is a path", json!({ "digest": "sha256:../../../etc/passwd" })),
    ] {
        let from = layout_of(&content);
        let mut index = index_of(from.path());
        for (key, value) in change.as_object().unwrap() {
            index["manifests"][0][key] = value.clone();
        }
        fs::write(from.path().join("index.json"), index.to_string()).unwrap();
        let work = tempfile::tempdir().unwrap();
        let error = copy(&dir(from.path()), &archive(&work.path().join("a.tar"))).await.unwrap_err();
        assert_ne!(error.exit_code(), 0, "{what}");
        assert!(matches!(error, DistError::Layout(_)), "{what}: {error:?}");
        assert_eq!(TreeSnapshot::of(work.path()).files(), [""; 0], "{what}");
    }
}

/// A layout whose image `1` has so many referrers, each an entry of its index.
fn layout_with_referrers(count: usize) -> (TempDir, Content) {
    let mut content = content::no_layers();
    let config = content.blobs[0].descriptor();
    for number in 0..count {
        let referrer = json!({
            "schemaVersion": 2, "mediaType": content.root.media_type, "config": config, "layers": [],
            "subject": content.root.descriptor(), "annotations": { "n": number.to_string() },
        });
        content.manifests.push(Blob::new(&content.root.media_type, referrer.to_string()));
    }
    (layout_of(&content), content)
}

#[tokio::test]
async fn layouts_with_more_entries_than_a_manifest_may_have_are_read_and_added_to() {
    let (from, content) = layout_with_referrers(1_100);
    let work = tempfile::tempdir().unwrap();
    let (tar, out) = (work.path().join("x.tar"), work.path().join("out"));
    let named = |name: &str| Place::parse(&format!("oci-layout:{}:{name}", out.display())).unwrap();
    for (from, to) in [(dir(from.path()), archive(&tar)), (archive(&tar), named("1"))] {
        let report = copy(&from, &to).await.unwrap_or_else(|error| panic!("{}", chain(&error)));
        assert_eq!((report.manifests_copied, report.referrers), (1_101, 1_100));
    }
    assert_holds(&out, &content);
    assert_eq!(index_of(&out)["manifests"].as_array().unwrap().len(), 1_101);
    // One more, and everything is still there.
    let more = layout_of(&content::image());
    copy(&dir(more.path()), &named("more")).await.unwrap();
    assert_eq!(index_of(&out)["manifests"].as_array().unwrap().len(), 1_102);
    let alone = CopyOptions { referrers: false, ..CopyOptions::default() };
    for (name, root) in [("1", content.root.digest), ("more", content::image().root.digest)] {
        let to = dir(&work.path().join(name));
        assert_eq!(copy_with(&named(name), &to, &alone).await.unwrap().digest, root.to_string());
    }
}

#[tokio::test]
async fn a_layout_that_is_full_is_left_as_it_is_and_still_read() {
    let content = content::no_layers();
    let full = layout_of(&content);
    let mut index = index_of(full.path());
    let mut entries = index["manifests"].as_array().unwrap().clone();
    let other = Blob::new("application/x-other", "other").descriptor();
    entries.resize(99_999, other);
    index["manifests"] = entries.into();
    fs::write(full.path().join("index.json"), index.to_string()).unwrap();
    let named = |name: &str| Place::parse(&format!("oci-layout:{}:{name}", full.path().display())).unwrap();
    let alone = CopyOptions { referrers: false, ..CopyOptions::default() };
    let more = layout_of(&content::empty_blob());
    copy_with(&dir(more.path()), &named("last"), &alone).await.unwrap();
    let before = TreeSnapshot::of(full.path());
    let error = copy_with(&dir(layout_of(&content::image()).path()), &named("more"), &alone).await.unwrap_err();
    assert!(matches!(problem(&error), LayoutProblem::Full { limit: 100_000, .. }), "{error:?}");
    assert_eq!((error.kind(), error.exit_code()), (DistErrorKind::InvalidInput, 2));
    assert!(error.hints().iter().any(|hint| hint.contains("another directory")), "{:?}", error.hints());
    assert_eq!(TreeSnapshot::of(full.path()), before);
    let out = tempfile::tempdir().unwrap();
    let copied = copy_with(&named("1"), &dir(&out.path().join("out")), &alone).await.unwrap();
    assert_eq!(copied.digest, content.root.digest.to_string());
    // More than anybody reads is refused, and not mistaken for an empty index.
    fs::write(full.path().join("index.json"), " ".repeat((64 << 20) + 1)).unwrap();
    for error in [
        copy_with(&named("1"), &dir(&out.path().join("other")), &alone).await.unwrap_err(),
        copy_with(&dir(more.path()), &named("more"), &alone).await.unwrap_err(),
    ] {
        assert!(error.to_string().contains("`index.json` is larger than 67108864 bytes"), "{error}");
    }
}

#[tokio::test]
async fn partial_blobs_that_nobody_went_on_with_for_a_week_are_removed_by_the_next_copy() {
    let content = content::image();
    let from = layout_of(&content);
    let to = tempfile::tempdir().unwrap();
    let to = to.path().join("layout");
    copy(&dir(from.path()), &dir(&to)).await.unwrap();
    let partial = to.join(".partial");
    fs::create_dir(&partial).unwrap();
    let name = |seed: &str| format!("sha256-{}", Digest::sha256(seed.as_bytes()).to_hex());
    let (old, new, held) = (name("old"), name("new"), name("held"));
    let own = format!("{old}.4711-0");
    let day = std::time::Duration::from_hours(24);
    let now = std::time::SystemTime::now();
    let mut files = Vec::new();
    for (name, days) in [(&*old, 8), (&own, 8), (&new, 6), (&held, 8), ("notes.txt", 8), ("sha256-x", 8)] {
        let file = fs::File::create(partial.join(name)).unwrap();
        file.set_modified(now - day * days).unwrap();
        files.push((name.to_owned(), file));
    }
    files.retain(|(name, _)| *name == held);
    files[0].1.lock().unwrap();
    copy(&dir(from.path()), &dir(&to)).await.unwrap();
    let mut expected = vec![&*new, &held, "notes.txt", "sha256-x"];
    expected.sort_unstable();
    assert_eq!(TreeSnapshot::of(&partial).files(), expected);
    // And when nobody holds it any more.
    drop(files);
    copy(&dir(from.path()), &dir(&to)).await.unwrap();
    assert!(!partial.join(&held).exists() && partial.join(&new).exists());
}

#[cfg(unix)]
#[tokio::test]
async fn what_killed_processes_left_of_an_archive_is_removed_by_the_next_copy_to_its_name() {
    let content = content::image();
    let from = layout_of(&content);
    let to = tempfile::tempdir().unwrap();
    let unique = "0123456789abcdef";
    let left = format!(".hello.tar.{unique}.oci-archive.tmp");
    let held = ".hello.tar.1111111111111111.oci-archive.tmp";
    let new = ".hello.tar.2222222222222222.oci-archive.tmp";
    let linked = ".hello.tar.3333333333333333.oci-archive.tmp";
    let others = [
        // Somebody's: a date and a number, and what else is not exactly a name that this client gives.
        "hello.tar.20251122-1.tmp",
        "hello.tar.1-0.tmp",
        &format!("hello.tar.{unique}.oci-archive.tmp"),
        &format!(".other.tar.{unique}.oci-archive.tmp"),
        &format!(".hello.tar.{unique}.tmp"),
        &format!(".hello.tar.{unique}0.oci-archive.tmp"),
        ".hello.tar.0123456789ABCDEF.oci-archive.tmp",
        held,
        new,
        linked,
    ];
    let past = std::time::SystemTime::now() - std::time::Duration::from_hours(1);
    for name in others.iter().copied().chain([&*left]) {
        fs::write(to.path().join(name), "mine").unwrap();
        if name != new {
            fs::File::options().write(true).open(to.path().join(name)).unwrap().set_modified(past).unwrap();
        }
    }
    fs::hard_link(to.path().join(linked), to.path().join("kept")).unwrap();
    let odd = ".hello.tar.4444444444444444.oci-archive.tmp";
    std::os::unix::fs::symlink("kept", to.path().join(odd)).unwrap();
    let holder = fs::File::open(to.path().join(held)).unwrap();
    holder.lock().unwrap();
    copy(&dir(from.path()), &archive(&to.path().join("hello.tar"))).await.unwrap();
    let mut expected: Vec<&str> = others.iter().copied().chain(["hello.tar", "kept", odd]).collect();
    expected.sort_unstable();
    let mut names: Vec<String> =
        fs::read_dir(to.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort_unstable();
    assert_eq!(names, expected);
    for name in others {
        assert_eq!(fs::read(to.path().join(name)).unwrap(), b"mine", "{name}");
    }
}

/// What was told about blobs of one size: begun, finished, failed.
#[derive(Debug, Default)]
struct Told {
    size_bytes: u64,
    begun: Mutex<Vec<String>>,
    finished: AtomicUsize,
    failed: Mutex<Vec<String>>,
}

impl Reporter for Told {
    fn event(&self, event: &Event<'_>) {
        match event {
            Event::Started { reference, total_bytes, .. } if *total_bytes == Some(self.size_bytes) => {
                self.begun.lock().unwrap().push((*reference).to_owned());
            }
            Event::Finished { bytes, .. } if *bytes == self.size_bytes => {
                self.finished.fetch_add(1, Ordering::Relaxed);
            }
            Event::Failed { reference } => self.failed.lock().unwrap().push((*reference).to_owned()),
            _ => {}
        }
    }
}

#[tokio::test]
async fn a_blob_for_an_archive_that_nobody_writes_any_more_is_never_told_as_finished() {
    // More than what is on its way at a time: the sender learns that nobody takes it.
    let artifact = fixture::artifact("application/wasm", fixture::random_bytes(5, 8 << 20));
    let work = tempfile::tempdir().unwrap();
    fixture::oci_layout(&work.path().join("from"), &[artifact], "1");
    let out = work.path().join("out.tar");
    fs::write(&out, "mine").unwrap();
    let told = Arc::new(Told { size_bytes: 8 << 20, ..Told::default() });
    let home = Home::new();
    let client = home.builder().reporter(Arc::clone(&told) as _).build();
    let error =
        client.copy(&dir(&work.path().join("from")), &archive(&out), &CopyOptions::default()).await.unwrap_err();
    assert!(matches!(problem(&error), LayoutProblem::Exists), "{error:?}");
    assert_eq!(told.finished.load(Ordering::Relaxed), 0);
    let failed = told.failed.lock().unwrap();
    assert!(told.begun.lock().unwrap().iter().all(|begun| failed.contains(begun)), "{failed:?}");
    assert_eq!(fs::read(&out).unwrap(), b"mine");
}
