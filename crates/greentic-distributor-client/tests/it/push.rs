//! Files that become artifacts: what is written about them, and what pushing them costs.

use std::fs;
use std::path::PathBuf;

use greentic_dist_serve::{Registry, RunningRegistry};
use greentic_dist_testkit::fixture;
use greentic_dist_types::Digest;
use greentic_distributor_client::dist::{DistError, DistErrorKind};
use greentic_distributor_client::oci::{CopyOptions, Place, PushKind, PushOptions, PushReport, parse_created};
use serde_json::{Value, json};

use crate::support::{Home, chain};

/// The files that are pushed, in a directory of their own.
struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    }

    fn component(&self) -> PathBuf {
        self.write("hello.wasm", fixture::component_bytes())
    }
}

fn registry() -> RunningRegistry {
    Registry::in_memory().start(([127, 0, 0, 1], 0).into()).unwrap()
}

fn at(registry: &RunningRegistry, name: &str) -> Place {
    Place::parse(&format!("{}/{name}", registry.host())).unwrap()
}

async fn push(file: &std::path::Path, to: &Place, options: &PushOptions) -> Result<PushReport, DistError> {
    Home::new().client().push(file, to, options).await
}

fn dry() -> PushOptions {
    PushOptions { dry_run: true, ..PushOptions::default() }
}

async fn planned(file: &std::path::Path, options: &PushOptions) -> PushReport {
    let to = Place::parse("localhost:1/acme/hello:1").unwrap();
    push(file, &to, options).await.unwrap_or_else(|error| panic!("{}", chain(&error)))
}

fn asked(registry: &RunningRegistry, already: usize) -> Vec<String> {
    let session = |path: &str| path.split_once("/uploads/").map(|(start, _)| format!("{start}/uploads/…"));
    let mut lines: Vec<String> = registry.journal()[already..]
        .iter()
        .map(|one| {
            let line = one.line();
            format!("{} {}", session(&line).unwrap_or(line), one.status)
        })
        .collect();
    lines.sort();
    lines
}

#[tokio::test]
async fn a_component_is_written_as_the_ecosystem_reads_it_and_pulled_again() {
    let (files, registry, home) = (Files::new(), registry(), Home::new());
    let report = push(&files.component(), &at(&registry, "acme/hello:1"), &PushOptions::default()).await.unwrap();
    let content = Digest::sha256(fixture::component_bytes());
    let config = json!({
        "architecture": "wasm",
        "component": { "exports": ["greet", "answer"], "imports": [], "target": null },
        "created": "1970-01-01T00:00:00Z",
        "layerDigests": [content.to_string()],
        "os": "wasip2",
    });
    assert_eq!(report.config, config);
    let config_bytes = config.to_string().into_bytes();
    assert_eq!(
        report.manifest,
        json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {
                "mediaType": "application/vnd.wasm.config.v0+json",
                "digest": Digest::sha256(&config_bytes).to_string(),
                "size": config_bytes.len(),
            },
            "layers": [{
                "mediaType": "application/wasm",
                "digest": content.to_string(),
                "size": fixture::component_bytes().len(),
            }],
        })
    );
    assert_eq!(report.digest, Digest::sha256(report.manifest.to_string().as_bytes()).to_string(), "keys are sorted");
    assert_eq!((report.kind, report.existed, report.blobs_copied), (PushKind::Component, false, 2));
    assert_eq!(report.pinned, format!("oci://{}/acme/hello@{}", registry.host(), report.digest));
    for reference in [format!("{}/acme/hello:1", registry.host()), report.pinned.clone()] {
        let artifact = home.client().resolve_ref(&reference).await.unwrap();
        assert_eq!(artifact.digest, report.digest);
        assert_eq!(fs::read(&artifact.local_path).unwrap(), fixture::component_bytes());
    }
}

/// The requests that bring one blob, with or without the question before them.
fn sent(repository: &str, asked: Option<&str>) -> Vec<String> {
    let question = asked.map(|digest| format!("HEAD /v2/{repository}/blobs/{digest} 404"));
    let bytes = ["POST", "PUT"].into_iter().zip([202, 201]);
    let bytes = bytes.map(|(method, status)| format!("{method} /v2/{repository}/blobs/uploads/… {status}"));
    question.into_iter().chain(bytes).collect()
}

fn sorted(lines: impl IntoIterator<Item = Vec<String>>) -> Vec<String> {
    let mut lines = lines.into_iter().flatten().collect::<Vec<_>>();
    lines.sort();
    lines
}

#[tokio::test]
async fn a_first_push_costs_three_requests_for_each_blob_and_one_more_and_a_second_push_one() {
    let (files, registry) = (Files::new(), registry());
    let pack = files.write("p.bin", b"PK\x03\x04 and so on");
    for (file, name) in [(files.component(), "acme/hello"), (pack, "acme/pack")] {
        let already = registry.journal().len();
        let to = at(&registry, &format!("{name}:1"));
        let report = push(&file, &to, &PushOptions::default()).await.unwrap();
        let (layer, pin) = (report.content_digest.clone(), report.digest.clone());
        let expected = sorted([
            vec![format!("HEAD /v2/{name}/manifests/1 404"), format!("PUT /v2/{name}/manifests/1 201")],
            sent(name, Some(&layer)),
            sent(name, None),
        ]);
        assert_eq!(expected.len(), 3 * 2 + 1);
        assert_eq!(asked(&registry, already), expected);
        assert_eq!((report.existed, report.blobs_copied, report.blobs_present), (false, 2, 0));

        let already = registry.journal().len();
        let again = push(&file, &to, &PushOptions::default()).await.unwrap();
        assert_eq!((again.digest, again.existed, again.blobs_copied, again.blobs_present), (pin.clone(), true, 0, 2));
        assert_eq!(asked(&registry, already), [format!("HEAD /v2/{name}/manifests/1 200")]);

        // Under another tag, and under one beside the one it has.
        let already = registry.journal().len();
        let more = push(&file, &at(&registry, &format!("{name}:2")), &PushOptions::default()).await.unwrap();
        assert_eq!((more.existed, more.blobs_copied, more.blobs_present), (true, 0, 2));
        let expected = sorted([vec![
            format!("HEAD /v2/{name}/manifests/2 404"),
            format!("HEAD /v2/{name}/blobs/{layer} 200"),
            format!("HEAD /v2/{name}/manifests/{pin} 200"),
            format!("PUT /v2/{name}/manifests/2 201"),
        ]]);
        assert_eq!(asked(&registry, already), expected);
        let already = registry.journal().len();
        let options = PushOptions { tags: vec!["latest".to_owned(), "1".to_owned()], ..PushOptions::default() };
        let more = push(&file, &to, &options).await.unwrap();
        assert_eq!((more.tags, more.existed), (vec!["1".to_owned(), "latest".to_owned()], true));
        let expected = sorted([vec![
            format!("HEAD /v2/{name}/manifests/1 200"),
            format!("HEAD /v2/{name}/manifests/latest 404"),
            format!("PUT /v2/{name}/manifests/latest 201"),
        ]]);
        assert_eq!(asked(&registry, already), expected);
    }
}

#[tokio::test]
async fn a_first_push_with_several_tags_or_none_asks_no_more_than_one_with_a_tag() {
    let (files, registry) = (Files::new(), registry());
    let file = files.component();
    let tags = PushOptions { tags: vec!["2".to_owned(), "3".to_owned()], ..PushOptions::default() };
    let report = push(&file, &at(&registry, "acme/tags:1"), &tags).await.unwrap();
    let (layer, pin) = (report.content_digest.clone(), report.digest.clone());
    let expected = sorted([
        vec![
            "HEAD /v2/acme/tags/manifests/1 404".to_owned(),
            format!("PUT /v2/acme/tags/manifests/{pin}?tag=1&tag=2&tag=3 201"),
        ],
        sent("acme/tags", Some(&layer)),
        sent("acme/tags", None),
    ]);
    assert_eq!(asked(&registry, 0), expected);

    let registry = self::registry();
    push(&file, &at(&registry, &format!("acme/pin@{pin}")), &PushOptions::default()).await.unwrap();
    let expected = sorted([
        vec![format!("HEAD /v2/acme/pin/manifests/{pin} 404"), format!("PUT /v2/acme/pin/manifests/{pin} 201")],
        sent("acme/pin", Some(&layer)),
        sent("acme/pin", None),
    ]);
    assert_eq!(asked(&registry, 0), expected);
}

#[tokio::test]
async fn a_push_of_what_is_known_to_be_missing_asks_nothing() {
    let (files, registry) = (Files::new(), registry());
    let options = PushOptions { assume_missing: true, ..PushOptions::default() };
    for round in 0..2 {
        let already = registry.journal().len();
        let report = push(&files.component(), &at(&registry, "acme/hello:1"), &options).await.unwrap();
        assert_eq!((report.existed, report.blobs_copied, report.blobs_present), (false, 2, 0), "{round}");
        let put = vec!["PUT /v2/acme/hello/manifests/1 201".to_owned()];
        let expected = sorted([put, sent("acme/hello", None), sent("acme/hello", None)]);
        assert_eq!(expected.len(), 2 * 2 + 1);
        assert_eq!(asked(&registry, already), expected);
    }
}

#[tokio::test]
async fn a_dry_run_says_the_digest_and_opens_no_socket() {
    let (files, registry) = (Files::new(), registry());
    let (file, to) = (files.component(), at(&registry, "acme/hello:1"));
    let dry_run = Home::new().offline().push(&file, &to, &dry()).await.unwrap();
    assert!(dry_run.dry_run && registry.requests() == 0);
    let offline = Home::new().offline().push(&file, &to, &PushOptions::default()).await.unwrap_err();
    assert_eq!(offline.exit_code(), 4);
    assert_eq!(push(&file, &to, &PushOptions::default()).await.unwrap().digest, dry_run.digest);
}

#[tokio::test]
async fn an_instant_and_annotations_change_the_digest_and_nothing_else_does() {
    let files = Files::new();
    let file = files.component();
    let plain = planned(&file, &dry()).await;
    assert_eq!(planned(&files.write("other-name.bin", fixture::component_bytes()), &dry()).await.digest, plain.digest);
    let mut options = dry();
    options.created = Some(parse_created("2026-02-03T04:05:06Z").unwrap());
    options.author = Some("Acme".to_owned());
    options.annotations = [("org.opencontainers.image.source", "https://example.org/hello"), ("b", "")]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into();
    let said = planned(&file, &options).await;
    assert_ne!(said.digest, plain.digest);
    assert_eq!(
        (said.config["created"].as_str(), said.config["author"].as_str()),
        (Some("2026-02-03T04:05:06Z"), Some("Acme"))
    );
    assert_eq!(
        said.manifest["annotations"],
        json!({
            "b": "",
            "org.opencontainers.image.created": "2026-02-03T04:05:06Z",
            "org.opencontainers.image.source": "https://example.org/hello",
        })
    );
    assert_eq!(planned(&file, &options).await.digest, said.digest);
}

#[tokio::test]
async fn annotations_that_cannot_be_used_are_refused_before_anything_is_read_or_sent() {
    let files = Files::new();
    let to = Place::parse("localhost:1/acme/hello:1").unwrap();
    let long = "k".repeat(300);
    for (key, value, created) in [
        ("", "x", None),
        ("a b", "x", None),
        ("a\u{7}", "x", None),
        (long.as_str(), "x", None),
        ("a", "\u{1b}[31m", None),
        ("org.opencontainers.image.created", "2026-01-01T00:00:00Z", Some(5)),
        ("a", &"x".repeat(40_000), None),
    ] {
        let mut options = dry();
        options.annotations.insert(key.to_owned(), value.to_owned());
        options.created = created;
        let error = push(&files.component(), &to, &options).await.unwrap_err();
        assert_eq!(error.kind(), DistErrorKind::InvalidInput, "{key:?}");
        assert!(!error.to_string().contains('\u{1b}'), "{error}");
    }
}

#[tokio::test]
async fn files_are_told_apart_by_their_bytes_and_what_they_are_not_is_refused() {
    let files = Files::new();
    let module = files.write("m.wasm", b"\0asm\x01\0\0\0");
    let component = files.component();
    let zip = files.write("p.bin", b"PK\x03\x04 and so on");
    let pack = files.write("p.gtpack", "a pack of its own");
    let json = files.write("catalog.json", r#"{"providers":[]}"#);
    let text = files.write("notes.txt", "just text");
    for (file, kind, media_type, config, os) in [
        (&module, PushKind::Module, "application/wasm", "application/vnd.wasm.config.v0+json", Some("wasip1")),
        (&component, PushKind::Component, "application/wasm", "application/vnd.wasm.config.v0+json", Some("wasip2")),
        (&zip, PushKind::Pack, "application/vnd.greentic.gtpack.v1+zip", "application/vnd.oci.empty.v1+json", None),
        (&pack, PushKind::Pack, "application/octet-stream", "application/vnd.oci.empty.v1+json", None),
    ] {
        let report = planned(file, &dry()).await;
        assert_eq!((report.kind, report.media_type.as_str()), (kind, media_type));
        assert_eq!(report.manifest["config"]["mediaType"], config);
        assert_eq!(report.config["os"].as_str(), os);
        let artifact_type = report.manifest.get("artifactType").and_then(Value::as_str);
        assert_eq!(artifact_type, os.is_none().then_some(media_type));
    }
    for (file, kind, media_type) in [
        (&json, PushKind::Catalog, "application/json"),
        (&json, PushKind::Pack, "application/vnd.greentic.pack+json"),
        (&text, PushKind::Pack, "application/octet-stream"),
        (&files.write("a.tgz", [0x1f, 0x8b, 8]), PushKind::Pack, "application/vnd.oci.image.layer.v1.tar+gzip"),
    ] {
        let mut options = dry();
        options.kind = Some(kind);
        assert_eq!(planned(file, &options).await.media_type, media_type);
    }
    let to = Place::parse("localhost:1/acme/hello:1").unwrap();
    let empty = files.write("empty.gtpack", "");
    for (file, kind, says) in [
        (&module, Some(PushKind::Component), "core module"),
        (&component, Some(PushKind::Module), "is a component"),
        (&text, Some(PushKind::Component), "does not begin as"),
        (&zip, Some(PushKind::Component), "is a pack"),
        (&text, Some(PushKind::Catalog), "is no catalog"),
        (&text, None, "say what it is pushed as"),
        (&json, None, "say what it is pushed as"),
        (&empty, None, "is empty"),
    ] {
        let mut options = dry();
        options.kind = kind;
        let error = push(file, &to, &options).await.unwrap_err();
        assert_eq!(error.kind(), DistErrorKind::InvalidInput, "{file:?}");
        assert!(error.to_string().contains(says), "{error}");
    }
    let absent = push(&files.0.path().join("absent"), &to, &dry()).await.unwrap_err();
    assert_eq!(absent.kind(), DistErrorKind::NotFound, "{absent:?}");
    push(files.0.path(), &to, &dry()).await.unwrap_err();
    let bad_tag = PushOptions { tags: vec!["-x".to_owned()], ..dry() };
    assert_eq!(push(&component, &to, &bad_tag).await.unwrap_err().exit_code(), 2);
}

#[tokio::test]
async fn a_pushed_artifact_can_be_an_archive_and_go_on_from_there() {
    let (files, registry) = (Files::new(), registry());
    let tar = Place::parse(&format!("oci-archive:{}:1", files.0.path().join("hello.tar").display())).unwrap();
    let report = push(&files.component(), &tar, &PushOptions::default()).await.unwrap();
    let copied = Home::new().client().copy(&tar, &at(&registry, "acme/hello"), &CopyOptions::default()).await.unwrap();
    assert_eq!((copied.digest, copied.tags), (report.digest.clone(), vec!["1".to_owned()]));
    let again = push(&files.component(), &at(&registry, "acme/hello:1"), &PushOptions::default()).await.unwrap();
    assert!(again.existed && again.digest == report.digest);
}
