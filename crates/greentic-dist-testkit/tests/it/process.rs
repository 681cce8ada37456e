//! Programs run as told.

use std::time::Duration;

use greentic_dist_testkit::process::Run;

fn sh(script: &str) -> Run {
    Run::new("sh").args(["-c", script])
}

#[test]
fn the_environment_is_clean_and_home_is_empty() {
    let outcome = sh("env | cut -d= -f1 | grep -v -e PWD -e SHLVL -e _ | sort; ls -A \"$HOME\"; echo no >&2; exit 3")
        .env("WANTED", "1")
        .output();
    assert_eq!(outcome.stdout, "HOME\nPATH\nWANTED\n");
    assert_eq!((outcome.code, outcome.stderr.as_str()), (Some(3), "no\n"));
}

#[test]
fn a_program_is_killed_when_something_is_so() {
    let dir = tempfile::tempdir().unwrap();
    let mark = dir.path().join("mark");
    let outcome = sh("echo before; : > \"$MARK\"; sleep 600; echo after").env("MARK", &mark).spawn();
    let outcome = outcome.kill_when(|| mark.exists());
    assert_eq!((outcome.code, outcome.stdout.as_str()), (None, "before\n"));
}

#[test]
#[should_panic(expected = "ended before it could be killed")]
fn a_program_that_ends_too_early_is_a_failure() {
    sh("exit 0").spawn().kill_when(|| false);
}

#[test]
#[should_panic(expected = "did not end within")]
fn a_program_that_hangs_is_a_failure() {
    sh("exec sleep 600").limit(Duration::from_millis(50)).output();
}

#[test]
fn peak_memory_is_that_of_the_program() {
    let outcome = sh("exec sleep 0.3").output();
    if let Some(peak) = outcome.peak_rss_bytes {
        assert!((100 << 10..64 << 20).contains(&peak), "{peak}");
    }
}
