//! What callers type: references of every kind, and texts that can name nothing.

use greentic_dist_testkit::TreeSnapshot;
use greentic_distributor_client::dist::ArtifactSourceKind::{self, CacheDigest, File, Https, Oci, Repo, Store};
use greentic_distributor_client::dist::DistErrorKind::{Auth, InvalidInput, NotFound, Offline};
use greentic_distributor_client::dist::{DistErrorKind, DistOptions, ResolvePolicy};

use crate::support::{Doubt, Home, assert_delivers, assert_fails, chain, failure, registry};

fn hex() -> String {
    "a".repeat(64)
}

#[tokio::test]
async fn every_kind_of_reference_is_classified_and_fails_offline_in_its_own_way() {
    let home = Home::new();
    let client = home.offline();
    let pin = format!("sha256:{}", hex());
    let cases: &[(&str, ArtifactSourceKind, DistErrorKind, i32)] = &[
        ("ghcr.io/a/b:1", Oci, Offline, 4),
        ("ghcr.io/a/b", Oci, Offline, 4),
        ("localhost:5000/a/b:1", Oci, Offline, 4),
        ("[::1]:5000/a/b:1", Oci, Offline, 4),
        ("oci://ghcr.io/a/b:1", Oci, Offline, 4),
        ("OCI://ghcr.io/a/b:1", Oci, Offline, 4),
        (&format!("ghcr.io/a/b@{pin}"), Oci, Offline, 4),
        (&format!("oci://ghcr.io/a/b:1@{pin}"), Oci, Offline, 4),
        (&pin, CacheDigest, NotFound, 3),
        ("https://example.invalid/x.wasm", Https, Offline, 4),
        ("http://example.invalid/x.wasm", Https, Offline, 4),
        ("file:///no/such", File, NotFound, 3),
        ("./nope.wasm", File, NotFound, 3),
        ("/", File, InvalidInput, 2),
        ("/dev/null", File, InvalidInput, 2),
        ("store://greentic-biz", Store, InvalidInput, 2),
        ("store://greentic-biz/t", Store, InvalidInput, 2),
        ("store://greentic-biz/t/p:1", Store, Auth, 5),
        ("store://tenant/pack:1", Store, Auth, 5),
        ("repo://x", Repo, Auth, 5),
        ("repo://ghcr.io/a/b:1", Repo, Offline, 4),
    ];
    for (reference, kind, error, exit) in cases {
        let source = client.parse_source(reference).unwrap();
        assert_eq!(source.raw_ref, *reference);
        assert_eq!(source.kind, *kind, "{reference}");
        assert!(source.transport_hints.offline && !source.transport_hints.allow_insecure_local_http);
        assert_eq!(source.dev_mode, *kind == File, "{reference}");
        assert_fails(client.resolve(source, ResolvePolicy).await, *error, *exit);
    }
    assert!(TreeSnapshot::of(&home.cache()).is_empty());
}

#[test]
fn what_can_name_nothing_is_invalid_input_that_says_why() {
    let home = Home::new();
    let client = home.client();
    let long = "x".repeat(100_000);
    for reference in [
        "",
        " ",
        "\n",
        "oci://",
        "repo://",
        "store://",
        "ftp://x/y",
        "file://rel/x",
        "file:///a%00b",
        "ghcr.io/a/b@sha512:aa",
        "ghcr.io/a/b@sha256:abc",
        "ghcr.io/A/b:1",
        "ghcr.io/a/../b",
        "ghcr.io/a/b:-x",
        "oci://../../x",
        "oci://acme/tool",
        "sha256:abc",
        "sha256:../../x",
        "sha256:",
        "nope.wasm",
        "foo",
        "a/b:1",
        "a\0b",
        "\u{1b}[31mred",
        "ghcr.io/a/b\u{202e}",
        &long,
        &format!("sha256:{}", "A".repeat(64)),
        &format!("sha256:{}é", "a".repeat(62)),
    ] {
        let error = failure(client.parse_source(reference));
        assert_eq!((error.kind(), error.exit_code()), (InvalidInput, 2), "{reference:?}");
        let text = chain(&error);
        assert!(text.starts_with("invalid reference `"), "{text}");
        assert!(std::error::Error::source(&error).is_some(), "{text}");
    }
    assert!(!home.cache().exists());
}

/// Panics unless a text is refused as a reference, with a reason, nothing asked, read or written.
#[track_caller]
fn no_reference(home: &Home, reference: &str, reason: &str) {
    let text = assert_fails(home.client().parse_source(reference), InvalidInput, 2);
    assert!(text.starts_with("invalid reference `") && text.contains(reason), "`{reason}` is not said: {text:.300}");
    assert!(!home.cache().exists());
    home.assert_nothing_outside_changed();
}

#[tokio::test]
async fn row_1_64_characters_that_are_no_hex_are_no_digest() {
    let home = Home::new();
    for text in ["z".repeat(64), "../".repeat(21) + "x", "/".repeat(64), "a".repeat(61) + "/..", "a".repeat(62) + "é"]
    {
        assert_eq!(text.len(), 64);
        let digest = format!("sha256:{text}");
        no_reference(&home, &digest, "only lower-case hex characters are allowed");
        // With slashes in it a pin looks like several other things: what is wrong with it is not said in one way.
        for reference in [format!("ghcr.io/a/b@{digest}"), format!("oci://ghcr.io/a/b@{digest}")] {
            no_reference(&home, &reference, "");
        }
        for text in [text, digest] {
            assert_fails(home.client().open_cached(&text), InvalidInput, 2);
            assert_fails(home.client().fetch_digest(&text).await, InvalidInput, 2);
            assert_fails(home.client().remove(&[text]), InvalidInput, 2);
        }
    }
    assert!(!home.cache().exists());
    home.assert_nothing_outside_changed();
}

#[test]
fn row_2_digests_in_capitals_of_another_length_or_algorithm_are_refused_with_the_reason() {
    let (home, hex) = (Home::new(), hex());
    for (digest, reason) in [
        (format!("sha256:{}", "A".repeat(64)), "only lower-case hex characters are allowed"),
        (format!("sha256:{}", &hex[1..]), "sha256 needs exactly 64 hex characters"),
        (format!("sha256:{hex}a"), "sha256 needs exactly 64 hex characters"),
        (format!("md5:{}", &hex[32..]), "only sha256, sha384 and sha512 are supported"),
        (format!("sha1:{}", &hex[24..]), "only sha256, sha384 and sha512 are supported"),
        (format!("SHA256:{hex}"), "the algorithm is written in lower case"),
        (format!("sha256+b64:{hex}"), "only sha256, sha384 and sha512 are supported"),
    ] {
        no_reference(&home, &format!("ghcr.io/a/b@{digest}"), reason);
        no_reference(&home, &format!("oci://ghcr.io/a/b:1@{digest}"), reason);
        assert_fails(home.client().parse_source(&digest), InvalidInput, 2);
        assert_fails(home.client().open_cached(&digest), InvalidInput, 2);
    }
}

#[test]
fn row_4_references_of_any_length_are_refused() {
    let home = Home::new();
    for reference in [
        "x".repeat(1 << 20),
        format!("oci://ghcr.io/{}", "x".repeat(1 << 20)),
        format!("ghcr.io{}", "/".repeat(100_000)),
        "a/".repeat(500_000) + "a",
        format!("ghcr.io/{}a", "a/".repeat(2_000)),
        format!("oci://ghcr.io/{}a:1", "a/".repeat(2_000)),
    ] {
        no_reference(&home, &reference, "long");
    }
    // Short enough for a reference, and no name all the same.
    no_reference(&home, &format!("ghcr.io/{}a", "a/".repeat(400)), "is not a repository name");
    no_reference(&home, &format!("ghcr.io{}", "/".repeat(400)), "is not a repository name");
}

#[test]
fn row_5_references_that_look_like_something_else_are_refused_and_nothing_is_decoded() {
    let home = Home::new();
    for reference in [
        "ghcr.io/a\0b",
        "ghcr.io/a\nb",
        "ghcr.io/a\tb",
        "ghcr.io/\u{1b}[31mb",
        "ghcr.io/a\u{202e}b",
        "gh\u{441}r.io/a",
        "ghcr.io:99999/a",
        "ghcr.io:0/a",
        "ghcr.io/%2e%2e/b",
        "ghcr.io/a%2e%2e",
    ] {
        for reference in [reference.to_owned(), format!("oci://{reference}")] {
            no_reference(&home, &reference, "");
        }
    }
    for reference in ["alice:canary-7d1f@ghcr.io/a:1", "oci://alice:canary-7d1f@ghcr.io/a:1"] {
        no_reference(&home, reference, "user names and passwords do not belong into a reference");
        let error = failure(home.client().parse_source(reference));
        assert!(!format!("{} {error:?} {:?}", chain(&error), error.hints()).contains(crate::support::CANARY));
    }
    assert_eq!(home.client().parse_source("[::1]:5000/x").unwrap().kind, Oci);
}

#[test]
fn a_bare_name_is_a_file_when_there_is_one() {
    // The working directory of tests is the crate's.
    let source = Home::new().client().parse_source("Cargo.toml").unwrap();
    assert_eq!((source.kind, source.dev_mode), (File, true));
}

#[cfg(not(feature = "fixture-resolver"))]
#[test]
fn fixtures_are_invalid_input_in_a_build_without_them() {
    let text = assert_fails(Home::new().client().parse_source("fixture://q"), InvalidInput, 2);
    assert!(text.contains("fixture-resolver"), "{text}");
}

#[tokio::test]
async fn a_tag_is_refused_where_a_pin_is_required_before_anybody_is_asked() {
    let doubt = Doubt::about([]).await;
    let client = doubt.home.pins_only();
    doubt.refused(&client, &doubt.reference()).await.is(InvalidInput, 2, &["pinned"]);
    let untagged = format!("oci://{}/acme/hello", doubt.registry.host());
    doubt.refused(&client, &untagged).await.is(InvalidInput, 2, &["pinned"]);
    assert!(doubt.journal().is_empty());
    assert_delivers(&client.resolve_ref(&doubt.pinned()).await.unwrap(), doubt.registry.artifact());
    // A tag beside a digest is decoration.
    let both = format!("oci://{}@{}", doubt.registry.reference(), doubt.registry.artifact().manifest_digest);
    assert_delivers(&client.resolve_ref(&both).await.unwrap(), doubt.registry.artifact());
}

#[tokio::test]
async fn a_mapped_tag_is_refused_where_a_pin_is_required() {
    let home = Home::new();
    let registry = registry();
    let options = DistOptions {
        allow_tags: false,
        repo_registry_base: Some(format!("{}/acme", registry.host())),
        ..home.options()
    };
    let client = home.builder().options(options).build();
    assert_fails(client.resolve_ref("repo://hello:1").await, InvalidInput, 2);
    assert!(registry.journal().is_empty());
}

#[tokio::test]
async fn texts_that_are_no_digests_touch_nothing() {
    let doubt = Doubt::about([]).await;
    let client = doubt.home.client();
    let before = TreeSnapshot::of(&doubt.home.cache());
    let outside = doubt.home.sentinel().display().to_string();
    for text in [
        "",
        "../x",
        "../outside",
        "..",
        ".",
        "/",
        "sha256:",
        "sha256:../outside",
        "sha256:aa/../../outside",
        "é",
        "aé",
        "éé",
        "sha256:é",
        "\0",
        "a\u{0}",
        "partial",
        "locks",
        outside.as_str(),
        &format!("sha256:{outside}"),
        &"A".repeat(64),
        &"a".repeat(63),
        &format!("{}é", "a".repeat(62)),
        &"x".repeat(1 << 20),
    ] {
        assert_fails(client.open_cached(text), InvalidInput, 2);
        assert_fails(client.stat_cache(text), InvalidInput, 2);
        assert_fails(client.fetch_digest(text).await, InvalidInput, 2);
        assert_fails(client.verify_cached(text), InvalidInput, 2);
        assert_fails(client.remove(&[text.to_owned()]), InvalidInput, 2);
        assert_fails(client.remove_cached(&[text.to_owned()]), InvalidInput, 2);
    }
    before.assert_unchanged(&doubt.home.cache());
    doubt.home.assert_nothing_outside_changed();
}

#[tokio::test]
async fn one_bad_digest_among_good_ones_removes_nothing() {
    let doubt = Doubt::about([]).await;
    let client = doubt.home.client();
    let good = client.list_cache();
    let before = TreeSnapshot::of(&doubt.home.cache());
    assert_fails(client.remove(&[good[0].clone(), String::new()]), InvalidInput, 2);
    assert_fails(client.remove(&["../x".to_owned(), good[0].clone()]), InvalidInput, 2);
    before.assert_unchanged(&doubt.home.cache());
}

#[tokio::test]
async fn a_url_with_a_login_in_it_is_refused_and_not_repeated() {
    let home = Home::new();
    let error = failure(home.client().resolve_ref("https://alice:canary-7d1f@127.0.0.1:1/x.wasm").await);
    assert_eq!((error.kind(), error.exit_code()), (InvalidInput, 2));
    let text = format!("{} {error:?} {:?}", chain(&error), error.hints());
    assert!(!text.contains(crate::support::CANARY), "{text}");
    home.assert_cache_empty();
}

#[tokio::test]
async fn row_9_plain_http_is_an_insecure_url_unless_it_is_this_machine_and_allowed() {
    let home = Home::new();
    let allowed = DistOptions { allow_insecure_local_http: true, ..home.options() };
    let trusting = home.builder().options(allowed).build();
    for (client, url) in [
        (home.client(), "http://127.0.0.1:1/x.wasm"),
        (home.client(), "http://localhost:1/x.wasm"),
        (home.client(), "http://example.invalid/x.wasm"),
        (trusting.clone(), "http://example.invalid/x.wasm"),
        (trusting.clone(), "http://127.0.0.1.example.invalid/x.wasm"),
        (trusting.clone(), "http://localhost./x.wasm"),
        (trusting.clone(), "http://[::ffff:127.0.0.1]/x.wasm"),
        // Other ways to write 127.0.0.1.
        (trusting.clone(), "http://2130706433/x.wasm"),
        (trusting.clone(), "http://0177.0.0.1/x.wasm"),
        (trusting.clone(), "http://127.1/x.wasm"),
        (trusting.clone(), "http://0x7f000001/x.wasm"),
        (trusting.clone(), "http://127.0.0.1.nip.invalid/x.wasm"),
        (trusting, "http://10.0.0.1/x.wasm"),
    ] {
        let text = assert_fails(client.resolve_ref(url).await, InvalidInput, 2);
        assert!(text.contains("insecure url") && text.contains(url), "{text}");
    }
    home.assert_cache_empty();
}
