//! Logins as they lie about on a machine: files of Docker and of the containers tools, and the helpers those name.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use greentic_dist_testkit::fixture;
use greentic_dist_testkit::process::{Outcome, Run};
use greentic_dist_testkit::scenario::{Auth, LyingRegistry, Scenario};
use greentic_dist_testkit::{LyingServer, Response};
use serde_json::{Value, json};

use crate::support::{BIN, Bench, CANARY, sample};

const USER: &str = "alice";

/// A home directory, a directory of programs, and a cache.
struct Home {
    bench: Bench,
}

impl Home {
    fn new() -> Self {
        let home = Self { bench: Bench::new() };
        fs::create_dir(home.at("bin")).unwrap();
        home
    }

    fn at(&self, name: &str) -> PathBuf {
        self.bench.path().join(name)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.at(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    fn docker(&self, config: &Value) {
        self.write(".docker/config.json", &config.to_string());
    }

    /// A helper that is a shell script.
    fn helper(&self, name: &str, script: &str) {
        let path = self.write(&format!("bin/docker-credential-{name}"), &format!("#!/bin/sh\n{script}\n"));
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn command(&self, args: &[&str]) -> Run {
        let path = format!("{}:/usr/bin:/bin", self.at("bin").display());
        Run::new(BIN)
            .arg("--cache-dir")
            .arg(self.bench.cache())
            .args(args)
            .env("HOME", self.bench.path())
            .env("PATH", path)
            .env("RUST_LOG", "trace")
    }

    fn pull(&self, registry: &LyingRegistry) -> Outcome {
        self.command(&["pull", &registry.reference()]).output()
    }
}

/// A registry that wants the password of alice.
fn basic() -> LyingRegistry {
    Scenario::new(sample()).auth(Auth::basic(USER, CANARY)).start()
}

/// `auth` of alice.
fn auth() -> String {
    "YWxpY2U6Y2FuYXJ5LTdkMWY=".to_owned()
}

#[track_caller]
fn assert_pulls(home: &Home, registry: &LyingRegistry) {
    let outcome = home.pull(registry);
    outcome.expect_code(0);
    assert!(!outcome.says(CANARY) && !outcome.says(&auth()), "{outcome:?}");
}

#[track_caller]
fn assert_refused(home: &Home, registry: &LyingRegistry) -> Outcome {
    let outcome = home.pull(registry);
    outcome.expect_code(5);
    assert!(!outcome.says(CANARY) && !outcome.says(&auth()), "{outcome:?}");
    assert!(!registry.journal().contains(CANARY));
    outcome
}

#[test]
fn logins_of_docker_are_found_in_their_places() {
    let registry = basic();
    let config = json!({ "auths": { registry.host(): { "auth": auth() } } }).to_string();
    let home = Home::new();
    home.write(".docker/config.json", &config);
    assert_pulls(&home, &registry);

    let home = Home::new();
    home.write("elsewhere/config.json", &config);
    let run = home.command(&["pull", &registry.reference()]);
    run.clone().output().expect_code(5);
    run.clone().env("DOCKER_CONFIG", home.at("elsewhere")).output().expect_code(0);

    let home = Home::new();
    let run = home.command(&["pull", &registry.reference()]);
    run.env("DOCKER_AUTH_CONFIG", &config).output().expect_code(0);
}

#[test]
fn quirk_a19_logins_of_the_containers_tools_are_found_by_the_most_specific_path() {
    let registry = basic();
    let host = registry.host();
    let wrong = json!({ "auth": "YWxpY2U6d3Jvbmc=" });
    let config = json!({ "auths": {
        host.clone(): wrong,
        format!("{host}/acme"): { "auth": auth() },
        format!("{host}/acme/other"): wrong,
        format!("https://{host}/v1/"): wrong,
    }});
    for (place, variable) in [
        (".config/containers/auth.json", None),
        ("xdg/containers/auth.json", Some(("XDG_CONFIG_HOME", "xdg"))),
        ("run/containers/auth.json", Some(("XDG_RUNTIME_DIR", "run"))),
        ("any.json", Some(("REGISTRY_AUTH_FILE", "any.json"))),
    ] {
        let home = Home::new();
        home.write(place, &config.to_string());
        let run = home.command(&["pull", &registry.reference()]);
        let run = variable.iter().fold(run, |run, (name, value)| run.env(name, home.at(value)));
        let outcome = run.output();
        outcome.expect_code(0);
        assert!(!outcome.says(CANARY) && !outcome.says(&auth()), "{place}: {}", outcome.stderr);
        home.bench.assert_canary_in_no_file();
    }
    // A key of the oldest form is enough where there is no other.
    let home = Home::new();
    let config = json!({ "auths": { format!("https://{host}/v1/"): { "auth": auth() } } });
    home.write(".config/containers/auth.json", &config.to_string());
    assert_pulls(&home, &registry);
}

#[test]
fn row_57_configurations_that_are_broken_or_hostile_are_told_and_passed_over() {
    let registry = basic();
    let host = registry.host();
    let in_table = |entry: Value| json!({ "auths": { host.clone(): entry } }).to_string();
    for (config, said) in [
        ("{".to_owned(), "is malformed (line 1, column 1)"),
        (format!("[\"{CANARY}\"]"), "is malformed"),
        (format!("{{\"auths\":\"{CANARY}\"}}"), "is malformed"),
        (format!("{}{}", in_table(json!({ "auth": auth() })), " ".repeat(1 << 20)), "larger than 1 MiB"),
        (in_table(json!({ "auth": format!("%%{CANARY}%%") })), "its `auth` is not base64"),
        (in_table(json!({ "auth": "bm9jb2xvbg==" })), "is not a user name and a password"),
        (in_table(json!({ "username": CANARY })), "it has no password"),
        (json!({ "credsStore": "../../evil" }).to_string(), "cannot be the name of one"),
        (json!({ "credHelpers": { host.clone(): "/bin/sh" } }).to_string(), "cannot be the name of one"),
        (json!({ "credHelpers": { host.clone(): ["x"] } }).to_string(), "cannot be the name of one"),
    ] {
        let home = Home::new();
        home.write(".docker/config.json", &config);
        let outcome = assert_refused(&home, &registry);
        assert!(outcome.stderr.contains(said), "{config:.80}: {}", outcome.stderr);
        assert_eq!(outcome.stderr.matches("warning: ").count(), 1, "{}", outcome.stderr);
        // The places after it are asked.
        home.write(".config/containers/auth.json", &in_table(json!({ "auth": auth() })));
        registry.journal().clear();
        assert_pulls(&home, &registry);
        registry.journal().clear();
    }
}

#[test]
fn row_57_a_login_is_for_exactly_its_host_and_port() {
    let registry = basic();
    let port = registry.server().addr().port();
    for key in ["127.0.0.1", &format!("127.0.0.1:{}", port ^ 1), &format!("127.0.0.1:{port}.evil.example"), "*", ""] {
        let home = Home::new();
        home.docker(&json!({ "auths": { key: { "auth": auth() } }, "credHelpers": { key: "never" } }));
        home.helper("never", &format!("touch {}", home.at("was-run").display()));
        assert_refused(&home, &registry);
        assert!(!home.at("was-run").exists(), "{key}");
    }
}

#[test]
fn row_57_links_are_followed_to_regular_files_and_in_circles_no_further() {
    let registry = basic();
    let config = json!({ "auths": { registry.host(): { "auth": auth() } } }).to_string();
    let home = Home::new();
    let target = home.write("dotfiles/docker.json", &config);
    fs::create_dir(home.at(".docker")).unwrap();
    symlink(target, home.at(".docker/config.json")).unwrap();
    assert_pulls(&home, &registry);
    registry.journal().clear();

    for make in [
        (|path: &Path| symlink(path, path).unwrap()) as fn(&Path),
        |path| fs::create_dir(path).unwrap(),
        |path| assert!(std::process::Command::new("mkfifo").arg(path).status().unwrap().success()),
    ] {
        let home = Home::new();
        fs::create_dir(home.at(".docker")).unwrap();
        make(&home.at(".docker/config.json"));
        let outcome = assert_refused(&home, &registry);
        assert!(outcome.stderr.contains("could not be read"), "{}", outcome.stderr);
    }
}

#[test]
fn a_helper_for_the_registry_is_asked_before_the_one_for_all_and_before_the_table() {
    let registry = basic();
    let host = registry.host();
    let home = Home::new();
    let says = |user: &str, secret: &str| {
        format!(
            "read server; echo \"$1 $server\" >>{}; echo '{{\"ServerURL\":\"x\",\"Username\":\"{user}\",\"Secret\":\"{secret}\"}}'",
            home.at("log").display()
        )
    };
    home.helper("own", &says(USER, CANARY));
    home.helper("all", &says(USER, "wrong"));
    home.docker(&json!({
        "credHelpers": { host.clone(): "own" }, "credsStore": "all", "auths": { host.clone(): { "auth": "YTp3cm9uZw==" } }
    }));
    assert_pulls(&home, &registry);
    assert_eq!(fs::read_to_string(home.at("log")).unwrap(), format!("get {host}\n"), "asked once for the process");

    // The one for all, before the table.
    home.helper("all", &says(USER, CANARY));
    home.docker(&json!({ "credsStore": "all", "auths": { host.clone(): { "auth": "YTp3cm9uZw==" } } }));
    assert_pulls(&home, &registry);
    // And the table where it has none.
    home.helper("all", "echo credentials not found in native keychain; exit 1");
    home.docker(&json!({ "credsStore": "all", "auths": { host: { "auth": auth() } } }));
    assert_pulls(&home, &registry);
}

#[test]
fn quirk_a09_a_helper_may_have_an_identity_token() {
    let artifact = sample();
    let server = LyingServer::start(move |request, ctx| match request.header("authorization") {
        _ if request.path == "/token" => {
            let form = String::from_utf8_lossy(&request.body).into_owned();
            let good = request.method == "POST" && form.contains(&format!("refresh_token={CANARY}"));
            if good { Response::ok(r#"{"access_token":"t-1"}"#) } else { Response::status(401, "") }
        }
        Some("Bearer t-1") if request.path.contains("/manifests/") => {
            Response::ok(artifact.manifest_bytes.clone()).header("Content-Type", fixture::MANIFEST_TYPE)
        }
        Some("Bearer t-1") => Response::ok(artifact.layer_bytes().to_vec()),
        _ => Response::bearer_challenge(&ctx.url("/token"), "s", ""),
    });
    let home = Home::new();
    home.helper("id", &format!("echo '{{\"Username\":\"<token>\",\"Secret\":\"{CANARY}\"}}'"));
    home.docker(&json!({ "credsStore": "id" }));
    let outcome = home.command(&["pull", &format!("{}/acme/hello:1", server.host())]).output();
    outcome.expect_code(0);
    assert!(!outcome.says(CANARY) && !server.journal().any_header_contains(CANARY));
}

#[test]
fn quirk_a16_a_missing_helper_is_told_at_once_or_when_it_matters() {
    let registry = basic();
    let host = registry.host();
    // For every registry: a warning, and anonymous access.
    let home = Home::new();
    home.docker(&json!({ "credsStore": "gone" }));
    let outcome = assert_refused(&home, &registry);
    assert!(outcome.stderr.contains("warning: ") && outcome.stderr.contains("`docker-credential-gone` is not in PATH"));
    assert_eq!(registry.journal().len(), 1);
    // For this registry: remembered, and told with the failure.
    home.docker(&json!({ "credHelpers": { host: "gone" } }));
    let outcome = assert_refused(&home, &registry);
    assert!(!outcome.stderr.contains("warning: "), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("hint: the credential helper `docker-credential-gone`"), "{}", outcome.stderr);
    // And not at all where the registry needs no login.
    let open = Scenario::new(sample()).start();
    home.docker(&json!({ "credsStore": "gone", "credHelpers": { open.host(): "gone" } }));
    let outcome = home.pull(&open);
    outcome.expect_code(0);
    assert!(!outcome.stderr.contains("gone"), "{}", outcome.stderr);
}

#[test]
fn quirk_a17_a_helper_without_such_a_login_is_no_failure() {
    let registry = basic();
    let home = Home::new();
    home.helper("none", &format!("echo {CANARY} >&2; echo credentials not found in native keychain {CANARY}; exit 1"));
    home.docker(&json!({ "credsStore": "none" }));
    let outcome = assert_refused(&home, &registry);
    assert!(!outcome.stderr.contains("warning: ") && !outcome.stderr.contains("helper"), "{}", outcome.stderr);
    assert!(!outcome.says(CANARY) && !registry.journal().contains(CANARY), "{}", outcome.stderr);
    home.helper("none", "echo '{\"Username\":\"alice\",\"Secret\":\"\"}'");
    assert!(!assert_refused(&home, &registry).stderr.contains("warning: "));
}

#[test]
fn row_58_helpers_that_fail_flood_or_talk_are_ended_and_not_quoted() {
    let registry = basic();
    for (script, said) in [
        (format!("echo {CANARY}; echo {CANARY} >&2; exit 1"), "failed (exit status: 1)"),
        (format!("echo '{{\"Secret\":[\"{CANARY}\"]}}'"), "is not the expected JSON"),
        (format!("echo not json {CANARY}"), "is not the expected JSON"),
        ("yes canary-7d1f".to_owned(), "said more than 64 KiB"),
        ("kill -9 $$".to_owned(), "failed (signal: 9"),
        ("exec /nowhere/at/all".to_owned(), "failed (exit status: 127)"),
    ] {
        let home = Home::new();
        home.helper("bad", &script);
        home.docker(&json!({ "credsStore": "bad" }));
        let outcome = assert_refused(&home, &registry);
        assert!(outcome.stderr.contains(said), "{script}: {}", outcome.stderr);
        assert_eq!(outcome.stderr.matches("warning: ").count(), 1, "{}", outcome.stderr);
    }
    // What it says beside its answer is not shown.
    let home = Home::new();
    home.helper("loud", &format!("echo {CANARY} >&2; echo '{{\"Username\":\"alice\",\"Secret\":\"{CANARY}\"}}'"));
    home.docker(&json!({ "credsStore": "loud" }));
    assert_pulls(&home, &registry);
}

#[test]
fn row_58_a_helper_that_hangs_is_ended_with_everything_it_started() {
    let registry = basic();
    let home = Home::new();
    let pids = home.at("pids");
    // The child keeps the output open, and would for an hour.
    home.helper(
        "hang",
        &format!("sleep 3600 & echo $! >{0}; echo $$ >>{0}; cat >/dev/null; sleep 3600", pids.display()),
    );
    home.docker(&json!({ "credsStore": "hang" }));
    let outcome = assert_refused(&home, &registry);
    assert!(outcome.stderr.contains("did not answer within 10 s"), "{}", outcome.stderr);
    let text = fs::read_to_string(&pids).unwrap();
    assert_eq!(text.lines().count(), 2);
    for pid in text.lines() {
        let state = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        assert!(state.is_empty() || state.contains(") Z "), "{pid} lives: {state}");
    }
}

#[test]
fn nothing_is_read_and_run_before_a_registry_demands_a_login() {
    let home = Home::new();
    home.helper("never", &format!("touch {}", home.at("was-run").display()));
    home.docker(&json!({ "credsStore": "never" }));
    let open = Scenario::new(sample()).start();
    if !can_trace("nothing_is_read_and_run_before_a_registry_demands_a_login") {
        return;
    }
    let log = home.at("trace");
    let run = home.command(&["pull", &open.reference()]);
    let run = traced(run, &["-f", "-e", "trace=openat,execve", "-o", &log.display().to_string()]);
    run.output().expect_code(0);
    let text = fs::read_to_string(&log).unwrap();
    assert!(text.contains("component.wasm"), "the trace shows what is opened");
    for never in [".docker", "containers", "registry-auth", "store-auth", "docker-credential"] {
        assert!(!text.contains(never), "{never}");
    }
    assert!(!home.at("was-run").exists());
}

/// Whether system calls of a child can be watched here.
fn can_trace(test: &str) -> bool {
    use std::process::Command;
    let can =
        Command::new("strace").args(["-qq", "-o", "/dev/null", "true"]).status().is_ok_and(|status| status.success());
    if !can {
        crate::support::skip(test, "strace is not here or may not trace");
    }
    can
}

/// The same command below strace.
fn traced(run: Run, arguments: &[&str]) -> Run {
    run.below("strace", arguments)
}

#[test]
fn a_file_that_is_named_is_the_only_place_that_logins_are_taken_from() {
    let (home, registry) = (Home::new(), basic());
    // What lies about on the machine is wrong, and would be asked first.
    home.docker(&json!({ "auths": { registry.host(): { "auth": "Ym9iOndyb25n" } } }));
    let named = json!({ "auths": { registry.host(): { "auth": auth() } } });
    let file = home.write("secrets/named.json", &named.to_string()).display().to_string();
    let outcome = home.command(&["--authfile", &file, "pull", &registry.reference()]).output();
    outcome.expect_code(0);
    assert!(!outcome.says(CANARY) && !outcome.says(&auth()), "{outcome:?}");
    let status = home.command(&["auth", "status", &registry.host(), "--authfile", &file]).output();
    assert_eq!(status.expect_code(0).line(), format!("{}: password of {USER} from {file}", registry.host()));

    // One that is not there is told, and nothing takes its place.
    let absent = home.at("absent.json").display().to_string();
    home.docker(&named);
    let outcome = home.command(&["--authfile", &absent, "resolve", &registry.reference()]).output();
    outcome.expect_code(5);
    assert!(outcome.stderr.contains(&format!("{absent} is not there")), "{}", outcome.stderr);

    // What is about saved logins has no use for it.
    for args in
        [["auth", "ls"].as_slice(), &["auth", "logout", "ghcr.io"], &["auth", "login", "ghcr.io", "--token", "x"]]
    {
        let outcome = home.command(&[args, &["--authfile", &file]].concat()).output();
        outcome.expect_code(2);
        assert!(outcome.stderr.contains("auth status --authfile"), "{}", outcome.stderr);
    }
}

#[test]
fn a_password_that_a_token_server_was_sent_is_told_by_no_failure_that_it_or_its_registry_causes() {
    type Answer = fn() -> Response;
    let other_type = || {
        let manifest = json!({
            "schemaVersion": 2,
            "config": { "mediaType": "application/vnd.oci.empty.v1+json", "digest": format!("sha256:{}", "0".repeat(64)), "size": 2 },
            "layers": [{ "mediaType": format!("application/{CANARY}"), "digest": format!("sha256:{}", "1".repeat(64)), "size": 3 }],
        });
        Response::ok(manifest.to_string()).header("Content-Type", fixture::MANIFEST_TYPE)
    };
    let cases: [(&str, u16, Answer); 3] = [
        ("refused twice", 401, other_type),
        ("a layer's type", 200, other_type),
        ("a warning", 200, || Response::oci_error(404, "X", "x").header("Warning", format!("299 - \"{CANARY}\""))),
    ];
    for (what, status, answer) in cases {
        let server = LyingServer::start(move |request, ctx| match request.header("authorization") {
            _ if request.path == "/token" && status != 200 => Response::oci_error(status, "DENIED", CANARY),
            _ if request.path == "/token" => Response::ok(r#"{"token":"t"}"#),
            Some("Bearer t") => answer(),
            _ => Response::bearer_challenge(&ctx.url("/token"), "s", ""),
        });
        let home = Home::new();
        home.docker(&json!({ "auths": { server.host(): { "username": USER, "password": CANARY } } }));
        for command in ["pull", "resolve", "inspect"] {
            let outcome = home.command(&[command, &format!("{}/acme/hello:1", server.host()), "--json"]).output();
            assert!(outcome.code != Some(0) || command == "inspect", "{what}: {outcome:?}");
            assert!(!outcome.stderr.contains(CANARY), "{what}, {command}: {outcome:?}");
            assert!(outcome.code == Some(0) || !outcome.says(CANARY), "{what}, {command}: {outcome:?}");
        }
    }
}
