//! `greentic-dist pack`.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use greentic_dist_testkit::TreeSnapshot;
use greentic_dist_testkit::fixture::{self, Artifact, Blob, artifact_of};
use greentic_dist_testkit::process::{Outcome, Run};
use greentic_dist_testkit::scenario::{Lie, LyingRegistry, Scenario};
use greentic_dist_types::Digest;
use serde_json::{Value, json};

use crate::support::{BIN, Bench, error_of};

const GTPACK: &str = "application/vnd.greentic.gtpack.v1+zip";

fn pack() -> Artifact {
    artifact_of(vec![Blob::new(GTPACK, fixture::random_bytes(31, 30_000))], &[])
}

fn serve() -> LyingRegistry {
    Scenario::new(pack()).start()
}

#[test]
fn a_pack_is_fetched_by_either_spelling_and_its_path_is_printed() {
    let (bench, registry) = (Bench::new(), serve());
    let path = bench.cache().join(pack().manifest_digest.to_hex()).join("pack.gtpack");
    let schemed = format!("OCI://{}", registry.reference());
    for arguments in [
        ["pack", &registry.pinned()].as_slice(),
        &["pack", "fetch", &registry.pinned()],
        &["pack", "--allow-tags", &registry.reference()],
        &["pack", "fetch", &schemed, "--allow-tags"],
        &["--offline", "pack", &registry.pinned()],
        &["--offline", "pack", "--allow-tags", &registry.reference()],
    ] {
        let outcome = Run::new(BIN).arg("--cache-dir").arg(bench.cache()).args(arguments.iter().copied()).output();
        assert_eq!(outcome.expect_code(0).line(), path.to_str().unwrap(), "{arguments:?}");
    }
    assert_eq!(fs::read(path).unwrap(), pack().layer_bytes());
    assert_eq!(registry.journal().count_containing("/blobs/"), 1);
    bench.assert_nothing_outside_changed();
}

#[test]
fn json_tells_everything_about_the_pack_and_whether_it_was_fetched() {
    let (bench, registry) = (Bench::new(), serve());
    for fetched in [true, false] {
        let outcome = bench.run(["--json", "pack", "--allow-tags", &registry.reference()]);
        outcome.expect_code(0);
        let pin = pack().manifest_digest.to_string();
        let expected = json!({
            "reference": registry.reference(), "digest": pin, "manifest_digest": pin, "media_type": GTPACK,
            "size_bytes": 30_000, "cache_path": bench.cache().join(pack().manifest_digest.to_hex()).join("pack.gtpack"),
            "fetched": fetched, "output_path": null,
        });
        assert_eq!(outcome.json(), expected);
    }
}

#[test]
fn a_file_is_written_whole_and_never_over_another_one_unasked() {
    let (bench, registry) = (Bench::new(), serve());
    let target = bench.path().join("sentinel");
    let before = TreeSnapshot::of(bench.path());
    let path = target.to_str().unwrap();
    for output in [path, "/dev/full", bench.path().to_str().unwrap()] {
        let refused = bench.run(["--json", "pack", &registry.pinned(), "--output", output]);
        error_of(&refused, 2, "invalid_input");
    }
    // Bytes never go to stdout, and no file is called so unasked.
    let dash = bench.dist(["pack", &registry.pinned(), "--output", "-"]).dir(bench.path()).output();
    dash.expect_code(2);
    assert!(dash.stderr.contains("name a file"), "{}", dash.stderr);
    let hints = |arguments: [&str; 5]| error_of(&bench.run(arguments), 2, "invalid_input")["hints"].to_string();
    assert!(hints(["--json", "pack", &registry.pinned(), "-o", path]).contains("--force"));
    assert_eq!(hints(["--json", "pack", &registry.pinned(), "-o", bench.path().to_str().unwrap()]), "[]");
    before.assert_unchanged(bench.path());
    assert!(registry.journal().is_empty(), "what cannot be written is not asked for");
    let written = bench.run(["pack", &registry.pinned(), "--output", path, "--force"]);
    assert_eq!(written.expect_code(0).line(), path);
    assert_eq!(fs::read(&target).unwrap(), pack().layer_bytes());
    // Wrong bytes leave the file as it is.
    registry.lie(Lie::WrongBlob);
    let (other, registry) = (Bench::new(), registry);
    let kept = other.path().join("sentinel");
    let refused = other.run(["pack", &registry.pinned(), "--output", kept.to_str().unwrap(), "--force"]);
    refused.expect_code(8);
    other.assert_nothing_outside_changed();
}

#[test]
fn every_failure_has_its_exit_code_and_names_the_reference() {
    let (bench, registry) = (Bench::new(), serve());
    let unknown = registry.pinned_to(Digest::sha256(b"nobody has this"));
    let refused = |arguments: &[&str], exit: i32, code: &str, reference: &str| {
        let outcome =
            Run::new(BIN).arg("--cache-dir").arg(bench.cache()).arg("--json").args(arguments.iter().copied()).output();
        let error = error_of(&outcome, exit, code);
        assert_eq!(error["reference"].as_str(), Some(reference), "{error}");
        assert!(error["message"].as_str().unwrap().contains(reference), "{error}");
        error
    };
    let told = |error: &Value, field: &str, part: &str| {
        let texts = error[field].as_array().unwrap();
        assert!(texts.iter().any(|text| text.as_str().unwrap().contains(part)), "`{part}` is not in {field}: {error}");
    };
    let tag = registry.reference();
    let hints = refused(&["pack", &tag], 2, "invalid_input", &tag)["hints"].to_string();
    assert!(hints.contains("--allow-tags"), "{hints}");
    refused(&["pack", "not a ref"], 2, "invalid_input", "not a ref");
    refused(&["pack", "foo"], 2, "invalid_input", "foo");
    // As it was typed, also where the message names what was asked for.
    let schemed = format!("oci://{unknown}");
    let outcome = bench.run(["--json", "--offline", "pack", &schemed]);
    assert_eq!(error_of(&outcome, 4, "offline")["reference"], schemed);
    let missing = refused(&["pack", &unknown], 3, "not_found", &unknown);
    told(&missing, "causes", "answered 404");
    told(&missing, "hints", "check the name");
    refused(&["--offline", "pack", &unknown], 4, "offline", &unknown);
    refused(&["--offline", "pack", "--allow-tags", &tag], 4, "offline", &tag);
    let silent = Bench::new();
    let outcome = silent.dist(["--json", "pack", &registry.pinned()]).env("GREENTIC_DIST_OFFLINE", "1").output();
    told(&error_of(&outcome, 4, "offline"), "hints", "GREENTIC_DIST_OFFLINE");
    assert_eq!(registry.journal().len(), 1, "{:?}", registry.journal().lines());
    registry.lie(Lie::WrongBlob);
    let pinned = registry.pinned();
    told(&refused(&["pack", &pinned], 8, "integrity", &pinned), "hints", "push it again");
    for lie in [Lie::ShortBlob(100), Lie::OverLongBlob(10)] {
        registry.be_honest();
        registry.lie(lie);
        told(&refused(&["pack", &pinned], 8, "integrity", &pinned), "hints", "push it again");
    }
    let down = "127.0.0.1:1/acme/hello@".to_owned() + &pack().manifest_digest.to_string();
    refused(&["pack", &down], 7, "temporary", &down);
    bench.run(["pack"]).expect_code(2);
    bench.assert_nothing_outside_changed();
}

#[test]
fn row_30_a_manifest_without_a_pack_ends_with_10_and_lists_what_there_is() {
    for (layers, reason, code) in
        [(vec![], "no layers", "no_layers"), (vec![Blob::new("text/html", "<p>")], "text/html", "media_type_rejected")]
    {
        let bench = Bench::new();
        let registry = Scenario::new(artifact_of(layers, &[])).start();
        let reference = registry.reference();
        let error = error_of(&bench.run(["--json", "pack", "--allow-tags", &reference]), 10, "internal");
        let message = error["message"].as_str().unwrap();
        assert!(message.contains(&reference), "{message}");
        assert!(error.to_string().contains(reason), "{error}");
        assert_eq!((error["reason"].as_str(), error["hints"].as_array().unwrap().len()), (Some(code), 1), "{error}");
        // As `components` and `pull` tell it.
        let manifest = bench.path().join("sentinel");
        let refs = json!({ "extensions": { "greentic.components": { "refs": [reference] } } });
        fs::write(&manifest, refs.to_string()).unwrap();
        for arguments in [
            ["--json", "components", "fetch", "--allow-tags", manifest.to_str().unwrap()].as_slice(),
            &["--json", "pull", &reference],
        ] {
            let run = Run::new(BIN).arg("--cache-dir").arg(bench.cache()).args(arguments.iter().copied()).output();
            assert_eq!(run.expect_code(10).json()["error"]["reason"], code, "{}", run.stdout);
        }
        assert!(!bench.cache().join(registry.artifact().manifest_digest.to_hex()).exists());
    }
}

#[test]
fn row_35_a_title_decides_nothing_about_names() {
    let (bench, title) = (Bench::new(), "../../sentinel");
    let artifact = artifact_of(vec![Blob::new(GTPACK, "pack")], &[("org.opencontainers.image.title", title)]);
    let registry = Scenario::new(artifact.clone()).start();
    let outcome = bench.run(["pack", "--allow-tags", &registry.reference()]);
    let path = bench.cache().join(artifact.manifest_digest.to_hex()).join("pack.gtpack");
    assert_eq!(outcome.expect_code(0).line(), path.to_str().unwrap());
    bench.assert_nothing_outside_changed();
}

/// Runs the program with nothing in its environment but these variables.
fn in_environment(variables: &[(&str, &Path)], arguments: &[&str]) -> Outcome {
    let mut run = Run::new(BIN);
    for name in ["GREENTIC_CACHE_DIR", "GREENTIC_DIST_CACHE_DIR", "GREENTIC_PACK_CACHE_DIR", "GREENTIC_HOME"] {
        run = run.env(name, "");
    }
    for (name, value) in variables {
        run = run.env(*name, value);
    }
    run.args(arguments.iter().copied()).output()
}

#[test]
fn d30_the_pack_cache_is_where_the_environment_says_and_an_empty_variable_says_nothing() {
    let (bench, registry) = (Bench::new(), serve());
    let dir = |name: &str| bench.path().join(name);
    let (explicit, home, xdg) = (dir("explicit"), dir("home"), dir("xdg"));
    let pinned = registry.pinned();
    let fetch = |variables: &[(&str, &Path)]| -> PathBuf {
        let outcome = in_environment(variables, &["pack", &pinned]);
        let pack = PathBuf::from(outcome.expect_code(0).line());
        pack.parent().unwrap().parent().unwrap().to_owned()
    };
    let all: [(&str, &Path); 3] =
        [("GREENTIC_PACK_CACHE_DIR", &explicit), ("GREENTIC_HOME", &home), ("XDG_CACHE_HOME", &xdg)];
    assert_eq!(fetch(&all), explicit);
    assert_eq!(fetch(&all[1..]), home.join("cache").join("packs"));
    assert_eq!(fetch(&all[2..]), xdg.join("greentic").join("packs"));
    let (empty, relative) = (Path::new(""), Path::new("relative"));
    assert_eq!(
        fetch(&[("HOME", &home), ("XDG_CACHE_HOME", empty)]),
        home.join(".cache").join("greentic").join("packs")
    );
    assert_eq!(fetch(&[("HOME", &home), ("XDG_CACHE_HOME", relative)]), home.join(".cache/greentic/packs"));
}

#[test]
fn the_caches_of_one_user_share_bytes_whichever_had_them_first() {
    for pack_first in [true, false] {
        let (bench, registry) = (Bench::new(), serve());
        let xdg = bench.path().join("xdg");
        let pinned = registry.pinned();
        let schemed = format!("oci://{pinned}");
        let mut commands = [["pack", &pinned], ["pull", &schemed]];
        if !pack_first {
            commands.reverse();
        }
        let inodes = commands.map(|arguments| {
            let outcome = in_environment(&[("XDG_CACHE_HOME", &xdg)], &arguments);
            let meta = fs::metadata(outcome.expect_code(0).line()).unwrap();
            (meta.dev(), meta.ino())
        });
        assert_eq!(inodes[0], inodes[1]);
        assert_eq!(registry.journal().count_containing("/blobs/"), 1, "{:?}", registry.journal().lines());
    }
}
