//! Lists of referrers that name what is not there any more: left out and counted. That something is unknown is never "not there".

use std::collections::HashMap;
use std::fs;
use std::sync::{Arc, Mutex};

use greentic_dist_serve::Registry;
use greentic_dist_testkit::content;
use greentic_dist_testkit::fixture::{self, Artifact, Blob, INDEX_TYPE, MANIFEST_TYPE};
use greentic_dist_testkit::{LyingServer, Response};
use greentic_distributor_client::dist::{DistError, DistErrorKind, Event, Reporter};
use greentic_distributor_client::oci::{CopyOptions, CopyReport, Place};

use serde_json::{Value, json};

use crate::copy_layouts::layout_of;
use crate::support::{Home, assert_fails, sample};

/// A registry in which one referrer of an artifact is listed and there, and another one is listed and answers with a status.
struct Stage {
    server: LyingServer,
    artifact: Artifact,
    gone: Blob,
}

/// How a registry lists what refers to a manifest.
#[derive(Clone, Copy, Debug)]
enum List {
    Api,
    Tag,
}

const LISTS: [List; 2] = [List::Api, List::Tag];

fn referring_to(subject: &Value, artifact_type: &str) -> Blob {
    fixture::artifact_manifest(artifact_type, &[], Some(subject.clone()))
}

impl Stage {
    fn new(list: List, status: u16) -> Self {
        let artifact = sample();
        let subject = artifact.descriptor();
        let [there, gone] = ["application/there", "application/gone"].map(|kind| referring_to(&subject, kind));
        let referrers = fixture::index(&[(there.descriptor(), None), (gone.descriptor(), None)]);
        let digest = artifact.manifest_digest;
        let list = match list {
            List::Api => format!("referrers/{digest}"),
            List::Tag => format!("manifests/sha256-{}", digest.to_hex()),
        };
        let manifest = (MANIFEST_TYPE.to_owned(), artifact.manifest_bytes.clone());
        let mut answers: HashMap<String, (String, Vec<u8>)> = HashMap::from([
            ("manifests/1".to_owned(), manifest.clone()),
            (format!("manifests/{digest}"), manifest),
            (format!("manifests/{}", there.digest), (there.media_type, there.bytes)),
            (list, (INDEX_TYPE.to_owned(), referrers.bytes)),
        ]);
        for blob in artifact.blobs() {
            let bytes = ("application/octet-stream".to_owned(), blob.bytes.clone());
            answers.insert(format!("blobs/{}", blob.digest), bytes);
        }
        let odd = format!("manifests/{}", gone.digest);
        let server = LyingServer::start(move |request, _| {
            let name = request.path.strip_prefix("/v2/acme/hello/").unwrap_or_default();
            match answers.get(name) {
                Some((kind, bytes)) => Response::ok(bytes.clone()).header("Content-Type", kind),
                None if name == odd && status == 200 => Response::ok("{}").header("Content-Type", MANIFEST_TYPE),
                None if name == odd => Response::oci_error(status, "UNKNOWN", "it is not to be had"),
                None => Response::oci_error(404, "MANIFEST_UNKNOWN", "manifest unknown"),
            }
        });
        Self { server, artifact, gone }
    }

    async fn copy(&self, home: &Home, to: &Place) -> (Result<CopyReport, DistError>, Vec<String>) {
        let told = Arc::new(Told::default());
        let client = home.builder().reporter(Arc::clone(&told) as _).build();
        let from = Place::parse(&format!("{}/acme/hello:1", self.server.host())).unwrap();
        let copied = client.copy(&from, to, &CopyOptions::default()).await;
        (copied, told.0.lock().unwrap().clone())
    }
}

/// The warnings that were told.
#[derive(Debug, Default)]
struct Told(Mutex<Vec<String>>);

impl Reporter for Told {
    fn event(&self, event: &Event<'_>) {
        if let Event::Warning { message } = event {
            self.0.lock().unwrap().push((*message).to_owned());
        }
    }
}

#[tokio::test]
async fn a_referrer_that_is_listed_and_not_there_any_more_is_left_out_told_and_counted() {
    for list in LISTS {
        for status in [404, 410] {
            let (stage, home) = (Stage::new(list, status), Home::new());
            let to = Registry::in_memory().start(([127, 0, 0, 1], 0).into()).unwrap();
            let (copied, told) =
                stage.copy(&home, &Place::parse(&format!("{}/acme/hello:1", to.host())).unwrap()).await;
            let report = copied.unwrap();
            assert_eq!((report.referrers, report.referrers_gone, &report.referrers_unknown), (1, 1, &None), "{list:?}");
            assert_eq!(report.digest, stage.artifact.manifest_digest.to_string());
            assert_eq!(serde_json::to_value(&report).unwrap()["referrers_gone"], 1);
            let [warning] = &told[..] else { panic!("{told:?}") };
            assert!(warning.contains("1 are listed and not there") && warning.contains(&stage.gone.digest.to_string()));
            // The destination lists the one that was copied, and no more.
            let there = Place::parse(&format!("{}/acme/hello:1", to.host())).unwrap();
            assert_eq!(home.client().describe(&there).await.unwrap().referrers.unwrap().len(), 1, "{list:?}");
        }
    }
}

#[tokio::test]
async fn a_referrer_that_is_listed_and_could_not_be_had_fails_the_copy() {
    for list in LISTS {
        for (status, kind, exit) in [
            (401, DistErrorKind::Auth, 5),
            (403, DistErrorKind::Auth, 5),
            (500, DistErrorKind::Temporary, 7),
            (503, DistErrorKind::Temporary, 7),
            (400, DistErrorKind::Internal, 10),
            (200, DistErrorKind::Integrity, 8),
        ] {
            let (stage, home) = (Stage::new(list, status), Home::new());
            let to = home.outside().join("layout");
            let (copied, told) =
                stage.copy(&home, &Place::parse(&format!("oci-layout:{}", to.display())).unwrap()).await;
            assert_fails(copied, kind, exit);
            assert!(!told.concat().contains("not there any more"), "{told:?}");
            assert!(!to.exists(), "{status}");
            assert_eq!(stage.server.journal().count_containing("/blobs/"), 0);
        }
    }
}

#[tokio::test]
async fn what_a_layout_names_as_a_signature_or_lists_as_a_referrer_and_does_not_have_is_left_out() {
    let content = content::image();
    let from = layout_of(&content);
    let (digest, subject) = (content.root.digest, content.root.descriptor());
    let (signature, referrer) = (referring_to(&subject, "application/sig"), referring_to(&subject, "application/ref"));
    let list = fixture::index(&[(referrer.descriptor(), None)]);
    fs::write(from.path().join("blobs/sha256").join(list.digest.to_hex()), &list.bytes).unwrap();
    let mut entries = vec![content.root.descriptor()];
    let named = |blob: &Blob, name: String| {
        let mut entry = blob.descriptor();
        entry["annotations"] = json!({ "org.opencontainers.image.ref.name": name });
        entry
    };
    entries[0]["annotations"] = json!({ "org.opencontainers.image.ref.name": "1" });
    entries.push(named(&signature, format!("sha256-{}.sig", digest.to_hex())));
    entries.push(named(&list, format!("sha256-{}", digest.to_hex())));
    let index = json!({ "schemaVersion": 2, "manifests": entries });
    fs::write(from.path().join("index.json"), index.to_string()).unwrap();

    let (home, told) = (Home::new(), Arc::new(Told::default()));
    let client = home.builder().reporter(Arc::clone(&told) as _).build();
    let from = Place::parse(&format!("oci-layout:{}:1", from.path().display())).unwrap();
    let to = Place::parse(&format!("oci-layout:{}", home.outside().join("layout").display())).unwrap();
    let report = client.copy(&from, &to, &CopyOptions::default()).await.unwrap();
    assert_eq!((report.referrers, report.referrers_gone, report.manifests_copied), (0, 2, 1));
    let told = told.0.lock().unwrap().concat();
    for gone in [referrer.digest.to_string(), format!("sha256-{}.sig", digest.to_hex())] {
        assert!(told.contains(&gone), "{told}");
    }
}
