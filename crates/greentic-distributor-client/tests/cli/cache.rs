//! `cache rm` and `cache gc` with arguments that mean harm.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;

use greentic_dist_testkit::TreeSnapshot;

use crate::support::{Bench, error_of, registry, sample};

#[test]
fn row_3_what_is_no_digest_exits_with_2_and_removes_nothing() {
    let (bench, registry) = (Bench::new(), registry());
    bench.pull(&registry.reference());
    let before = TreeSnapshot::of(&bench.cache());
    let absolute = bench.sentinel().display().to_string();
    let good = sample().manifest_digest.to_string();
    for digest in [
        "",
        " ",
        ".",
        "..",
        "../x",
        "../sentinel",
        "../../../../etc/passwd",
        "..//tmp/x",
        "/",
        "*",
        absolute.as_str(),
        "sha256:",
        "sha256:..",
        "sha256:../sentinel",
        "é",
        "aé",
        "ééé",
        "a€",
        "sha256:é",
        "\u{ff41}",
        "locks",
        "partial",
        "CACHEDIR.TAG",
        "artifacts/sha256",
        &good.to_uppercase(),
        &good[..70],
        &format!("{good}/"),
        &format!("{good}é"),
        &"a".repeat(65),
    ] {
        let outcome = bench.run(["--json", "cache", "rm", "--", digest]);
        let error = error_of(&outcome, 2, "invalid_input");
        assert!(error["message"].as_str().unwrap().starts_with("invalid reference"), "{error}");
        // Also beside a good one: everything is checked before anything is touched.
        bench.run(["cache", "rm", "--", &good, digest]).expect_code(2);
    }
    for bytes in [b"\xff".as_slice(), b"a\xc3", b"sha256:\xf0\x28"] {
        bench.dist(["cache", "rm"]).arg(OsStr::from_bytes(bytes)).output().expect_code(2);
    }
    before.assert_unchanged(&bench.cache());
    bench.assert_nothing_outside_changed();
}

#[test]
fn an_option_that_looks_like_a_digest_is_a_usage_error() {
    let bench = Bench::new();
    bench.run(["cache", "rm", "--all"]).expect_code(2);
    bench.run(["cache", "rm", "-rf"]).expect_code(2);
    assert!(!bench.cache().exists());
}

#[test]
fn reading_an_absent_cache_does_not_make_one() {
    let bench = Bench::new();
    for args in [vec!["cache", "ls"], vec!["cache", "gc"], vec!["cache", "rm", &"a".repeat(64)]] {
        bench.dist([]).args(args).output().expect_code(0);
    }
    bench.run(["pull", &"a".repeat(64)]).expect_code(2);
    bench.run(["pull", &format!("sha256:{}", "a".repeat(64))]).expect_code(3);
    assert!(!bench.cache().exists());
}

#[test]
fn links_in_the_cache_are_removed_and_not_followed() {
    let bench = Bench::new();
    let outside = bench.path().join("victim");
    std::fs::create_dir_all(outside.join("inner")).unwrap();
    std::fs::write(outside.join("component.wasm"), "x").unwrap();
    std::fs::create_dir(bench.cache()).unwrap();
    std::fs::set_permissions(bench.cache(), std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    let hex = "a".repeat(64);
    std::os::unix::fs::symlink(&outside, bench.cache().join(&hex)).unwrap();
    for dir in ["tmp", "trash", "partial", "quarantine", "locks"] {
        std::os::unix::fs::symlink(&outside, bench.cache().join(dir)).unwrap();
    }
    let before = TreeSnapshot::of(&outside);
    // Whether these succeed is not the question.
    bench.run(["cache", "ls"]);
    bench.run(["cache", "gc"]);
    bench.run(["cache", "rm", &hex]);
    bench.run(["pull", &format!("sha256:{hex}")]);
    bench.dist(["pull"]).arg(bench.sentinel()).output();
    before.assert_unchanged(&outside);
}
