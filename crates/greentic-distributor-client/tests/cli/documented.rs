//! The command lines and the JSON of `docs/oci_packs.md` and `docs/oci_components.md`, run as they stand there.

use std::collections::BTreeSet;
use std::fs;

use greentic_dist_testkit::fixture::{Blob, artifact_of};
use greentic_dist_testkit::process::Run;
use greentic_dist_testkit::scenario::Scenario;
use serde_json::{Value, json};

use crate::support::{BIN, Bench, registry};

const PACKS: &str = include_str!("../../../../docs/oci_packs.md");
const COMPONENTS: &str = include_str!("../../../../docs/oci_components.md");

/// The fenced blocks in this language.
fn blocks<'a>(document: &'a str, language: &str) -> Vec<&'a str> {
    document.split(&format!("```{language}\n")).skip(1).map(|rest| rest.split("```").next().unwrap()).collect()
}

/// The indented lines that call the program, without what is said behind a `#`.
fn commands(document: &str) -> Vec<&str> {
    let lines = document.lines().filter_map(|line| line.strip_prefix("    greentic-dist "));
    lines.map(|line| line.split('#').next().unwrap().trim()).collect()
}

fn keys(value: &Value) -> BTreeSet<String> {
    value.as_object().unwrap().keys().cloned().collect()
}

#[test]
fn the_documented_command_lines_for_components_run() {
    let (bench, registry) = (Bench::new(), registry());
    let refs = json!({ "extensions": { "greentic.components": { "refs": [registry.reference()] } } });
    fs::write(bench.path().join("pack.json"), refs.to_string()).unwrap();
    let lines = commands(COMPONENTS);
    assert_eq!(lines.len(), 3, "{lines:?}");
    let run = |line: &str| {
        Run::new(BIN).arg("--cache-dir").arg(bench.cache()).args(line.split(' ')).dir(bench.path()).output()
    };
    // The one that allows tags brings what the others find.
    run(lines[2]).expect_code(0);
    let refs = json!({ "extensions": { "greentic.components": { "refs": [registry.pinned()] } } });
    fs::write(bench.path().join("pack.json"), refs.to_string()).unwrap();
    for line in lines {
        let outcome = run(line);
        outcome.expect_code(0);
        assert!(
            outcome.stdout.contains(&registry.artifact().manifest_digest.to_string()),
            "{line}: {}",
            outcome.stdout
        );
    }
}

#[test]
fn the_documented_command_line_for_packs_takes_what_it_says_and_prints_the_documented_json() {
    let bench = Bench::new();
    let layer = Blob::new("application/vnd.greentic.gtpack.v1+zip", "a pack");
    let registry = Scenario::new(artifact_of(vec![layer], &[])).start();
    let lines = commands(PACKS);
    assert_eq!(lines.len(), 1, "{lines:?}");
    let file = bench.path().join("sentinel");
    let words = lines[0].split(' ').map(|word| match word.trim_matches(['[', ']']) {
        "REF" => registry.reference(),
        "FILE" => file.to_str().unwrap().to_owned(),
        word => word.to_owned(),
    });
    let outcome = Run::new(BIN).arg("--json").arg("--cache-dir").arg(bench.cache()).args(words).output();
    let told = outcome.expect_code(0).json();
    assert_eq!(fs::read(file).unwrap(), b"a pack");
    let documents: Vec<Value> =
        blocks(PACKS, "json").into_iter().map(|text| serde_json::from_str(text).unwrap()).collect();
    let [metadata, document] = documents.as_slice() else { panic!("{documents:?}") };
    assert_eq!(keys(&told), keys(document));
    assert_eq!(told["media_type"], document["media_type"]);
    let beside = std::path::Path::new(told["cache_path"].as_str().unwrap()).with_file_name("metadata.json");
    assert_eq!(keys(&serde_json::from_slice(&fs::read(beside).unwrap()).unwrap()), keys(metadata));
}

#[test]
fn the_documented_dependency_is_on_this_version_and_on_a_feature_there_is() {
    let block = blocks(PACKS, "toml");
    assert_eq!(block.len(), 1);
    let (_, version) = block[0].split_once("version = \"").unwrap();
    let version = version.split('"').next().unwrap();
    assert!(env!("CARGO_PKG_VERSION").starts_with(&format!("{version}.")), "{version}");
    let (_, features) = block[0].split_once("features = [\"").unwrap();
    let feature = features.split('"').next().unwrap();
    assert!(include_str!("../../Cargo.toml").contains(&format!("\n{feature} = [")), "{feature}");
}

/// The rows of the table below this line, cells without the back ticks.
fn table<'a>(document: &'a str, head: &str) -> Vec<Vec<&'a str>> {
    let rows = document.lines().skip_while(|line| *line != head).skip(2).take_while(|line| line.starts_with('|'));
    rows.map(|row| row.trim_matches('|').split('|').map(str::trim).collect()).collect()
}

#[test]
fn the_documented_layer_types_are_the_defaults_in_their_order() {
    use greentic_distributor_client::oci_packs::{
        default_pack_layer_media_types, default_preferred_pack_layer_media_types,
    };
    let rows = table(PACKS, "| media type | |");
    let types: Vec<&str> = rows.iter().map(|row| row[0].trim_matches('`')).collect();
    assert_eq!(types, default_pack_layer_media_types());
    let preferred = rows.iter().filter(|row| row[1] == "preferred").map(|row| row[0].trim_matches('`'));
    assert_eq!(preferred.collect::<Vec<_>>(), default_preferred_pack_layer_media_types());
}

#[test]
fn the_documented_exit_codes_of_variants_are_theirs() {
    use greentic_distributor_client::oci_packs::OciPackError;
    let reference = || "r".to_owned();
    let (expected, actual, digest) = (reference(), reference(), reference());
    let samples = [
        OciPackError::InvalidReference { reference: reference(), reason: reference() },
        OciPackError::TagDisallowed { reference: reference() },
        OciPackError::OfflineTaggedReference { reference: reference() },
        OciPackError::OfflineMissing { reference: reference(), digest },
        OciPackError::DigestMismatch { reference: reference(), expected, actual },
        OciPackError::Corrupt { reference: reference(), reason: reference() },
        OciPackError::MissingLayers { reference: reference() },
        OciPackError::Io { reference: reference(), source: std::io::Error::other("x") },
    ];
    let rows = table(PACKS, "| variant | kind | exit |");
    for sample in samples {
        let debug = format!("{sample:?}");
        let name = format!("`{}`", debug.split(' ').next().unwrap());
        let row = rows.iter().find(|row| row[0].split(", ").any(|variant| variant == name)).unwrap();
        assert_eq!(row[2], sample.exit_code().to_string(), "{name}");
    }
}
