//! Where the cache is, and which switches count.

use std::path::Path;

use greentic_dist_testkit::process::{Outcome, Run};

use crate::support::{BIN, Bench, CANARY, error_of, registry, sample};

/// Takes a file in with these variables and expects it below `expected`.
#[track_caller]
fn lands(bench: &Bench, variables: &[(&str, &str)], expected: &Path) {
    let run = Run::new(BIN).dir(bench.path()).arg("pull").arg(bench.sentinel());
    let outcome = variables.iter().fold(run, |run, (name, value)| run.env(name, value)).output();
    outcome.expect_code(0);
    assert!(Path::new(outcome.line()).starts_with(expected), "{} is not below {}", outcome.line(), expected.display());
}

#[test]
fn the_cache_root_comes_from_the_first_variable_that_is_set() {
    let bench = Bench::new();
    let dir = |name: &str| bench.path().join(name);
    let text = |name: &str| dir(name).display().to_string();
    let (one, two, three, four, five) = (text("1"), text("2"), text("3"), text("4"), text("5"));
    let all = [
        ("GREENTIC_CACHE_DIR", one.as_str()),
        ("GREENTIC_DIST_CACHE_DIR", two.as_str()),
        ("GREENTIC_HOME", three.as_str()),
        ("XDG_CACHE_HOME", four.as_str()),
        ("HOME", five.as_str()),
    ];
    lands(&bench, &all, &dir("1"));
    lands(&bench, &all[1..], &dir("2"));
    lands(&bench, &all[2..], &dir("3/cache/components"));
    lands(&bench, &all[3..], &dir("4/greentic/components"));
    lands(&bench, &all[4..], &dir("5/.cache/greentic/components"));
    // Empty is unset, and a relative base directory is none.
    lands(&bench, &[("GREENTIC_CACHE_DIR", ""), ("GREENTIC_DIST_CACHE_DIR", &two)], &dir("2"));
    lands(&bench, &[("XDG_CACHE_HOME", "relative"), ("HOME", &five)], &dir("5/.cache"));
    lands(&bench, &[("HOME", "")], Path::new(".greentic/cache/components"));
}

#[test]
fn the_flag_wins_over_every_variable() {
    let bench = Bench::new();
    let run = bench.dist(["pull"]).arg(bench.sentinel()).env("GREENTIC_CACHE_DIR", bench.path().join("elsewhere"));
    let outcome = run.output();
    assert!(Path::new(outcome.line()).starts_with(bench.cache()));
    assert!(!bench.path().join("elsewhere").exists());
}

fn offline_by(value: &str) -> Outcome {
    let registry = registry();
    Bench::new().dist(["--json", "pull", &registry.reference()]).env("GREENTIC_DIST_OFFLINE", value).output()
}

#[test]
fn a_switch_is_on_only_when_it_is_exactly_1() {
    error_of(&offline_by("1"), 4, "offline");
    for off in ["0", "true", "yes", "", " 1", "11"] {
        offline_by(off).expect_code(0);
    }
}

#[test]
fn plain_http_urls_of_this_machine_need_their_switch() {
    let server = greentic_dist_testkit::LyingServer::start(|_, _| greentic_dist_testkit::Response::ok("\0asm"));
    let url = format!("{}/a.wasm", server.url());
    let bench = Bench::new();
    let refused = bench.run(["--json", "pull", &url]);
    let error = error_of(&refused, 2, "invalid_input");
    assert!(error["hints"][0].as_str().unwrap().contains("GREENTIC_DIST_ALLOW_INSECURE_LOCAL_HTTP"), "{error}");
    assert_eq!(server.connections(), 0);
    bench.dist(["pull", &url]).env("GREENTIC_DIST_ALLOW_INSECURE_LOCAL_HTTP", "1").output().expect_code(0);
}

#[test]
fn a_relative_cache_directory_is_relative_to_the_working_directory() {
    let (bench, registry) = (Bench::new(), registry());
    let run = Run::new(BIN).dir(bench.path()).args(["--cache-dir", "cache", "pull", &registry.reference()]);
    run.output().expect_code(0);
    assert!(bench.cache().join(sample().manifest_digest.to_hex()).join("component.wasm").is_file());
}

#[test]
fn host_configurations_come_from_the_flag_then_from_the_variable_and_from_nowhere_else() {
    use greentic_dist_testkit::scenario::Scenario;
    let (origin, near) = (registry(), Scenario::new(sample()).on([127, 79, 0, 1].into()).start());
    let trees = tempfile::TempDir::new().unwrap();
    let tree = |name: &str, text: &str| {
        let dir = trees.path().join(name).join("_default");
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join("hosts.toml"), text).unwrap();
        trees.path().join(name).display().to_string()
    };
    let good = tree("good", &format!("[host.\"{}\"]\n", near.url()));
    let bad = tree("bad", "skip_verify = true\n");
    let reference = origin.reference();
    let pull = || Bench::new().dist(["pull", &reference]);
    pull().output().expect_code(0);
    assert_eq!((near.journal().len(), origin.journal().len()), (0, 2));
    pull().env("GREENTIC_DIST_HOSTS_DIR", &good).output().expect_code(0);
    assert_eq!((near.journal().len(), origin.journal().len()), (2, 2));
    pull().env("GREENTIC_DIST_HOSTS_DIR", "").output().expect_code(0);
    assert_eq!((near.journal().len(), origin.journal().len()), (2, 4));
    pull().env("GREENTIC_DIST_HOSTS_DIR", &bad).arg("--hosts-dir").arg(&good).output().expect_code(0);
    assert_eq!((near.journal().len(), origin.journal().len()), (4, 4));
    let refused = pull().env("GREENTIC_DIST_HOSTS_DIR", &bad).arg("--json").output();
    let error = error_of(&refused, 2, "invalid_input");
    assert!(error["causes"].to_string().contains("skip_verify"), "{error}");
    assert_eq!((near.journal().len(), origin.journal().len()), (4, 4));
}

#[test]
fn the_registries_conf_is_the_flags_then_one_of_two_variables_and_the_systems_only_when_it_is_named() {
    use greentic_dist_testkit::scenario::Scenario;
    let (origin, near) = (registry(), Scenario::new(sample()).on([127, 79, 0, 2].into()).start());
    let files = tempfile::TempDir::new().unwrap();
    let conf = |path: &str, text: &str| {
        let path = files.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let mirrored = format!(
        "[[registry]]\nlocation = \"{}\"\n[[registry.mirror]]\nlocation = \"{}\"\n",
        origin.host(),
        near.host()
    );
    let (good, bad) = (conf("good.conf", &mirrored), conf("bad.conf", "[registries.search]\n"));
    conf("home/.config/containers/registries.conf", &mirrored);
    let home = files.path().join("home").display().to_string();
    let reference = origin.reference();
    let pull = || Bench::new().dist(["pull", &reference]);
    let asked = || {
        let counts = (near.journal().len(), origin.journal().len());
        near.journal().clear();
        origin.journal().clear();
        counts
    };
    pull().env("HOME", &home).output().expect_code(0);
    assert_eq!(asked(), (0, 2), "what is not named is not read");
    pull().env("HOME", &home).arg("--registries-conf").arg("system").output().expect_code(0);
    assert_eq!(asked(), (2, 0));
    pull().env("HOME", &home).env("GREENTIC_DIST_REGISTRIES_CONF", "system").output().expect_code(0);
    assert_eq!(asked(), (2, 0));
    pull().env("CONTAINERS_REGISTRIES_CONF", &good).output().expect_code(0);
    assert_eq!(asked(), (2, 0));
    let ours = pull().env("CONTAINERS_REGISTRIES_CONF", &bad).env("GREENTIC_DIST_REGISTRIES_CONF", &good);
    ours.output().expect_code(0);
    assert_eq!(asked(), (2, 0));
    let flag = pull().env("GREENTIC_DIST_REGISTRIES_CONF", &bad).arg("--registries-conf").arg(&good);
    flag.output().expect_code(0);
    assert_eq!(asked(), (2, 0));
    pull().arg("--origin-tags").arg("--registries-conf").arg(&good).output().expect_code(0);
    assert_eq!(asked(), (1, 1), "the name of the registry, the content of the mirror");
    let refused = pull().env("CONTAINERS_REGISTRIES_CONF", &bad).arg("--json").output();
    let error = error_of(&refused, 2, "invalid_input");
    assert!(error["causes"].to_string().contains("version 1"), "{error}");
    assert_eq!(asked(), (0, 0));
}

#[cfg(target_os = "linux")]
#[test]
fn authorities_that_are_no_file_are_neither_waited_for_nor_read_without_end() {
    let bench = Bench::new();
    let (pipe, huge) = (bench.path().join("pipe"), bench.path().join("huge"));
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    std::fs::File::create(&huge).unwrap().set_len(1 << 40).unwrap();
    for odd in [&pipe, &huge, Path::new("/dev/zero"), bench.path()] {
        let run = bench.dist(["--json", "resolve", "https://127.0.0.1:9/x.wasm"]).env("SSL_CERT_FILE", odd);
        let error = error_of(&run.output(), 2, "invalid_input");
        let said = error["causes"].to_string();
        assert!(said.contains("SSL_CERT_FILE") && said.contains(&odd.display().to_string()), "{error}");
    }
}

#[test]
fn a_proxy_that_cannot_be_used_is_an_error_and_nothing_is_reached_without_it() {
    let values = [
        "gopher://u:SECRET@127.0.0.1:9",
        "ht!tp://u:SECRET@x y",
        "socks5://u:SECRET@127.0.0.1:9",
        "http://u:SECRET@h:99999",
    ];
    for value in values {
        for variable in ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"] {
            let bench = Bench::new();
            let run = bench.dist(["resolve", "registry.test/acme/hello:1", "--json"]);
            let run = run.env(variable, value.replace("SECRET", CANARY));
            let outcome = run.output();
            error_of(&outcome, 2, "invalid_input");
            assert!(outcome.says(&format!("the proxy in {variable} cannot be used")), "{outcome:?}");
            assert!(!outcome.says(CANARY), "{outcome:?}");
            let exempt = run.env("NO_PROXY", "registry.test").output();
            assert!(exempt.code != Some(2) && !exempt.says(variable), "{exempt:?}");
        }
    }
}
