//! What an interrupted command leaves behind: no program that it started, and a terminal that shows what is typed.

use std::fs;
use std::io::{Read, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use greentic_dist_testkit::{LyingServer, Response};

use crate::support::{BIN, Bench, CANARY, skip};

#[track_caller]
fn wait_until(what: &str, mut happened: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(30);
    while !happened() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn send(signal: &str, pid: &str) {
    assert!(Command::new("kill").args([format!("-{signal}"), pid.to_owned()]).status().unwrap().success());
}

/// The state of a process as Linux has it; `None` when there is none.
fn state(pid: &str) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

/// Whether a process does anything: one that ended may wait for somebody to look at it.
fn runs(pid: &str) -> bool {
    !matches!(state(pid), None | Some('Z' | 'X'))
}

#[cfg(target_os = "linux")]
#[test]
fn an_interrupted_command_ends_a_helper_that_hangs_with_everything_it_started() {
    for (signal, number) in [("INT", 2), ("TERM", 15), ("HUP", 1), ("QUIT", 3)] {
        let bench = Bench::new();
        let at = |name: &str| bench.path().join(name);
        fs::create_dir_all(at("bin")).unwrap();
        fs::create_dir_all(at(".docker")).unwrap();
        fs::write(at(".docker/config.json"), r#"{"credsStore":"hangs"}"#).unwrap();
        let helper = at("bin/docker-credential-hangs");
        let script = "#!/bin/sh\nsleep 600 &\necho $$ $! > \"$HOME/new\"\nmv \"$HOME/new\" \"$HOME/pids\"\nwait\n";
        fs::write(&helper, script).unwrap();
        fs::set_permissions(helper, fs::Permissions::from_mode(0o755)).unwrap();
        let server = LyingServer::start(|_, _| Response::basic_challenge("r"));
        // Whatever this test was told to ignore.
        let mut command = Command::new("env")
            .args(["--default-signal", BIN, "pull", &format!("{}/acme/hello:1", server.host())])
            .env("HOME", bench.path())
            .env("PATH", format!("{}:/usr/bin:/bin", at("bin").display()))
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        wait_until("the helper does not start", || at("pids").exists());
        let pids = fs::read_to_string(at("pids")).unwrap();
        assert!(pids.split_whitespace().all(runs), "{pids}");
        send(signal, &command.id().to_string());
        assert_eq!(command.wait().unwrap().signal(), Some(number), "{signal}");
        wait_until("something of the helper is left", || !pids.split_whitespace().any(runs));
    }
}

#[cfg(target_os = "linux")]
#[test]
fn what_a_command_was_told_to_ignore_it_ignores_while_a_helper_runs() {
    let bench = Bench::new();
    let at = |name: &str| bench.path().join(name);
    fs::create_dir_all(at("bin")).unwrap();
    fs::create_dir_all(at(".docker")).unwrap();
    fs::write(at(".docker/config.json"), r#"{"credsStore":"waits"}"#).unwrap();
    let helper = at("bin/docker-credential-waits");
    let script =
        "#!/bin/sh\necho > \"$HOME/begun\"\nread line\nwhile ! [ -e \"$HOME/go\" ]; do sleep 0.01; done\nexit 1\n";
    fs::write(&helper, script).unwrap();
    fs::set_permissions(helper, fs::Permissions::from_mode(0o755)).unwrap();
    let server = LyingServer::start(|_, _| Response::basic_challenge("r"));
    let mut command = Command::new("sh")
        .args(["-c", "trap '' HUP; exec \"$0\" \"$@\"", BIN, "pull", &format!("{}/acme/hello:1", server.host())])
        .env("HOME", bench.path())
        .env("PATH", format!("{}:/usr/bin:/bin", at("bin").display()))
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    wait_until("the helper does not start", || at("begun").exists());
    send("HUP", &command.id().to_string());
    fs::write(at("go"), "").unwrap();
    assert_eq!(command.wait().unwrap().code(), Some(5));
}

/// A shell on a terminal of its own that asks for a password, and then says how that ended and what the terminal does.
struct Terminal {
    script: Child,
    shown: Vec<u8>,
}

const PROMPT: &str = "r.example.com`: ";

impl Terminal {
    fn open(home: &Path) -> Self {
        let ask = format!(
            "trap : INT QUIT; ulimit -c 0; sh -c 'echo $$ > \"$HOME/pid\"; exec {BIN} auth login r.example.com \
             --username u --offline'; echo ended with $?; stty -a"
        );
        let script = Command::new("script")
            .args(["-qec", &ask, "/dev/null"])
            .env("HOME", home)
            .env("SHELL", "/bin/sh")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut terminal = Self { script, shown: Vec::new() };
        terminal.read_until(PROMPT, 1);
        terminal
    }

    fn shown(&self) -> String {
        String::from_utf8_lossy(&self.shown).into_owned()
    }

    #[track_caller]
    fn read_until(&mut self, text: &str, times: usize) {
        let mut piece = [0; 256];
        while self.shown().matches(text).count() < times {
            let read = self.script.stdout.as_mut().unwrap().read(&mut piece).unwrap();
            assert!(read > 0, "{}", self.shown());
            self.shown.extend_from_slice(&piece[..read]);
        }
    }

    fn press(&mut self, keys: &[u8]) {
        let stdin = self.script.stdin.as_mut().unwrap();
        stdin.write_all(keys).unwrap();
        stdin.flush().unwrap();
    }

    /// Everything that was shown, the terminal's modes at the end.
    fn end(mut self) -> String {
        let mut rest = Vec::new();
        self.script.stdout.take().unwrap().read_to_end(&mut rest).unwrap();
        self.shown.extend(rest);
        self.script.wait().unwrap();
        self.shown()
    }
}

#[track_caller]
fn assert_ended(shown: &str, code: i32) {
    assert!(shown.contains(&format!("ended with {code}")), "{shown}");
    let modes: Vec<&str> = shown.split(|ch: char| ch.is_whitespace() || ch == ';').collect();
    assert!(modes.contains(&"echo") && modes.contains(&"icanon") && modes.contains(&"isig"), "{shown}");
    assert!(!shown.contains(CANARY), "{shown}");
}

fn has_script(test: &str) -> bool {
    let available = Command::new("script").arg("--version").output().is_ok_and(|output| output.status.success());
    if !available {
        skip(test, "script is not installed");
    }
    available
}

#[test]
fn a_question_for_a_password_that_is_interrupted_leaves_the_terminal_as_it_was() {
    if !has_script("a_question_for_a_password_that_is_interrupted_leaves_the_terminal_as_it_was") {
        return;
    }
    for (signal, code) in [("TERM", 143), ("HUP", 129)] {
        let home = tempfile::tempdir().unwrap();
        let mut terminal = Terminal::open(home.path());
        terminal.press(CANARY.as_bytes());
        send(signal, fs::read_to_string(home.path().join("pid")).unwrap().trim());
        assert_ended(&terminal.end(), code);
    }
    for (keys, code) in [(&b"abc\x03"[..], 130), (b"abc\x1c", 131), (b"a\xff\xfe\r", 2), (b"\x04", 10)] {
        let home = tempfile::tempdir().unwrap();
        let mut terminal = Terminal::open(home.path());
        terminal.press(keys);
        assert_ended(&terminal.end(), code);
        assert!(!home.path().join(".config").exists());
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_question_for_a_password_can_be_stopped_and_gone_on_with() {
    if !has_script("a_question_for_a_password_can_be_stopped_and_gone_on_with") {
        return;
    }
    let home = tempfile::tempdir().unwrap();
    let mut terminal = Terminal::open(home.path());
    let (first, second) = CANARY.split_at(4);
    terminal.press(first.as_bytes());
    terminal.press(b"\x1a");
    let pid = fs::read_to_string(home.path().join("pid")).unwrap();
    wait_until("it does not stop", || state(pid.trim()) == Some('T'));
    send("CONT", pid.trim());
    terminal.read_until(PROMPT, 2);
    terminal.press(second.as_bytes());
    terminal.press(b"\r");
    assert_ended(&terminal.end(), 0);
    let kept = home.path().join(".config/greentic/dist/registry-auth.json");
    assert!(fs::read_to_string(kept).unwrap().contains(CANARY));
}

#[test]
fn too_few_files_for_a_runtime_are_a_failure_like_any_other() {
    for most in [4, 5, 6, 7] {
        let limited = format!("ulimit -n {most}; exec \"$0\" resolve 127.0.0.1:9/acme/hello:1 --json");
        let home = tempfile::tempdir().unwrap();
        let output = Command::new("sh").args(["-c", &limited, BIN]).env("HOME", home.path()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(10), "{most}: {said}");
        assert!(said.contains("cannot start a runtime") && !said.contains("panicked"), "{most}: {said}");
        let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(document["error"]["code"], "internal", "{most}: {document}");
    }
}
