//! What people read: results on stdout and nothing else there, everything else on stderr.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;

use greentic_dist_testkit::fixture::{self, WASM_TYPE};
use greentic_dist_testkit::process::Run;
use greentic_dist_testkit::scenario::{Lie, Part, Scenario};

use crate::support::{BIN, Bench, OLD_BIN, registry, sample};

#[test]
fn resolve_prints_the_digest_alone() {
    let (bench, registry) = (Bench::new(), registry());
    let outcome = bench.run(["resolve", &registry.reference()]);
    outcome.expect_code(0);
    assert_eq!(outcome.line(), sample().manifest_digest.to_string());
    assert_eq!(outcome.stderr, "");
    assert_eq!(registry.journal().count_containing("/blobs/"), 0);
}

#[test]
fn pull_prints_the_path_alone() {
    let (bench, registry) = (Bench::new(), registry());
    let path = bench.pull(&registry.reference());
    assert!(std::fs::read(&path).unwrap() == sample().layer_bytes());
    assert!(path.starts_with(bench.cache()));
    let outcome = bench.run(["pull", &registry.reference(), &registry.pinned()]);
    outcome.expect_code(0);
    assert_eq!(outcome.stdout, format!("{0}\n{0}\n", path.display()));
}

#[test]
fn a_long_download_is_told_on_stderr_unless_it_should_be_quiet() {
    let artifact = fixture::artifact(WASM_TYPE, fixture::random_bytes(3, 2 << 20));
    let registry = Scenario::new(artifact).start();
    let outcome = Bench::new().run(["pull", &registry.reference()]);
    outcome.expect_code(0);
    assert!(outcome.stderr.contains("2.0 MiB"), "{}", outcome.stderr);
    assert!(!outcome.stderr.contains('\u{1b}') && !outcome.stderr.contains('\r'), "{:?}", outcome.stderr);
    assert_eq!(outcome.stdout.lines().count(), 1);
    let quiet = Bench::new().run(["-q", "pull", &registry.reference()]);
    assert_eq!((quiet.code, quiet.stderr.as_str()), (Some(0), ""));
}

#[test]
fn inspect_prints_documented_lines() {
    let (bench, registry) = (Bench::new(), registry());
    let before = bench.run(["inspect", &registry.reference()]);
    before.expect_code(0);
    assert!(before.stdout.contains("cached: false\n"), "{}", before.stdout);
    assert!(before.stdout.contains("component.wasm: false\n"), "{}", before.stdout);
    bench.pull(&registry.reference());
    let outcome = bench.run(["inspect", &registry.reference(), "--show-media-type"]);
    outcome.expect_code(0);
    for line in [
        "cached: true".to_owned(),
        format!("digest: {}", sample().manifest_digest),
        format!("cache dir: {}", bench.cache().join(sample().manifest_digest.to_hex()).display()),
        "artifact type: Component".to_owned(),
        "component.wasm: true".to_owned(),
        "component.manifest.json: false".to_owned(),
        "selected media type: application/wasm".to_owned(),
    ] {
        assert!(outcome.stdout.lines().any(|printed| printed == line), "`{line}` is missing:\n{}", outcome.stdout);
    }
    let without = bench.run(["inspect", &registry.reference()]);
    assert!(!without.stdout.contains("media type"));
}

#[test]
fn cache_commands_print_data_on_stdout_and_words_on_stderr() {
    let (bench, registry) = (Bench::new(), registry());
    bench.pull(&registry.reference());
    let pin = sample().manifest_digest.to_string();
    assert_eq!(bench.run(["cache", "ls"]).line(), pin);
    let removed = bench.run(["cache", "rm", &pin]);
    assert_eq!((removed.code, removed.stdout.as_str()), (Some(0), ""));
    assert!(removed.stderr.contains("removed 1"), "{}", removed.stderr);
    let again = bench.run(["cache", "rm", &pin]);
    assert_eq!((again.code, again.stdout.as_str(), again.stderr.as_str()), (Some(0), "", ""));
    let collected = bench.run(["cache", "gc"]);
    assert_eq!((collected.code, collected.stdout.as_str(), collected.stderr.as_str()), (Some(0), "", ""));
}

#[test]
fn the_version_is_that_of_the_package() {
    for flag in ["--version", "-V"] {
        let outcome = Run::new(BIN).arg(flag).output();
        outcome.expect_code(0);
        assert_eq!(outcome.stdout, format!("greentic-dist {}\n", env!("CARGO_PKG_VERSION")));
    }
}

#[test]
fn help_names_every_command_and_the_exit_codes() {
    let outcome = Run::new(BIN).arg("--help").output();
    outcome.expect_code(0);
    for word in [
        "resolve",
        "pull",
        "inspect",
        "cache",
        "demo",
        "--cache-dir",
        "--offline",
        "--json",
        "--quiet",
        "--version",
        "Exit codes",
    ] {
        assert!(outcome.stdout.contains(word), "{word} is missing:\n{}", outcome.stdout);
    }
    assert!(outcome.stdout.contains("Usage: greentic-dist "));
    for command in ["resolve", "pull", "inspect", "demo"] {
        let help = Run::new(BIN).args([command, "--help"]).output();
        help.expect_code(0);
        assert!(help.stdout.contains(&format!("Usage: greentic-dist {command}")), "{}", help.stdout);
    }
    for command in ["ls", "rm", "gc"] {
        Run::new(BIN).args(["cache", command, "--help"]).output().expect_code(0);
    }
}

#[test]
fn wrong_usage_exits_with_2_and_explains_itself_on_stderr() {
    for args in [
        vec!["no-such-command"],
        vec!["pull"],
        vec!["resolve"],
        vec!["cache"],
        vec!["pull", "--no-such-flag", "x"],
        vec!["--cache-dir"],
        vec![],
    ] {
        let outcome = Run::new(BIN).args(args.iter()).output();
        outcome.expect_code(2);
        assert_eq!(outcome.stdout, "", "{args:?}");
        assert!(outcome.stderr.contains("--help"), "{args:?}: {}", outcome.stderr);
    }
    let outcome = Run::new(BIN).arg("pull").arg(OsStr::from_bytes(b"\xff\xfe")).output();
    outcome.expect_code(2);
}

#[test]
fn global_flags_stand_before_or_behind_the_command() {
    let (bench, registry) = (Bench::new(), registry());
    let cache = bench.cache().display().to_string();
    bench.pull(&registry.reference());
    let before = Run::new(BIN).args(["--cache-dir", &cache, "--offline", "--json", "cache", "ls"]).output();
    let behind = Run::new(BIN).args(["cache", "ls", "--cache-dir", &cache, "--offline", "--json"]).output();
    assert_eq!(before.stdout, behind.stdout);
    assert!(before.stdout.contains(&sample().manifest_digest.to_string()));
}

#[test]
fn the_old_name_warns_in_one_line_and_does_the_same() {
    let (bench, registry) = (Bench::new(), registry());
    bench.pull(&registry.reference());
    let run = |silence: Option<&str>| {
        let run = Run::new(OLD_BIN).arg("--cache-dir").arg(bench.cache()).args(["cache", "ls"]);
        silence.map_or(run.clone(), |value| run.env("GREENTIC_SILENCE_DEPRECATION_WARNINGS", value)).output()
    };
    for loud in [None, Some("0"), Some("true"), Some("")] {
        let outcome = run(loud);
        outcome.expect_code(0);
        assert_eq!(outcome.line(), sample().manifest_digest.to_string());
        assert_eq!(outcome.stderr.lines().count(), 1, "{}", outcome.stderr);
        let warning = outcome.stderr.as_str();
        assert!(warning.starts_with("warning: ") && warning.contains("greentic-distributor-client"), "{warning}");
        assert!(warning.contains("`greentic-dist`"), "{warning}");
    }
    assert_eq!(run(Some("1")).stderr, "");
    let help = Run::new(OLD_BIN).arg("--help").output();
    assert!(help.stdout.contains("Usage: greentic-dist "));
    Run::new(OLD_BIN).args(["pull", "nope"]).output().expect_code(2);
}

#[test]
fn row_80_what_a_peer_says_reaches_the_terminal_without_escape_sequences() {
    use greentic_dist_testkit::{LyingServer, Response};
    let server =
        LyingServer::start(|_, _| Response::oci_error(404, "X", "\u{1b}]0;owned\u{7}\u{1b}[2J\r\nerror: fine"));
    for args in [vec!["pull"], vec!["--json", "pull"]] {
        let outcome = Bench::new().dist([]).args(args).arg(format!("{}/acme/hello:1", server.host())).output();
        outcome.expect_code(3);
        assert!(!outcome.says("\u{1b}") && !outcome.says("\u{7}") && !outcome.says("\r"), "{outcome:?}");
        assert!(!outcome.stderr.lines().any(|line| line == "error: fine"), "{}", outcome.stderr);
    }
}

#[test]
fn a_reader_that_goes_away_is_no_crash() {
    let script = format!("{BIN} --help | head -c 1 > /dev/null; {BIN} cache ls --cache-dir /nonexistent/x >&-");
    let outcome = Run::new("sh").args(["-c", &script]).output();
    assert!(!outcome.stderr.contains("panicked"), "{}", outcome.stderr);
}

#[test]
fn row_79_what_an_edited_entry_says_cannot_drive_the_terminal() {
    let (bench, registry) = (Bench::new(), registry());
    let path = bench.pull(&registry.reference());
    let record = path.with_file_name("entry.json");
    let mut entry: serde_json::Value = serde_json::from_slice(&std::fs::read(&record).unwrap()).unwrap();
    entry["canonical_ref"] = "\u{1b}]0;pwn\u{7}\u{202e}".into();
    entry["media_type"] = "\u{1b}[31m".into();
    std::fs::write(&record, entry.to_string()).unwrap();
    let digest = sample().manifest_digest.to_string();
    let outcome = bench.run(["--offline", "inspect", "--show-media-type", &digest]);
    outcome.expect_code(0);
    for shown in [&outcome.stdout, &outcome.stderr] {
        assert!(!shown.contains(['\u{1b}', '\u{7}', '\u{202e}']), "{shown:?}");
    }
}

#[test]
fn a_result_that_could_not_be_written_is_no_success() {
    let (bench, registry) = (Bench::new(), registry());
    bench.pull(&registry.reference());
    for args in ["cache ls", "--json cache ls", "pull REF", "--json resolve REF"] {
        let status = std::process::Command::new("sh")
            .arg("-c")
            .arg(format!("exec {BIN} --cache-dir \"$0\" {} >/dev/full", args.replace("REF", &registry.reference())))
            .arg(bench.cache())
            .stderr(std::process::Stdio::null())
            .status()
            .unwrap();
        assert_eq!(status.code(), Some(10), "{args}");
    }
    // A reader that has seen enough is no failure.
    let status = std::process::Command::new("bash")
        .arg("-c")
        .arg(format!("set -o pipefail; {BIN} --cache-dir \"$0\" cache ls | true"))
        .arg(bench.cache())
        .status()
        .unwrap();
    assert!(status.success());
}

#[test]
fn row_6_a_directory_that_looks_like_a_reference_is_never_read_in_its_place() {
    let bench = Bench::new();
    let shadow = bench.path().join("ghcr.io").join("org");
    std::fs::create_dir_all(&shadow).unwrap();
    let pin = sample().manifest_digest;
    for name in ["x:1".to_owned(), "x".to_owned(), format!("x@{pin}")] {
        std::fs::write(shadow.join(&name), b"\0asm shadow").unwrap();
        for reference in [format!("ghcr.io/org/{name}"), format!("oci://ghcr.io/org/{name}")] {
            let outcome = bench.dist(["--offline", "pull", &reference]).dir(bench.path()).output();
            outcome.expect_code(4);
        }
    }
    std::fs::write(bench.path().join(pin.to_string()), b"\0asm shadow").unwrap();
    bench.dist(["pull", &pin.to_string()]).dir(bench.path()).output().expect_code(3);
    // A bare name is a file, and that is said; a path says so itself.
    std::fs::write(bench.path().join("tool.wasm"), b"\0asm tool").unwrap();
    let outcome = bench.dist(["pull", "tool.wasm"]).dir(bench.path()).output();
    outcome.expect_code(0);
    assert!(
        outcome.stderr.contains("is read as a file") && outcome.stderr.contains("./tool.wasm"),
        "{}",
        outcome.stderr
    );
    assert_eq!(bench.dist(["pull", "./tool.wasm"]).dir(bench.path()).output().stderr, "");
}

#[test]
fn a_failure_that_only_its_kind_is_known_of_says_the_next_step_in_one_line() {
    for (lie, exit, advice) in [
        (Lie::status(Part::All, 404), 3, "check the name, and the tag or digest"),
        (Lie::status(Part::All, 410), 3, "check the name, and the tag or digest"),
        (Lie::CutBlob { after: 0, times: Lie::ALWAYS }, 7, "try again; where it stays so, look for a proxy"),
    ] {
        let registry = Scenario::new(sample()).lie(lie.clone()).start();
        let outcome = Bench::new().run(["pull", &registry.reference()]);
        outcome.expect_code(exit);
        let hints: Vec<&str> =
            outcome.stderr.lines().filter_map(|line| line.trim_start().strip_prefix("hint: ")).collect();
        assert!(hints.len() == 1 && hints[0].starts_with(advice), "{lie:?}: {}", outcome.stderr);
    }
}
