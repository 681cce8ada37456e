//! `auth login|logout|ls|status`: logins saved, used, told and forgotten, and never shown.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use greentic_dist_testkit::process::{Outcome, Run};
use greentic_dist_testkit::scenario::{Auth, Lie, LyingRegistry, Scenario};
use greentic_dist_testkit::{LyingServer, Response};
use greentic_distributor_client::load_login;
use serde_json::{Value, json};

use crate::support::{BIN, Bench, CANARY, error_of, sample, skip};

/// The canary as the end of a secret that is long enough for its last four characters to be shown.
const LONG: &str = "a-long-secret-canary-7d1f";

struct Home {
    bench: Bench,
}

impl Home {
    fn new() -> Self {
        Self { bench: Bench::new() }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.bench.path().join(name)
    }

    fn tenants(&self) -> PathBuf {
        self.at(".config/greentic/dist/store-auth.json")
    }

    fn registries(&self) -> PathBuf {
        self.at(".config/greentic/dist/registry-auth.json")
    }

    fn dist(&self, args: &[&str]) -> Run {
        let path = format!("{}:/usr/bin:/bin", self.at("bin").display());
        Run::new(BIN)
            .arg("--cache-dir")
            .arg(self.bench.cache())
            .args(args)
            .env("HOME", self.bench.path())
            .env("PATH", path)
            .env("RUST_LOG", "trace")
    }

    #[track_caller]
    fn json(&self, args: &[&str]) -> Value {
        let outcome = run(&self.dist(args).arg("--json"));
        outcome.expect_code(0);
        outcome.json()
    }

    fn helper(&self, name: &str, script: &str) {
        let path = self.at(&format!("bin/docker-credential-{name}"));
        fs::create_dir_all(self.at("bin")).unwrap();
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }
}

/// Runs and checks that no secret was said.
#[track_caller]
fn run(run: &Run) -> Outcome {
    let outcome = run.output();
    assert!(!outcome.says(CANARY) && !outcome.says("YWxpY2U6"), "{outcome:?}");
    outcome
}

fn registry() -> LyingRegistry {
    Scenario::new(sample()).auth(Auth::basic("alice", CANARY)).start()
}

#[tokio::test]
async fn a_login_of_a_tenant_is_saved_where_the_library_finds_it() {
    let home = Home::new();
    let outcome = run(&home.dist(&["auth", "login", "acme", "--token-stdin"]).stdin(format!("{CANARY}\n")));
    outcome.expect_code(0);
    assert_eq!(outcome.stdout, "");
    assert!(outcome.stderr.contains("`acme` is saved"), "{}", outcome.stderr);
    let path = home.tenants();
    assert_eq!(load_login(&path, &path, "acme").await.unwrap().token, CANARY);
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    assert_eq!(fs::metadata(path.parent().unwrap()).unwrap().mode() & 0o777, 0o700);

    // The place can be chosen, and the newest login counts.
    let elsewhere = home.at("elsewhere.json");
    let command = home.dist(&["auth", "login", "acme", "--token-stdin"]).stdin("other");
    command.env("GREENTIC_DIST_STORE_SECRETS_PATH", &elsewhere).output().expect_code(0);
    assert_eq!(load_login(&elsewhere, &elsewhere, "acme").await.unwrap().token, "other");
    // A tenant with a dot is told from a registry.
    home.dist(&["auth", "login", "acme.io", "--tenant", "--token-stdin"]).stdin(CANARY).output().expect_code(0);
    assert_eq!(load_login(&path, &path, "acme.io").await.unwrap().token, CANARY);
}

#[test]
fn row_59_a_token_on_the_command_line_works_with_a_warning_and_is_not_repeated() {
    let home = Home::new();
    let outcome = run(&home.dist(&["auth", "login", "acme", "--token", CANARY]));
    outcome.expect_code(0);
    assert!(outcome.stderr.starts_with("warning: ") && outcome.stderr.contains("--token-stdin"), "{}", outcome.stderr);
    // Usage errors do not repeat it either.
    let outcome = run(&home.dist(&["auth", "login", "acme", "--token", CANARY, "--token-stdin"]));
    outcome.expect_code(2);
    let help = run(&home.dist(&["auth", "login", "--help"]));
    assert!(help.stdout.find("--token-stdin").unwrap() < help.stdout.find("--token <TOKEN>").unwrap());
}

#[test]
fn what_cannot_be_saved_is_refused_by_kind() {
    let home = Home::new();
    let login = |args: &[&str], stdin: &str| run(&home.dist(args).arg("--json").stdin(stdin));
    for (args, stdin, exit, code) in [
        (vec!["auth", "login", " ", "--token-stdin"], CANARY, 5, "auth"),
        (vec!["auth", "login", "acme", "--token-stdin"], " \n", 5, "auth"),
        (vec!["auth", "login", "acme", "--token-stdin"], "", 2, "invalid_input"),
        (vec!["auth", "login", "acme", "--token-stdin"], "canary-7d1f\nmore\n", 2, "invalid_input"),
        (vec!["auth", "login", "acme", "--token-stdin", "--username", "ann"], CANARY, 2, "invalid_input"),
        (vec!["auth", "login", "user:canary-7d1f@ghcr.io/x", "--token-stdin"], CANARY, 2, "invalid_input"),
        (vec!["auth", "login", "ghcr.io", "-u", "a:b", "--password-stdin"], CANARY, 2, "invalid_input"),
        (
            vec!["auth", "login", "ghcr.io", "-u", "a", "--password-stdin", "--helper", "../x"],
            CANARY,
            2,
            "invalid_input",
        ),
        (vec!["auth", "login", "ghcr.io"], CANARY, 2, "invalid_input"),
        (vec!["auth", "status", "acme"], "", 2, "invalid_input"),
    ] {
        error_of(&login(&args, stdin), exit, code);
    }
    // Without a terminal nobody can be asked.
    error_of(&login(&["auth", "login", "acme"], CANARY), 10, "internal");
    assert!(!home.at(".config").exists());
    // A file that is no login file is not written over.
    fs::create_dir_all(home.tenants().parent().unwrap()).unwrap();
    for path in [home.tenants(), home.registries()] {
        fs::write(path, "{\"secret\":\"canary-7d1f\"}").unwrap();
    }
    for args in [vec!["auth", "ls"], vec!["auth", "login", "acme", "--token-stdin"], vec!["auth", "logout", "acme"]] {
        error_of(&login(&args, CANARY), 5, "auth");
    }
    for args in [vec!["auth", "status"], vec!["auth", "logout", "ghcr.io"]] {
        error_of(&login(&args, CANARY), 5, "auth");
    }
}

#[test]
fn a_secret_is_asked_for_on_a_terminal_without_being_shown() {
    let available = Command::new("script").arg("--version").output().is_ok_and(|output| output.status.success());
    if !available {
        return skip("a_secret_is_asked_for_on_a_terminal_without_being_shown", "script is not installed");
    }
    let home = Home::new();
    // `script` gives the command a terminal and shows what the command and the terminal show.
    let mut script = Command::new("script")
        .args(["-qec", &format!("{BIN} auth login acme"), "/dev/null"])
        .env("HOME", home.bench.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = script.stdin.take().unwrap();
    let mut stdout = script.stdout.take().unwrap();
    // Typed when it is asked for: what is typed before, the terminal shows.
    let mut shown = Vec::new();
    let mut piece = [0_u8; 256];
    while !String::from_utf8_lossy(&shown).contains("Token of `acme`: ") {
        let read = std::io::Read::read(&mut stdout, &mut piece).unwrap();
        assert!(read > 0, "{}", String::from_utf8_lossy(&shown));
        shown.extend_from_slice(&piece[..read]);
    }
    stdin.write_all(format!("{CANARY}\r").as_bytes()).unwrap();
    std::io::Read::read_to_end(&mut stdout, &mut shown).unwrap();
    assert!(script.wait().unwrap().success());
    let shown = String::from_utf8_lossy(&shown);
    assert!(shown.contains("is saved") && !shown.contains(CANARY), "{shown}");
    assert!(fs::read_to_string(home.tenants()).unwrap().contains(CANARY));
}

#[test]
fn a_login_of_a_registry_is_proven_saved_used_and_forgotten() {
    let (home, registry) = (Home::new(), registry());
    let (host, reference) = (registry.host(), registry.reference());
    run(&home.dist(&["pull", &reference])).expect_code(5);

    // One that the registry refuses is not saved.
    let login = home.dist(&["auth", "login", &host, "--username", "alice", "--password-stdin"]);
    let refused = run(&login.clone().arg("--json").stdin("wrong"));
    error_of(&refused, 5, "auth");
    assert!(!home.registries().exists());

    run(&login.clone().stdin(CANARY)).expect_code(0);
    assert_eq!(fs::metadata(home.registries()).unwrap().mode() & 0o777, 0o600);
    run(&home.dist(&["pull", &reference])).expect_code(0);
    let status = home.json(&["auth", "status", &host]);
    let status = &status["registries"][0];
    assert_eq!((status["type"].as_str(), status["username"].as_str()), (Some("password"), Some("alice")));
    assert_eq!(status["source"], home.registries().display().to_string());
    assert_eq!(home.json(&["auth", "status"])["registries"][0], *status);

    // Variables win, and another port is another registry.
    let variable = format!("GREENTIC_DIST_AUTH_{}_TOKEN", host.replace(['.', ':'], "_"));
    let outcome = run(&home.dist(&["auth", "status", &host]).env(variable, CANARY));
    assert_eq!(outcome.line(), format!("{host}: token from the environment"));
    let outcome = run(&home.dist(&["auth", "status", "127.0.0.1:1"]));
    assert_eq!(outcome.line(), "127.0.0.1:1: no login; it is asked anonymously");

    let removed = home.json(&["auth", "logout", &host]);
    assert_eq!(removed, json!({ "kind": "registry", "name": host, "removed": true }));
    assert!(!fs::read_to_string(home.registries()).unwrap().contains(CANARY));
    assert_eq!(home.json(&["auth", "logout", &host])["removed"], false);
    home.dist(&["cache", "rm", &sample().manifest_digest.to_string()]).output().expect_code(0);
    run(&home.dist(&["pull", &reference])).expect_code(5);
}

#[test]
fn a_login_for_a_path_is_for_what_is_below_it_and_one_may_be_saved_offline() {
    let (home, registry) = (Home::new(), registry());
    let host = registry.host();
    for (scope, password) in
        [(host.clone(), "wrong"), (format!("{host}/acme"), CANARY), (format!("{host}/acme/x"), "wrong")]
    {
        let command =
            home.dist(&["--offline", "auth", "login", &scope, "-u", "alice", "--password-stdin"]).stdin(password);
        run(&command).expect_code(0);
    }
    assert!(registry.journal().is_empty(), "offline nobody is asked");
    run(&home.dist(&["pull", &registry.reference()])).expect_code(0);
}

#[test]
fn a_token_without_a_user_name_is_sent_as_it_is() {
    let home = Home::new();
    let server = LyingServer::start(|request, ctx| match request.header("authorization") {
        Some("Bearer canary-7d1f") => Response::ok("{}"),
        _ => Response::bearer_challenge(&ctx.url("/token"), "s", ""),
    });
    let command = home.dist(&["auth", "login", &server.host(), "--token-stdin"]).stdin(CANARY);
    run(&command).expect_code(0);
    assert_eq!(server.journal().lines(), ["GET /v2/", "GET /v2/"]);
    assert_eq!(home.json(&["auth", "status", &server.host()])["registries"][0]["type"], "token");
}

#[test]
fn saved_logins_are_listed_with_the_end_of_a_long_secret_at_most() {
    let home = Home::new();
    let save = |args: &[&str], secret: &str| {
        let command = home.dist(&["--offline", "auth", "login"]).args(args).stdin(secret);
        command.output().expect_code(0);
    };
    home.helper("ok", "cat >/dev/null");
    save(&["acme", "--token-stdin"], LONG);
    save(&["short", "--token-stdin"], CANARY);
    save(&["ghcr.io", "-u", "ann", "--password-stdin"], LONG);
    save(&["quay.io/org", "--token-stdin"], LONG);
    save(&["index.docker.io", "-u", "ann", "--password-stdin", "--helper", "ok"], LONG);
    let outcome = run(&home.dist(&["auth", "ls"]));
    outcome.expect_code(0);
    assert_eq!(
        outcome.stdout,
        "tenant acme token …7d1f\n\
         tenant short token …\n\
         registry ghcr.io ann password …7d1f\n\
         registry quay.io/org token …7d1f\n\
         registry docker.io ann helper:ok\n"
    );
    let listed = home.json(&["auth", "ls"]);
    assert_eq!(listed["logins"].as_array().unwrap().len(), 5);
    assert_eq!(listed["logins"][2]["secret"], "…7d1f");
    assert_eq!(Home::new().json(&["auth", "ls"]), json!({ "logins": [] }));
}

#[test]
fn a_helper_keeps_a_login_and_forgets_it() {
    let (home, registry) = (Home::new(), registry());
    let host = registry.host();
    let kept = home.at("kept");
    home.helper(
        "box",
        &format!(
            "case $1 in store) cat >{0};; get) cat >/dev/null; cat {0};; erase) cat >{0}.erased; rm {0};; esac",
            kept.display()
        ),
    );
    let login = home.dist(&["auth", "login", &host, "-u", "alice", "--password-stdin", "--helper", "box"]);
    run(&login.clone().stdin(CANARY)).expect_code(0);
    let stored: Value = serde_json::from_slice(&fs::read(&kept).unwrap()).unwrap();
    assert_eq!(stored, json!({ "ServerURL": host, "Username": "alice", "Secret": CANARY }));
    assert!(!fs::read_to_string(home.registries()).unwrap().contains(CANARY), "our own file only names the helper");
    run(&home.dist(&["pull", &registry.reference()])).expect_code(0);
    run(&home.dist(&["auth", "logout", &host])).expect_code(0);
    assert!(!kept.exists());
    assert_eq!(fs::read_to_string(home.at("kept.erased")).unwrap(), host);

    // One that is missing or fails is told, and nothing is saved.
    for (name, said) in [("gone", "is not in PATH"), ("bad", "failed (exit status: 3)")] {
        home.helper("bad", "cat >/dev/null; echo canary-7d1f >&2; exit 3");
        let command =
            home.dist(&["--json", "auth", "login", &host, "-u", "alice", "--password-stdin", "--helper", name]);
        let outcome = run(&command.stdin(CANARY));
        let error = error_of(&outcome, 5, "auth");
        assert!(error["message"].as_str().unwrap().contains(said), "{error}");
    }
    assert_eq!(home.json(&["auth", "ls"]), json!({ "logins": [] }));
}

#[test]
fn a_token_server_on_another_host_gets_the_login_only_when_it_is_trusted() {
    let tokens = LyingServer::start(|request, _| match request.header("authorization") {
        Some(_) => Response::ok(r#"{"token":"token-1"}"#),
        None => Response::status(401, ""),
    });
    let registry = Scenario::new(sample())
        .auth(Auth::bearer("alice", CANARY))
        .lie(Lie::Realm(format!("{}/token", tokens.url())))
        .start();
    let (home, host) = (Home::new(), registry.host());
    let pull = home.dist(&["pull", &registry.reference()]);
    let name = host.replace(['.', ':'], "_");
    let pull = pull
        .env(format!("GREENTIC_DIST_AUTH_{name}_USERNAME"), "alice")
        .env(format!("GREENTIC_DIST_AUTH_{name}_PASSWORD"), CANARY);
    let outcome = run(&pull);
    outcome.expect_code(6);
    let trust = format!("--trust-realm {host}={}", tokens.host());
    assert!(outcome.stderr.contains(&trust), "{}", outcome.stderr);
    assert!(tokens.journal().is_empty());
    let trusting = pull.clone().args(["--trust-realm", &format!("{host}={}", tokens.host())]);
    run(&trusting);
    assert!(tokens.journal().contains(CANARY) && !registry.journal().contains(CANARY));
    for wrong in ["ghcr.io", "=x", "a=", "a=b/c", "a b=c"] {
        home.dist(&["pull", "x.io/a:1", "--trust-realm", wrong]).output().expect_code(2);
    }
}

/// A registry at `http://registry.test` that wants a login, and a home that reaches it: through a proxy, since names in
/// `.test` lead nowhere.
fn behind_plain_http() -> (Home, LyingServer) {
    let registry = LyingServer::start(|request, _| match request.header("authorization") {
        Some(_) => Response::ok("{}"),
        None => Response::basic_challenge("registry.test"),
    });
    let home = Home::new();
    let dir = home.at("hosts/registry.test");
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join("hosts.toml"), "server = \"http://registry.test\"\n").unwrap();
    (home, registry)
}

#[test]
fn quirk_a20_a_login_for_plain_http_is_refused_unless_it_is_allowed_and_then_a_warning_says_it_once() {
    let (home, registry) = behind_plain_http();
    let hosts = home.at("hosts").display().to_string();
    let login = |flags: &[&str]| {
        let command =
            home.dist(&["--hosts-dir", &hosts, "auth", "login", "registry.test", "-u", "ann", "--password-stdin"]);
        run(&command.args(flags).env("http_proxy", registry.url()).stdin(CANARY))
    };
    let refused = login(&["--json"]);
    let error = error_of(&refused, 6, "policy");
    assert!(error["causes"].to_string().contains("the connection is plain HTTP"), "{error}");
    assert!(error["hints"].to_string().contains("--allow-http-login registry.test"), "{error}");
    assert!(!registry.journal().any_header_contains(CANARY), "nothing was sent");
    assert_eq!(home.json(&["auth", "ls"]), json!({ "logins": [] }), "and nothing is saved");

    let allowed = login(&["--allow-http-login", "registry.test"]);
    allowed.expect_code(0);
    assert_eq!(allowed.stderr.matches("in clear text").count(), 1, "{}", allowed.stderr);
    assert!(registry.journal().any_header_contains(CANARY));
    assert!(!allowed.stderr.contains(CANARY));
    // For that registry, and only for it.
    login(&["--allow-http-login", "other.test"]).expect_code(6);
    login(&["--allow-http-login", "registry.test/path"]).expect_code(2);
}
