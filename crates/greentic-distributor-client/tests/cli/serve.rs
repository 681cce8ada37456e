//! `greentic-dist serve` as a process, and everything that can be pointed at it.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, Command, Stdio};

use greentic_dist_testkit::{LyingServer, Response};
use greentic_dist_types::Digest;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{BIN, Bench, CANARY, error_of};

const PART: &[u8] = b"\0asm\x0d\0\x01\0 part";

/// A running server over a small tree.
struct Server {
    process: Child,
    ready: String,
    stdout: BufReader<std::process::ChildStdout>,
    _root: TempDir,
}

impl Server {
    fn start<const N: usize>(more: [&str; N]) -> Self {
        let root = tempfile::tempdir().unwrap();
        for (path, bytes) in [("components/part-1.2.0.wasm", PART), ("packs/kit-1.0.0.gtpack", b"PK")] {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
        Self::over(root, more)
    }

    fn over<const N: usize>(root: TempDir, more: [&str; N]) -> Self {
        let mut process = Command::new(BIN)
            .env_clear()
            .env("HOME", root.path().join("home"))
            .arg("serve")
            .arg("--root")
            .arg(root.path())
            .args(more)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdout = BufReader::new(process.stdout.take().unwrap());
        let mut ready = String::new();
        if more.contains(&"--json") {
            while !ready.contains('}') {
                assert_ne!(stdout.read_line(&mut ready).unwrap(), 0, "{ready}");
            }
        } else {
            stdout.read_line(&mut ready).unwrap();
        }
        Self { process, ready, stdout, _root: root }
    }

    fn url(&self) -> String {
        self.ready.trim().strip_prefix("listening on ").unwrap().to_owned()
    }

    /// Ends it as an operating system would; its exit code, the rest of its output and its log.
    fn terminate(mut self) -> (Option<i32>, String, String) {
        let killed = Command::new("kill").arg("-TERM").arg(self.process.id().to_string()).status().unwrap();
        assert!(killed.success());
        let (mut rest, mut log) = (String::new(), String::new());
        self.stdout.read_to_string(&mut rest).unwrap();
        self.process.stderr.take().unwrap().read_to_string(&mut log).unwrap();
        (self.process.wait().unwrap().code(), rest, log)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _over = self.process.kill();
        let _reaped = self.process.wait();
    }
}

#[test]
fn what_a_distributor_names_is_pulled_with_the_same_program_and_a_signal_ends_it_well() {
    let (server, bench) = (Server::start([]), Bench::new());
    let url = server.url();
    let answer = bench.run(["--json", "distributor", "resolve", "kit", "part", "1.2.0", "--url", &url]);
    answer.expect_code(0);
    assert_eq!(answer.json()["digest"], json!(Digest::sha256(PART).to_string()));
    let reference = answer.json()["artifact"]["reference"].as_str().unwrap().to_owned();
    assert_eq!(fs::read(bench.pull(&reference)).unwrap(), PART);
    // The same by tag, and what people read.
    let host = url.strip_prefix("http://").unwrap();
    assert_eq!(fs::read(bench.pull(&format!("{host}/components/part:1.2.0"))).unwrap(), PART);
    let text = bench.run(["distributor", "resolve", "kit", "part", "1.2.0", "--url", &url]);
    assert!(text.stdout.starts_with("status: ready\ndigest: sha256:"), "{}", text.stdout);

    let status = bench.run(["--json", "distributor", "status", "kit", "--url", &url]);
    assert_eq!(status.json()["extra"]["versions"], json!(["1.0.0"]));
    let status = bench.run(["--json", "distributor", "status", "kit", "--v1", "--url", &url]);
    assert_eq!(status.json(), json!({ "status": "ready", "versions": ["1.0.0"] }));
    let warmed = bench.run(["--json", "distributor", "warm", "kit", "--url", &url]);
    assert_eq!(warmed.json(), json!({ "pack": "kit", "warmed": true }));

    let (code, rest, log) = server.terminate();
    assert_eq!((code, rest.as_str()), (Some(0), ""));
    assert!(log.contains("127.0.0.1 POST /distributor-api/resolve-component 200 "), "{log}");
    assert!(log.contains("stopping: answers on their way have 10 s, and a second signal cuts them"), "{log}");
}

#[test]
fn a_log_that_nobody_reads_holds_up_no_answer_and_no_end() {
    let server = Server::start([]);
    let addr: std::net::SocketAddr = server.url().strip_prefix("http://").unwrap().parse().unwrap();
    // Far more than a pipe and the queue before it hold.
    let target = format!("/v2/packs/kit/manifests/{}", "x".repeat(1_000));
    for _ in 0..1_500 {
        assert_eq!(greentic_dist_testkit::raw_client::get(addr, &target).unwrap().status, 404);
    }
    let mut server = server;
    let killed = Command::new("kill").arg("-TERM").arg(server.process.id().to_string()).status().unwrap();
    assert!(killed.success());
    // It ends although its stderr was never read.
    assert_eq!(server.process.wait().unwrap().code(), Some(0));
}

#[test]
fn a_directory_without_packs_and_components_is_served_and_said_to_have_none() {
    let root = tempfile::tempdir().unwrap();
    let server = Server::over(root, ["--token", CANARY, "--listen", "0.0.0.0:0"]);
    let port = server.url().rsplit(':').next().unwrap().to_owned();
    let (code, _, log) = server.terminate();
    assert_eq!(code, Some(0));
    assert!(log.contains("has neither `packs/` nor `components/`"), "{log}");
    assert!(log.contains(&format!("from here it is http://127.0.0.1:{port}")), "{log}");
}

#[test]
fn readiness_is_one_json_document_and_bad_starts_have_their_exit_codes() {
    let server = Server::start(["--json"]);
    let ready: Value = serde_json::from_str(&server.ready).unwrap();
    assert_eq!(ready["url"], json!(format!("http://{}", ready["addr"].as_str().unwrap())));
    let bench = Bench::new();
    let taken = ready["addr"].as_str().unwrap().to_owned();
    error_of(&bench.run(["--json", "serve", "--root", ".", "--listen", &taken]), 2, "invalid_input");
    let open = error_of(&bench.run(["--json", "serve", "--root", ".", "--listen", "0.0.0.0:0"]), 2, "invalid_input");
    assert!(open["hints"][0].as_str().unwrap().contains("GREENTIC_DIST_SERVE_TOKEN"), "{open}");
    error_of(&bench.run(["--json", "serve", "--root", "/nowhere/at/all"]), 3, "not_found");
    error_of(&bench.run(["--json", "--offline", "serve", "--root", "."]), 4, "offline");
    let (code, rest, _log) = server.terminate();
    assert_eq!((code, rest.as_str()), (Some(0), ""));
}

#[test]
fn row_85_a_token_is_asked_for_and_stands_in_no_output() {
    let server = Server::start(["--token", CANARY]);
    let (url, bench) = (server.url(), Bench::new());
    let refused = bench.run(["--json", "distributor", "status", "kit", "--url", &url]);
    let error = error_of(&refused, 5, "auth");
    assert!(error["hints"][0].as_str().unwrap().contains("GREENTIC_DISTRIBUTOR_TOKEN"), "{error}");
    let run = |token: &str| {
        bench.dist(["distributor", "status", "kit", "--url", &url]).env("GREENTIC_DISTRIBUTOR_TOKEN", token).output()
    };
    run("wrong").expect_code(5);
    run(CANARY).expect_code(0);
    let (_, rest, log) = server.terminate();
    assert!(!rest.contains(CANARY) && !log.contains(CANARY), "{log}");
}

#[test]
fn questions_to_a_distributor_fail_with_the_codes_of_everything_else() {
    let (server, bench) = (Server::start([]), Bench::new());
    let url = server.url();
    let ask = |args: [&str; 6]| bench.run(args);
    error_of(&ask(["--json", "distributor", "status", "none", "--url", &url]), 3, "not_found");
    error_of(&bench.run(["--json", "distributor", "status", "kit"]), 2, "invalid_input");
    error_of(&ask(["--json", "distributor", "status", "kit", "--url", "ftp://x"]), 2, "invalid_input");
    error_of(&bench.run(["--json", "--offline", "distributor", "warm", "kit", "--url", &url]), 4, "offline");
    let bad_tenant = bench.run(["--json", "distributor", "warm", "kit", "--url", &url, "--tenant", "a b"]);
    error_of(&bad_tenant, 2, "invalid_input");
    error_of(&bench.run(["--json", "distributor", "warm", "", "--url", &url]), 2, "invalid_input");
    error_of(&bench.run(["--json", "distributor", "warm", "kit", "--url", &url, "--timeout", "0"]), 2, "invalid_input");
    // A version that is none is the question's fault, not the distributor's.
    let bad_version = bench.run(["--json", "distributor", "resolve", "kit", "part", "one", "--url", &url]);
    error_of(&bad_version, 2, "invalid_input");
    drop(server);
    for args in [["distributor", "status", "kit", "--url", &url], ["distributor", "warm", "kit", "--url", &url]] {
        let output = bench.run(args);
        let told = &output.stderr;
        assert!(told.contains(&format!("cannot ask the distributor {url} about `kit`")), "{told}");
        assert_eq!(output.code, Some(7));
    }
    let odd = |answer: fn() -> Response| {
        let odd = LyingServer::start(move |_, _| answer());
        ask(["--json", "distributor", "status", "kit", "--url", &format!("http://{}", odd.host())])
    };
    let not_json = odd(|| Response::ok("not json").header("Content-Type", "application/json"));
    let told = error_of(&not_json, 10, "internal").to_string();
    assert!(told.contains("http://127.0.0.1") && told.contains("`kit`"), "{told}");
    error_of(&odd(|| Response::status(408, "")), 7, "temporary");
    error_of(&odd(|| Response::status(418, "")), 10, "internal");
    let spaced = bench.run(["distributor", "status", "kit", "--url", "http://127.0.0.1:1 "]);
    assert!(spaced.stderr.contains("the distributor of --url cannot be asked"), "{spaced:?}");
    assert_eq!(spaced.code, Some(2));
}
