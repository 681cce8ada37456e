//! `--splay`: a random wait before the first request, and none where nothing is asked.

use greentic_dist_testkit::process::Outcome;

use crate::support::{Bench, error_of, registry, sample};

/// What is said while the first request waits.
const WAITING: &str = "before the first request (--splay)";

fn waits(outcome: &Outcome) -> usize {
    outcome.stderr.lines().filter(|line| line.starts_with("waiting ") && line.ends_with(WAITING)).count()
}

#[test]
fn a_command_that_fetches_waits_once_before_its_first_request() {
    let (bench, registry) = (Bench::new(), registry());
    let (tag, pinned) = (registry.reference(), registry.pinned());
    let outcome = bench.run(["pull", "--splay", "1s", &tag, &pinned]);
    assert_eq!(waits(outcome.expect_code(0)), 1, "{}", outcome.stderr);
    // What a tag means has to be asked, also of a cache that has it.
    let outcome = bench.run(["pull", "--splay", "1", &tag]);
    assert_eq!(waits(outcome.expect_code(0)), 1, "{}", outcome.stderr);
    let staged = Bench::new().run(["bundle", "stage", "--splay", "1s", &pinned]);
    assert_eq!(waits(staged.expect_code(0)), 1, "{}", staged.stderr);
    let url = format!("{}/v2/acme/hello/blobs/{}", registry.url(), sample().layer_digest());
    let outcome =
        Bench::new().dist(["pull", "--splay", "1s", &url]).env("GREENTIC_DIST_ALLOW_INSECURE_LOCAL_HTTP", "1");
    let outcome = outcome.output();
    assert_eq!(waits(outcome.expect_code(0)), 1, "{}", outcome.stderr);
    for args in [["pack", &pinned, "--splay", "1s"], ["pack", "fetch", "--splay=1s", &pinned]] {
        // It is no pack, which is known when the wait is over.
        assert_eq!(waits(&Bench::new().run(args)), 1, "{args:?}");
    }
}

#[test]
fn nothing_is_waited_for_where_nothing_is_asked() {
    let (bench, registry) = (Bench::new(), registry());
    let pinned = registry.pinned();
    let outcome = bench.run(["pull", "--splay", "0s", &pinned]);
    assert_eq!(waits(outcome.expect_code(0)), 0, "{}", outcome.stderr);
    registry.journal().clear();
    // These would take most of an hour.
    for args in [&["pull", "--splay", "1h", &pinned][..], &["bundle", "stage", "--splay", "60m", &pinned]] {
        let outcome = bench.dist([]).args(args).output();
        assert_eq!(waits(outcome.expect_code(0)), 0, "{}", outcome.stderr);
    }
    let offline = Bench::new().run(["--json", "--offline", "pull", "--splay", "1h", &registry.reference()]);
    error_of(&offline, 4, "offline");
    assert_eq!(waits(&offline), 0, "{}", offline.stderr);
    let file = Bench::new().dist(["pull", "--splay", "1h"]).arg(bench.sentinel()).output();
    assert_eq!(waits(file.expect_code(0)), 0, "{}", file.stderr);
    assert!(registry.journal().is_empty());
}

#[test]
fn a_splay_that_is_none_or_too_long_or_longer_than_the_deadline_is_refused() {
    let (bench, registry) = (Bench::new(), registry());
    let reference = registry.reference();
    for wrong in ["", "x", "-1s", "1h30m", "61m", "2h", "3601", "1 fortnight"] {
        let splay = format!("--splay={wrong}");
        let outcome = bench.run(["pull", &splay, &reference]);
        assert!(outcome.expect_code(2).stderr.contains("at most 1h"), "{wrong}: {}", outcome.stderr);
    }
    for (deadline, splay) in [("10s", "10s"), ("1s", "30s")] {
        let outcome = bench.run(["--json", "pull", "--deadline", deadline, "--splay", splay, &reference]);
        let error = error_of(&outcome, 2, "invalid_input");
        assert!(error["message"].as_str().unwrap().contains("`--deadline`"), "{error}");
    }
    assert!(registry.journal().is_empty());
    bench.run(["pull", "--deadline", "1m", "--splay", "1s", &reference]).expect_code(0);
    bench.run(["pull", "--deadline", "1m", "--splay", "0", &reference]).expect_code(0);
}
