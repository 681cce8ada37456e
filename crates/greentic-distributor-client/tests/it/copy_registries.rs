//! Registries as sources and destinations of a copy, with the requests each copy costs.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex};

use greentic_dist_serve::{Registry, RunningRegistry};
use greentic_dist_testkit::content::{self, Content};
use greentic_dist_testkit::fixture::{self, Blob, WASM_TYPE, random_bytes};
use greentic_dist_types::Digest;
use greentic_distributor_client::dist::{DistError, DistErrorKind, Event, Reporter};
use greentic_distributor_client::oci::{BytesSource, CopyOptions, CopyReport, Place, Reference};

use crate::copy_layouts::{assert_holds, layout_of};
use crate::support::{Home, chain};

fn registry() -> RunningRegistry {
    Registry::in_memory().start(([127, 0, 0, 1], 0).into()).unwrap()
}

fn at(host: &str, name: &str) -> Place {
    Place::parse(&format!("{host}/{name}")).unwrap()
}

fn dir(path: &Path) -> Place {
    Place::parse(&format!("oci-layout:{}", path.display())).unwrap()
}

async fn copy(from: &Place, to: &Place) -> Result<CopyReport, DistError> {
    Home::new().client().copy(from, to, &CopyOptions::default()).await
}

/// What a registry was asked after its first `already` requests: `METHOD path status`, digests and sessions cut short.
fn asked(registry: &RunningRegistry, already: usize) -> Vec<String> {
    let journal = registry.journal();
    let mut lines: Vec<String> =
        journal[already..].iter().map(|one| format!("{} {}", one.line(), one.status)).collect();
    lines.sort();
    lines
}

#[tokio::test]
async fn every_kind_of_content_goes_into_a_registry_across_it_and_out_unchanged() {
    for (name, content) in content::kinds() {
        let from = layout_of(&content);
        let (one, other) = (registry(), registry());
        let out = tempfile::tempdir().unwrap();
        let out = out.path().join("layout");
        for (from, to) in [
            (dir(from.path()), at(&one.host(), "acme/hello:1")),
            (at(&one.host(), "acme/hello:1"), at(&one.host(), "mirror/hello:2")),
            (at(&one.host(), "mirror/hello:2"), at(&other.host(), "acme/hello")),
            (at(&other.host(), "acme/hello:2"), dir(&out)),
        ] {
            let report = copy(&from, &to).await.unwrap_or_else(|error| panic!("{name}: {}", chain(&error)));
            assert_eq!(report.digest, content.root.digest.to_string(), "{name}");
            assert_eq!(report.manifests_copied, 1 + content.manifests.len(), "{name}");
            assert_eq!(report.referrers, usize::from(name.starts_with("subject")), "{name}");
        }
        assert_holds(&out, &content);
    }
}

#[tokio::test]
async fn a_second_copy_asks_for_manifests_only_and_a_copy_inside_a_registry_moves_no_byte() {
    let content = content::image();
    let from = layout_of(&content);
    let registry = registry();
    let (there, source) = (at(&registry.host(), "acme/hello:1"), dir(from.path()));
    let report = copy(&source, &there).await.unwrap();
    assert_eq!((report.blobs_copied, report.blobs_present, report.manifests_copied), (3, 0, 1));
    let digest = content.root.digest;

    let already = registry.journal().len();
    let report = copy(&source, &there).await.unwrap();
    assert_eq!((report.blobs_copied, report.blobs_present, report.manifests_present), (0, 3, 1));
    assert_eq!(asked(&registry, already), ["HEAD /v2/acme/hello/manifests/1 200"]);

    let already = registry.journal().len();
    copy(&source, &at(&registry.host(), "acme/hello:2")).await.unwrap();
    let layer = content.blobs[1].digest;
    assert_eq!(
        asked(&registry, already),
        [
            format!("HEAD /v2/acme/hello/blobs/{layer} 200"),
            "HEAD /v2/acme/hello/manifests/2 404".to_owned(),
            format!("HEAD /v2/acme/hello/manifests/{digest} 200"),
            "PUT /v2/acme/hello/manifests/2 201".to_owned(),
        ]
    );

    let already = registry.journal().len();
    let report = copy(&there, &at(&registry.host(), "other/name:1")).await.unwrap();
    assert_eq!((report.blobs_mounted, report.blobs_copied, report.bytes_copied), (3, 0, 0));
    let lines = asked(&registry, already);
    let mount = |digest| format!("POST /v2/other/name/blobs/uploads/?mount={digest}&from=acme/hello 201");
    let mut expected: Vec<String> = blobs(&content).iter().map(mount).collect();
    expected.extend([
        "HEAD /v2/other/name/manifests/1 404".to_owned(),
        format!("HEAD /v2/other/name/manifests/{digest} 404"),
        "PUT /v2/other/name/manifests/1 201".to_owned(),
    ]);
    expected.sort();
    let written: Vec<&String> = lines.iter().filter(|line| !line.starts_with("GET ")).collect();
    assert_eq!(written, expected.iter().collect::<Vec<_>>(), "one request for each blob, and three");

    // A further tag over there costs no question about a blob.
    let already = registry.journal().len();
    let report = copy(&there, &at(&registry.host(), "other/name:2")).await.unwrap();
    assert_eq!((report.blobs_mounted, report.blobs_present, report.manifests_present), (0, 3, 1));
    let lines = asked(&registry, already);
    assert_eq!(
        lines.iter().filter(|line| !line.starts_with("GET ")).collect::<Vec<_>>(),
        [
            "HEAD /v2/other/name/manifests/2 404",
            &format!("HEAD /v2/other/name/manifests/{digest} 200"),
            "PUT /v2/other/name/manifests/2 201",
        ]
    );
}

/// Writes down what becomes of blobs that are not transferred, and counts the transfers.
#[derive(Default)]
struct Told(Mutex<Vec<String>>);

impl Reporter for Told {
    fn event(&self, event: &Event<'_>) {
        let line = match event {
            Event::Skipped { reference, reason } => format!("{reference} skipped: {reason:?}"),
            Event::Mounted { reference, from } => format!("{reference} mounted from {from}"),
            Event::Finished { reference, .. } => format!("{reference} finished"),
            _ => return,
        };
        self.0.lock().unwrap().push(line);
    }
}

#[tokio::test]
async fn blobs_that_are_not_transferred_are_told_with_the_reason_and_nothing_else() {
    let content = content::image();
    let from = layout_of(&content);
    let (registry, other, told) = (registry(), registry(), Arc::new(Told::default()));
    let home = Home::new();
    let client = home.builder().reporter(Arc::<Told>::clone(&told)).build();
    let work = tempfile::tempdir().unwrap();
    let layout = dir(&work.path().join("layout"));
    let (source, there) = (dir(from.path()), at(&registry.host(), "acme/hello:1"));
    let elsewhere = at(&registry.host(), "other/name:1");
    // A registry that has one layer of a manifest, and not the manifest.
    let probed = content.blobs.last().unwrap();
    let begun = at(&other.host(), "begun/name:1");
    let name = Reference::parse(&format!("{}/begun/name", other.host())).unwrap();
    let repository = client.oci().unwrap().repository(&name);
    repository.put_blob(Arc::new(BytesSource::new(&*probed.media_type, probed.bytes.clone()))).send().await.unwrap();
    for (from, to, expected) in [
        (&source, &there, "finished"),
        (&source, &there, "skipped: ManifestPresent"),
        (&there, &elsewhere, "mounted from acme/hello"),
        (&source, &layout, "finished"),
        (&source, &layout, "skipped: Present"),
    ] {
        client.copy(from, to, &CopyOptions::default()).await.unwrap();
        let lines = std::mem::take(&mut *told.0.lock().unwrap());
        assert_eq!(lines.len(), blobs(&content).len(), "{to}: {lines:#?}");
        assert!(lines.iter().all(|line| line.ends_with(expected)), "{to}: {lines:#?}");
    }
    client.copy(&source, &begun, &CopyOptions::default()).await.unwrap();
    let lines = std::mem::take(&mut *told.0.lock().unwrap());
    let skipped: Vec<&String> = lines.iter().filter(|line| line.ends_with("skipped: Present")).collect();
    assert_eq!((lines.len(), skipped.len()), (blobs(&content).len(), 1), "{lines:#?}");
    assert!(skipped[0].starts_with(&probed.digest.to_string()[..19]), "{skipped:?}");
}

/// Each blob once.
fn blobs(content: &Content) -> BTreeSet<Digest> {
    content.blobs.iter().map(|blob| blob.digest).collect()
}

#[tokio::test]
async fn a_copy_between_registries_costs_one_read_and_three_writes_for_each_blob_and_two_for_the_manifest() {
    let content = content::image();
    let (from, to) = (registry(), registry());
    copy(&dir(layout_of(&content).path()), &at(&from.host(), "acme/hello:1")).await.unwrap();
    let options = CopyOptions { referrers: false, ..CopyOptions::default() };
    let already = from.journal().len();
    let (source, home) = (at(&from.host(), "acme/hello:1"), Home::new());
    home.client().copy(&source, &at(&to.host(), "acme/hello:1"), &options).await.unwrap();
    let mut reads: Vec<String> =
        blobs(&content).iter().map(|digest| format!("GET /v2/acme/hello/blobs/{digest} 200")).collect();
    reads.push("GET /v2/acme/hello/manifests/1 200".to_owned());
    reads.sort();
    assert_eq!(asked(&from, already), reads);
    let (writes, blobs) = (asked(&to, 0), blobs(&content).len());
    let count = |start: &str| writes.iter().filter(|line| line.starts_with(start)).count();
    assert_eq!(writes.len(), 3 * blobs + 1, "{writes:#?}");
    assert_eq!(
        (
            count("HEAD /v2/acme/hello/manifests/1 404"),
            count("HEAD /v2/acme/hello/blobs/"),
            count("POST "),
            count("PUT ")
        ),
        (1, blobs - 1, blobs, blobs + 1)
    );

    // Again: one question on each side.
    let already = (from.journal().len(), to.journal().len());
    home.client().copy(&source, &at(&to.host(), "acme/hello:1"), &options).await.unwrap();
    assert_eq!(asked(&from, already.0), ["GET /v2/acme/hello/manifests/1 200"]);
    assert_eq!(asked(&to, already.1), ["HEAD /v2/acme/hello/manifests/1 200"]);

    let already = to.journal().len();
    let options = CopyOptions { assume_missing: true, ..options };
    home.client().copy(&source, &at(&to.host(), "other/hello:1"), &options).await.unwrap();
    let writes = asked(&to, already);
    assert_eq!(writes.len(), 2 * blobs + 1, "{writes:#?}");
    assert!(!writes.iter().any(|line| line.starts_with("HEAD")), "{writes:#?}");
}

#[tokio::test]
async fn a_copy_of_an_index_asks_one_question_for_each_manifest_and_one_for_each_layer() {
    let content = content::index();
    let from = layout_of(&content);
    let (registry, manifests, blobs) = (registry(), content.manifests.len(), blobs(&content).len());
    let to = at(&registry.host(), "acme/hello:1");
    copy(&dir(from.path()), &to).await.unwrap();
    let lines = asked(&registry, 0);
    let count = |start: &str| lines.iter().filter(|line| line.starts_with(start)).count();
    assert_eq!(count("HEAD /v2/acme/hello/manifests/"), manifests + 1, "{lines:#?}");
    assert_eq!(count("PUT /v2/acme/hello/manifests/"), manifests + 1, "{lines:#?}");
    assert_eq!(count("POST "), blobs, "{lines:#?}");
    let already = registry.journal().len();
    copy(&dir(from.path()), &to).await.unwrap();
    let again = asked(&registry, already);
    assert_eq!(again.len(), manifests + 1, "{again:#?}");
    assert!(again.iter().all(|line| line.starts_with("HEAD ") && line.ends_with(" 200")), "{again:#?}");
}

#[tokio::test]
async fn a_destination_digest_must_be_the_artifacts() {
    let content = content::image();
    let from = layout_of(&content);
    let registry = registry();
    let wrong = at(&registry.host(), &format!("acme/hello@{}", content.blobs[0].digest));
    let error = copy(&dir(from.path()), &wrong).await.unwrap_err();
    assert_eq!(error.kind(), DistErrorKind::InvalidInput, "{error:?}");
    assert_eq!(registry.requests(), 0);
    let right = at(&registry.host(), &format!("acme/hello@{}", content.root.digest));
    assert_eq!(copy(&dir(from.path()), &right).await.unwrap().tags, [""; 0]);
}

#[tokio::test]
async fn offline_a_registry_is_not_asked_and_layouts_are() {
    let from = layout_of(&content::image());
    let registry = registry();
    let home = Home::new();
    let to = at(&registry.host(), "acme/hello:1");
    let error = home.offline().copy(&dir(from.path()), &to, &CopyOptions::default()).await.unwrap_err();
    assert_eq!(error.exit_code(), 4, "{error:?}");
    let error = home.offline().copy(&to, &dir(from.path()), &CopyOptions::default()).await.unwrap_err();
    assert_eq!(error.exit_code(), 4, "{error:?}");
    assert_eq!(registry.requests(), 0);
    let out = tempfile::tempdir().unwrap();
    let out = dir(&out.path().join("layout"));
    home.offline().copy(&dir(from.path()), &out, &CopyOptions::default()).await.unwrap();
}

#[tokio::test]
async fn what_is_missing_at_the_source_ends_the_copy_before_a_tag_is_set() {
    let content = content::index();
    let from = layout_of(&content);
    let child = content.manifests[1].digest;
    std::fs::remove_file(from.path().join("blobs/sha256").join(child.to_hex())).unwrap();
    let registry = registry();
    let error = copy(&dir(from.path()), &at(&registry.host(), "acme/hello:1")).await.unwrap_err();
    assert_eq!(error.kind(), DistErrorKind::NotFound, "{error:?}");
    assert_eq!(registry.requests(), 0, "the graph is known before anything is sent");
    let whole: Content = content::image();
    let from = layout_of(&whole);
    std::fs::write(from.path().join("blobs/sha256").join(whole.blobs[1].digest.to_hex()), "wrong").unwrap();
    let error = copy(&dir(from.path()), &at(&registry.host(), "acme/hello:1")).await.unwrap_err();
    assert_eq!(error.kind(), DistErrorKind::Integrity, "{}", chain(&error));
    assert!(!asked(&registry, 0).iter().any(|line| line.starts_with("PUT /v2/acme/hello/manifests")));
}

#[tokio::test]
async fn a_copy_of_three_layers_reads_five_times_and_nine_times_with_what_may_refer_to_it() {
    let layers = (1..=3).map(|seed| Blob::new(WASM_TYPE, random_bytes(seed, 1_000))).collect();
    let artifact = fixture::artifact_of(layers, &[]);
    let registry = fixture::served(&artifact);
    let from = at(&registry.host(), "acme/hello:1");
    let work = tempfile::tempdir().unwrap();
    let already = registry.journal().len();
    let alone = CopyOptions { referrers: false, ..CopyOptions::default() };
    Home::new().client().copy(&from, &dir(&work.path().join("alone")), &alone).await.unwrap();
    let mut five: Vec<String> =
        artifact.blobs().map(|blob| format!("GET /v2/acme/hello/blobs/{} 200", blob.digest)).collect();
    five.push("GET /v2/acme/hello/manifests/1 200".to_owned());
    five.sort();
    assert_eq!((asked(&registry, already), five.len()), (five.clone(), 5));

    let already = registry.journal().len();
    copy(&from, &dir(&work.path().join("default"))).await.unwrap();
    let mut nine = five;
    let digest = artifact.manifest_digest;
    nine.push(format!("GET /v2/acme/hello/referrers/{digest} 200"));
    let attached = |kind| format!("GET /v2/acme/hello/manifests/sha256-{}.{kind} 404", digest.to_hex());
    nine.extend(["sig", "att", "sbom"].map(attached));
    nine.sort();
    assert_eq!((asked(&registry, already), nine.len()), (nine.clone(), 9));
}
