//! Everything a client does with a registry, in each of the four ways a registry is reached: plain HTTP, TLS with HTTP/2, a
//! password, tokens. One test for each, `matrix::<way>::<what>`.

mod stage;

use std::fs;

use greentic_dist_testkit::content::{self, Content};
use greentic_dist_testkit::fixture;
use greentic_dist_testkit::{Proxy, TreeSnapshot};
use greentic_distributor_client::dist::{DistError, DistErrorKind, NetErrorKind};
use greentic_distributor_client::oci::{ListOptions, Place, PushOptions};

use stage::{Stage, Way, layout_place};

/// One module for each way, one test for each row.
macro_rules! matrix {
    ($($module:ident is $way:ident),*) => {$(
        mod $module {
            use super::Way::$way as WAY;

            matrix!(WAY: push, pull, resume, parallel_ranges, mount, delete, referrers_fallback, copy, paging_one_by_one);
        }
    )*};
    ($way:ident: $($row:ident),*) => {$(
        #[test]
        fn $row() {
            if let Some(stage) = super::Stage::start($way, stringify!($row)) {
                super::$row(&stage);
                stage.assert_way();
            }
        }
    )*};
}

matrix!(plain is Plain, tls is Tls, htpasswd is Htpasswd, token is Token);

/// A component on disk.
fn component(stage: &Stage) -> std::path::PathBuf {
    let file = stage.layout("hello.wasm");
    fs::write(&file, fixture::component_bytes()).unwrap();
    file
}

/// An image with one layer of so many bytes.
fn large(stage: &Stage, bytes: usize) -> (String, Vec<u8>) {
    let content = fixture::random_bytes(42, bytes);
    let file = stage.layout("large.gtpack");
    fs::write(&file, [b"\0asm\x01\0\0\0".as_slice(), &content].concat()).unwrap();
    let pushed = stage.run(stage.client().push(&file, &stage.place("acme/large:1"), &PushOptions::default())).unwrap();
    (pushed.content_digest, fs::read(file).unwrap())
}

/// The blobs of a layout, by name.
fn blobs(layout: &std::path::Path) -> Vec<String> {
    let snapshot = TreeSnapshot::of(&layout.join("blobs"));
    snapshot.files().iter().map(ToString::to_string).collect()
}

/// The tags of a repository, sorted: this registry has no order of its own.
fn tags(stage: &Stage, repository: &str) -> Vec<String> {
    let listing = stage.run(stage.client().tags(&stage.reference(repository), &ListOptions::default()));
    let mut names = listing.unwrap().names;
    names.sort();
    names
}

/// Panics unless a place has exactly this content: it is copied out of there and looked at.
fn assert_has(stage: &Stage, place: &Place, content: &Content, name: &str) {
    let (out, expected) = (stage.layout(&format!("out-{name}")), stage.layout(&format!("expected-{name}")));
    stage.copy(place, &layout_place(&out, ""));
    fs::create_dir_all(&expected).unwrap();
    content.write_layout(&expected, "1");
    assert_eq!(blobs(&out), blobs(&expected));
}

/// A file is pushed with the requests a push needs, and a second time with one question.
fn push(stage: &Stage) {
    let (file, to) = (component(stage), stage.place("acme/hello:1"));
    let pushed = stage.run(stage.client().push(&file, &to, &PushOptions::default())).unwrap();
    assert_eq!((pushed.blobs_copied, pushed.existed), (2, false));
    let asked = stage.asked(0);
    for (what, count) in [("HEAD", 2), ("POST", 2), ("PUT", 3), ("GET", 0)] {
        let found = asked.iter().filter(|line| line.starts_with(what) && !line.starts_with("GET /v2/ ")).count();
        assert_eq!(found, count, "{what} of {asked:#?}");
    }
    let already = stage.already();
    let again = stage.run(stage.client().push(&file, &to, &PushOptions::default())).unwrap();
    assert_eq!((again.digest, again.existed), (pushed.digest, true));
    let mut expected = vec!["HEAD /v2/acme/hello/manifests/1 200"];
    if stage.way == Way::Tls {
        // The front takes the digest's header away, and only the manifest itself says then what it is.
        expected.insert(0, "GET /v2/acme/hello/manifests/1 200");
    }
    assert_eq!(stage.asked(already), expected);
}

/// What was pushed is pulled by tag and by digest, with two requests.
fn pull(stage: &Stage) {
    let pushed =
        stage.run(stage.client().push(&component(stage), &stage.place("acme/hello:1"), &PushOptions::default()));
    let pushed = pushed.unwrap();
    let already = stage.already();
    let client = stage.client();
    let artifact = stage.run(client.resolve_ref(&format!("{}/acme/hello:1", stage.host()))).unwrap();
    assert_eq!(fs::read(&artifact.local_path).unwrap(), fixture::component_bytes());
    assert_eq!(
        stage.asked(already),
        [
            format!("GET /v2/acme/hello/blobs/{} 200", pushed.content_digest),
            "GET /v2/acme/hello/manifests/1 200".to_owned(),
        ]
    );
    let already = stage.already();
    assert_eq!(stage.run(client.resolve_ref(&pushed.pinned)).unwrap().local_path, artifact.local_path);
    assert_eq!(stage.asked(already), [""; 0]);
}

/// Panics unless a token was asked for with exactly these scopes, where there are tokens.
fn assert_token_for(stage: &Stage, scopes: &[&str]) {
    let encoded = |scope: &&str| {
        let scope = scope.replace(':', "%3A").replace('/', "%2F").replace(',', "%2C");
        format!("&scope={scope}")
    };
    let wanted: String = scopes.iter().map(encoded).collect();
    let asked = stage.scopes();
    assert!(
        stage.way != Way::Token
            || asked.iter().any(|line| line.split_once("tests").is_some_and(|(_, end)| end == wanted)),
        "{wanted} is none of {asked:#?}"
    );
}

/// Panics unless a line has brought so many bytes about once, a tenth for headers, handshakes and what a cut loses. `beyond` may have
/// been on its way to nobody.
fn assert_came_once(line: &Proxy, bytes: usize, beyond: u64) {
    let (came, bytes) = (line.bytes_down(), bytes as u64);
    assert!(came >= bytes && came <= bytes + bytes / 10 + beyond, "{came} bytes for {bytes}");
}

/// A line that is cut again and again still brings every byte.
fn resume(stage: &Stage) {
    let (digest, bytes) = large(stage, 6 << 20);
    let line = stage.line();
    line.set_cuts(Some((1 << 20, 2 << 20)));
    let client = stage.builder(&line.host()).build();
    let artifact = stage.run(client.resolve_ref(&format!("{}/acme/large:1", line.host()))).unwrap();
    assert!(fs::read(&artifact.local_path).unwrap() == bytes);
    assert!(line.cuts() >= 3, "{} cuts", line.cuts());
    let asked = stage.asked(0);
    let resumed = asked.iter().filter(|ask| ask.contains(&format!("/blobs/{digest} 206"))).count();
    assert!(resumed >= 3, "{asked:#?}");
    assert_came_once(&line, bytes.len(), 0);
}

/// A large blob comes over several connections, and is the same.
fn parallel_ranges(stage: &Stage) {
    let (digest, bytes) = large(stage, 12 << 20);
    let line = stage.line();
    line.set_rate(Some(48 << 20));
    let artifact = stage.run(stage.eager(&line.host()).resolve_ref(&format!("{}/acme/large:1", line.host()))).unwrap();
    assert!(fs::read(&artifact.local_path).unwrap() == bytes);
    assert!(line.connections() >= 3, "{} connections", line.connections());
    let asked = stage.asked(0);
    assert!(asked.iter().any(|ask| ask.contains(&format!("/blobs/{digest} 206"))), "{asked:#?}");
    // The first connection has asked for everything: over HTTP/2 a server has sent up to a window of it before it is told to stop.
    let window = if stage.way == Way::Tls { 8 << 20 } else { 0 };
    assert_came_once(&line, bytes.len(), window);
}

/// Between repositories of one registry no byte of a blob is moved.
fn mount(stage: &Stage) {
    let content = content::index();
    stage.publish(&content, "acme/hello:1");
    let already = stage.already();
    let report = stage.copy(&stage.place("acme/hello:1"), &stage.place("other/hello:1"));
    assert_eq!((report.blobs_mounted, report.blobs_copied, report.bytes_copied), (3, 0, 0));
    let asked = stage.asked(already);
    assert_eq!(
        asked.iter().filter(|line| line.starts_with("POST") && line.contains("mount=")).count(),
        3,
        "{asked:#?}"
    );
    assert!(!asked.iter().any(|line| line.starts_with("GET") && line.contains("/blobs/")), "{asked:#?}");
    // One token for both repositories: the one that is written to and the one that is read.
    assert_token_for(stage, &["repository:other/hello:pull,push", "repository:acme/hello:pull"]);
    assert_has(stage, &stage.place("other/hello:1"), &content, "mounted");
}

/// A tag that cannot be deleted alone stays, and so does its manifest; the manifest is deleted when that is asked for.
fn delete(stage: &Stage) {
    let client = stage.client();
    let options = PushOptions { tags: vec!["2".to_owned()], ..PushOptions::default() };
    let pushed = stage.run(client.push(&component(stage), &stage.place("acme/hello:1"), &options)).unwrap();
    let reference = stage.reference("acme/hello:1");
    let tag = stage.run(client.deletion(&reference, false)).unwrap();
    let refused = stage.run(client.delete(&reference, &tag)).unwrap_err();
    assert!(
        matches!(&refused, DistError::Network { source, .. } if source.kind() == NetErrorKind::Unsupported),
        "{refused:?}"
    );
    assert_eq!(tags(stage, "acme/hello"), ["1", "2"]);
    let manifest = stage.run(client.deletion(&reference, true)).unwrap();
    stage.run(client.delete(&reference, &manifest)).unwrap();
    for tag in ["1", "2"] {
        let gone = stage.run(client.describe(&stage.place(&format!("acme/hello:{tag}")))).unwrap_err();
        assert_eq!(gone.kind(), DistErrorKind::NotFound, "{gone:?}");
    }
    // A blob stays until it is deleted itself, and can be deleted once.
    let repository = stage.run(async { client.oci().unwrap().repository(&reference) });
    let blob = pushed.content_digest.parse().unwrap();
    assert!(stage.run(repository.head_blob(&blob)).unwrap().is_some());
    let already = stage.already();
    stage.run(repository.delete_blob(&blob)).unwrap();
    assert_eq!(stage.asked(already), [format!("DELETE /v2/acme/hello/blobs/{blob} 202")]);
    assert_token_for(stage, &["repository:acme/hello:pull,push,delete"]);
    assert!(stage.run(repository.head_blob(&blob)).unwrap().is_none());
    assert_eq!(stage.run(repository.delete_blob(&blob)).unwrap_err().kind(), NetErrorKind::NotFound);
}

/// A registry without the referrers API gets the list under the subject's tag, and is read through it.
fn referrers_fallback(stage: &Stage) {
    let content = content::with_subject();
    assert_eq!(stage.publish(&content, "acme/hello:1").referrers, 1);
    let client = stage.client();
    let tag = format!("sha256-{}", content.root.digest.to_hex());
    assert_eq!(tags(stage, "acme/hello"), ["1".to_owned(), tag]);
    let referrers = stage.run(client.describe(&stage.place("acme/hello:1"))).unwrap().referrers.unwrap();
    let found: Vec<_> = referrers.iter().map(|one| (one.digest.clone(), one.artifact_type.clone())).collect();
    assert_eq!(found, [(content.manifests[0].digest.to_string(), Some("application/spdx+json".to_owned()))]);
    // The list is kept, not begun anew, when the same is copied again.
    stage.publish(&content, "acme/hello:2");
    assert_eq!(stage.run(client.describe(&stage.place("acme/hello:2"))).unwrap().referrers.unwrap().len(), 1);
    assert_has(stage, &stage.place("acme/hello:2"), &content, "referrers");
}

/// An index with everything below it goes in, into an archive, back under another name, and out.
fn copy(stage: &Stage) {
    let content = content::nested_index();
    stage.publish(&content, "acme/hello:1");
    let archive = Place::parse(&format!("oci-archive:{}", stage.layout("hello.tar").display())).unwrap();
    stage.copy(&stage.place("acme/hello:1"), &archive);
    let back = stage.copy(&archive, &stage.place("acme/again:7"));
    assert_eq!(back.digest, content.root.digest.to_string());
    assert_eq!((back.manifests_copied, back.blobs_copied + back.blobs_present), (5, 4));
    assert_has(stage, &stage.place("acme/again:7"), &content, "copied");
}

/// A list that comes one name at a time is the same list.
fn paging_one_by_one(stage: &Stage) {
    let repositories = ["acme/a", "acme/b", "other/c"];
    for repository in repositories {
        stage.publish(&content::no_layers(), &format!("{repository}:1"));
    }
    for tag in ["2", "3"] {
        stage.publish(&content::no_layers(), &format!("acme/a:{tag}"));
    }
    let client = stage.client();
    let already = stage.already();
    let one_by_one = ListOptions { page_size: Some(1), ..ListOptions::default() };
    let listing = stage.run(client.catalog(&stage.host(), &one_by_one)).unwrap();
    assert_eq!((listing.names, listing.more), (repositories.map(str::to_owned).to_vec(), false));
    let asked = stage.asked(already);
    let pages: Vec<_> = asked.iter().filter(|line| line.starts_with("GET /v2/_catalog")).collect();
    // Each page is asked for once, the ones behind the first by the name before them; whether the last one is known to be it
    // is the registry's to say.
    let behind = |name: &str| pages.iter().filter(|line| line.contains(&format!("last={name}"))).count();
    assert_eq!((behind("acme%2Fa"), behind("acme%2Fb")), (1, 1), "{asked:#?}");
    assert!(pages.iter().all(|line| line.contains("n=1") && line.ends_with(" 200")), "{asked:#?}");
    assert_token_for(stage, &["registry:catalog:*"]);
    let limited = ListOptions { limit: Some(2), page_size: Some(1) };
    let listing = stage.run(client.catalog(&stage.host(), &limited)).unwrap();
    assert_eq!((listing.names, listing.more), (repositories[..2].iter().map(|&name| name.to_owned()).collect(), true));
    let already = stage.already();
    let mut tags = stage.run(client.tags(&stage.reference("acme/a"), &one_by_one)).unwrap();
    tags.names.sort();
    assert_eq!((tags.names, tags.more), (["1", "2", "3"].map(str::to_owned).to_vec(), false));
    // This registry does not know `n` for tags: it is asked for one, and gives all.
    assert_eq!(stage.asked(already), ["GET /v2/acme/a/tags/list?n=1 200"]);
}
