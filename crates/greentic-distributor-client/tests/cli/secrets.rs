//! A password in front of a host and the signature of a URL are repeated by no command, wherever a person may write them.
//!
//! The commands, their arguments and their options are read from `docs/cli.md`, which is what `--help` prints: a new one is
//! looked at here without anybody's thinking of it.

use std::fs;
use std::path::Path;

use greentic_dist_testkit::process::{Outcome, Run};
use greentic_dist_testkit::scenario::LyingRegistry;
use greentic_dist_testkit::{LyingServer, Response};

use crate::support::{BIN, Bench, CANARY, registry};

/// Names of values of options that somebody may give a reference, an address or a registry.
const TELLING: [&str; 8] = ["URL", "REF", "REGISTRY", "REGISTRY=HOST", "DIGEST", "BUNDLE", "TAG", "BASE"];

/// A command as the document has it.
struct Documented {
    words: Vec<String>,
    /// The names of its arguments.
    arguments: Vec<String>,
    /// Its options that take one of the [`TELLING`] values.
    options: Vec<String>,
}

fn documented() -> Vec<Documented> {
    let document = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/cli.md")).unwrap();
    let sections = document.split("\n### ").skip(1);
    let found = sections.filter_map(|section| {
        let usage = section.lines().find_map(|line| line.strip_prefix("Usage: greentic-dist"))?;
        let mut words = Vec::new();
        let mut arguments = Vec::new();
        let mut parts = usage.split_whitespace();
        while let Some(part) = parts.next() {
            let name = part.trim_end_matches('.').trim_matches(['<', '>', '[', ']']);
            match part {
                "[OPTIONS]" => {}
                "<COMMAND>" => return None,
                // An option that has to be there, and its value.
                _ if part.starts_with("--") => drop(parts.next()),
                _ if part.starts_with(['<', '[']) => arguments.push(name.to_owned()),
                _ => words.push(name.to_owned()),
            }
        }
        let told = section.lines().filter_map(|line| {
            let (option, rest) = line.trim_start().split_once(" <").filter(|(option, _)| option.contains("--"))?;
            let value = rest.split_once('>')?.0;
            TELLING.contains(&value).then(|| option.split_whitespace().last().unwrap_or_default().to_owned())
        });
        Some(Documented { words, arguments, options: told.collect() })
    });
    found.collect()
}

/// Something harmless for an argument of this name.
fn harmless(name: &str, dir: &Path, registry: &LyingRegistry) -> String {
    match name {
        "FILE" | "MANIFEST.json" => dir.join("file.wasm").display().to_string(),
        "STATE" => "inactive".to_owned(),
        "SRC" | "REF" | "REF|DIGEST" => registry.reference(),
        "DST" => format!("oci-layout:{}", dir.join("out").display()),
        "REGISTRY" => registry.host(),
        _ => "x".to_owned(),
    }
}

#[track_caller]
fn assert_silent(args: &[String], outcome: &Outcome) {
    assert!(!outcome.says(CANARY), "{args:?} repeats the secret: {outcome:?}");
    assert!(!outcome.says("panicked"), "{args:?}: {outcome:?}");
    assert!(outcome.code.is_some(), "{args:?}: {outcome:?}");
}

#[test]
fn row_60_no_command_repeats_a_password_or_a_signature_from_its_arguments() {
    let commands = documented();
    assert!(commands.len() > 30, "only {} commands: is docs/cli.md read as it is written?", commands.len());
    let registry = registry();
    let server = LyingServer::start(|_, _| Response::ok("\0asm\x01\0\0\0"));
    let secrets = [
        format!("https://alice:{CANARY}@127.0.0.1:1/a.wasm"),
        format!("oci://alice:{CANARY}@127.0.0.1:1/acme/hello:1"),
        format!("alice:{CANARY}@127.0.0.1:1/acme/hello:1"),
        format!("https://alice:{CANARY}%40127.0.0.1/a.wasm"),
        format!("http://{}/a.wasm?X-Amz-Signature={CANARY}", server.host()),
        format!("https://127.0.0.1:1/v1?sig={CANARY}#{CANARY}"),
    ];
    let mut runs = 0;
    for command in &commands {
        let places = command.arguments.iter().filter(|name| *name != "STATE");
        let options = command.options.iter().map(|option| (None, Some(option)));
        let places: Vec<_> = places.map(|name| (Some(name), None)).chain(options).collect();
        for (argument, option) in places {
            // Options are all parsed in one place; one secret of each kind is enough for those.
            for secret in secrets.iter().skip(if option.is_some() { 4 } else { 0 }) {
                let bench = Bench::new();
                let dir = tempfile::tempdir().unwrap();
                fs::write(dir.path().join("file.wasm"), b"\0asm\x01\0\0\0").unwrap();
                let mut args = command.words.clone();
                for name in &command.arguments {
                    let is_it = argument.is_some_and(|argument| argument == name);
                    args.push(if is_it { secret.clone() } else { harmless(name, dir.path(), &registry) });
                }
                args.extend(option.iter().flat_map(|option| [(*option).clone(), secret.clone()]));
                let run = Run::new(BIN).arg("--cache-dir").arg(bench.cache()).args(&args).dir(dir.path());
                let run = run.env("RUST_LOG", "trace").env("GREENTIC_DIST_ALLOW_INSECURE_LOCAL_HTTP", "1");
                let run = run.env("HOME", dir.path()).stdin("");
                assert_silent(&args, &run.output());
                assert_silent(&args, &run.arg("--json").output());
                bench.assert_canary_in_no_file();
                runs += 2;
            }
        }
    }
    assert!(runs > 200, "only {runs} runs");
}
