//! `catalog resolve|show|ls|update`: which catalog, what is printed, and what each failure exits with.

use std::fs;
use std::path::{Path, PathBuf};

use greentic_dist_serve::{Registry, RunningRegistry};
use greentic_dist_testkit::fixture::{self, Artifact, MANIFEST_TYPE};
use greentic_dist_testkit::process::{Outcome, Run};
use greentic_dist_testkit::scenario::{Lie, Part, Scenario};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{BIN, error_of};

const CATALOG_VARIABLE: &str = "GREENTIC_OPERATOR_WIZARD_CATALOG";
const REFERENCE_VARIABLE: &str = "GTC_PROVIDER_REGISTRY_REF";

/// A catalog with providers of these ids.
pub(crate) fn document(ids: &[&str]) -> Vec<u8> {
    let item = |id: &&str| json!({ "id": id, "label": { "fallback": format!("The {id}") }, "category": "messaging", "ref": format!("oci://ghcr.io/acme/packs/{id}:1") });
    let items: Vec<Value> = ids.iter().map(item).collect();
    let categories = json!([{ "id": "messaging", "label": { "fallback": "Messaging" } }]);
    json!({ "registry_version": "providers@1", "categories": categories, "items": items }).to_string().into_bytes()
}

pub(crate) fn artifact(ids: &[&str]) -> Artifact {
    fixture::artifact("application/json", document(ids))
}

/// A bundle to stand in, with a cache of artifacts beside it that nothing of this may touch.
pub(crate) struct Bundle(TempDir);

impl Bundle {
    pub(crate) fn new() -> Self {
        let dir = TempDir::new().unwrap();
        fs::create_dir(dir.path().join("bundle")).unwrap();
        Self(dir)
    }

    pub(crate) fn dir(&self) -> PathBuf {
        self.0.path().join("bundle")
    }

    pub(crate) fn cache(&self) -> PathBuf {
        self.dir().join(".greentic/cache/provider-registry")
    }

    /// A file beside the bundle.
    pub(crate) fn file(&self, name: &str, bytes: &[u8]) -> String {
        let path = self.0.path().join(name);
        fs::write(&path, bytes).unwrap();
        path.display().to_string()
    }

    pub(crate) fn command(&self, args: &[&str]) -> Run {
        Run::new(BIN).arg("--cache-dir").arg(self.0.path().join("artifacts")).arg("catalog").args(args).dir(self.dir())
    }

    pub(crate) fn run(&self, args: &[&str]) -> Outcome {
        self.command(args).output()
    }

    /// What stands at the path that was printed, as it is seen from the bundle.
    #[track_caller]
    pub(crate) fn read(&self, outcome: &Outcome) -> Vec<u8> {
        fs::read(self.dir().join(outcome.expect_code(0).line())).unwrap()
    }
}

/// A registry with `acme/providers:latest`, which can be changed.
struct Shop(Registry, RunningRegistry);

impl Shop {
    fn new() -> Self {
        let registry = Registry::in_memory();
        let running = registry.start(([127, 0, 0, 1], 0).into()).unwrap();
        let shop = Self(registry, running);
        shop.publish(&["a", "b"]);
        shop
    }

    fn publish(&self, ids: &[&str]) -> Artifact {
        let artifact = artifact(ids);
        self.put(&artifact);
        artifact
    }

    fn put(&self, artifact: &Artifact) {
        for blob in artifact.blobs() {
            self.0.put_blob(blob.bytes.clone()).unwrap();
        }
        self.0.put_manifest("acme/providers", &["latest"], MANIFEST_TYPE, &artifact.manifest_bytes).unwrap();
    }

    fn reference(&self) -> String {
        format!("oci://{}/acme/providers:latest", self.1.host())
    }
}

#[test]
fn resolve_prints_the_path_of_the_copy_in_the_bundle() {
    let (bundle, shop) = (Bundle::new(), Shop::new());
    let outcome = bundle.run(&["resolve", &shop.reference()]);
    assert_eq!(bundle.read(&outcome), document(&["a", "b"]));
    assert_eq!(outcome.stderr, "");
    assert!(bundle.dir().join(outcome.line()).starts_with(bundle.dir().join("./.greentic/cache/provider-registry")));
    assert_eq!(shop.0.requests(), 2);
    // Again, and offline, nobody is asked.
    for args in [&["resolve", &shop.reference()][..], &["--offline", "resolve", &shop.reference()]] {
        assert_eq!(bundle.run(args).line(), outcome.line());
    }
    assert_eq!(shop.0.requests(), 2);
    assert!(!bundle.0.path().join("artifacts").exists(), "the cache of artifacts is not used");
    // The same from elsewhere.
    let dir = bundle.dir().display().to_string();
    let outcome = Run::new(BIN).args(["catalog", "resolve", "--offline", "--bundle", &dir, &shop.reference()]).output();
    assert_eq!(fs::read(outcome.line()).unwrap(), document(&["a", "b"]));
}

#[test]
fn a_flag_beats_every_variable_and_a_file_beats_a_reference_of_its_rank() {
    let bundle = Bundle::new();
    let [flag_file, flag_ref, env_file, env_ref] =
        ["flag-file", "flag-ref", "env-file", "env-ref"].map(|name| bundle.file(name, &document(&[name])));
    let (file, reference) = ((CATALOG_VARIABLE, env_file.as_str()), (REFERENCE_VARIABLE, env_ref.as_str()));
    let both = [file, reference];
    for (flags, variables, expected) in [
        (&["--catalog-file", &flag_file, "--provider-registry", &flag_ref][..], &both[..], &flag_file),
        (&["--catalog-file", &flag_file], &both, &flag_file),
        (&["--provider-registry", &flag_ref], &both, &flag_ref),
        (&[&flag_ref], &both, &flag_ref),
        (&[&flag_ref, "--catalog-file", &flag_file], &both, &flag_file),
        (&["--provider-registry", &flag_ref], &[file], &flag_ref),
        (&[], &both, &env_file),
        (&[], &[reference], &env_ref),
        (&[], &[(CATALOG_VARIABLE, ""), reference], &env_ref),
    ] {
        for command in ["resolve", "show", "ls"] {
            let run = variables
                .iter()
                .fold(bundle.command(&[command, "--json"]).args(flags), |run, (name, value)| run.env(name, value));
            let outcome = run.output();
            let document = outcome.expect_code(0).json();
            let name = Path::new(expected).file_name().unwrap().to_str().unwrap();
            let listed = if command == "ls" { &document[0]["id"] } else { &document["items"][0] };
            assert_eq!(listed, name, "{command} {flags:?} {variables:?}");
        }
    }
    // Nothing said: the published one.
    let error = error_of(&bundle.run(&["resolve", "--offline", "--json"]), 4, "offline");
    let message = error["message"].as_str().unwrap();
    assert!(message.contains("`oci://ghcr.io/greenticai/registries/providers:latest`"), "{message}");
    // Both ways to say a reference at once are one too many.
    bundle.run(&["resolve", &flag_ref, "--provider-registry", &flag_ref]).expect_code(2);
    error_of(&bundle.run(&["resolve", "--json", "--provider-registry", " "]), 2, "invalid_input");
    let blank = bundle.command(&["resolve", "--offline", "--json"]).env(REFERENCE_VARIABLE, "  ").output();
    let error = error_of(&blank, 4, "offline");
    assert_eq!(error["reference"], "oci://ghcr.io/greenticai/registries/providers:latest");
    let outcome = bundle.run(&["ls", "--catalog-file", "https://me:canary-7d1f@host/x"]);
    assert!(outcome.code == Some(3) && !outcome.says("canary-7d1f"), "{outcome:?}");
}

#[test]
fn show_says_where_it_came_from_and_what_it_lists() {
    let (bundle, shop) = (Bundle::new(), Shop::new());
    let published = artifact(&["a", "b"]);
    let outcome = bundle.run(&["show", "--json", &shop.reference()]);
    let shown = outcome.expect_code(0).json();
    let path = shown["path"].as_str().unwrap().to_owned();
    let (fetched_at, age) = (shown["fetched_at"].as_u64().unwrap(), shown["age_seconds"].as_u64().unwrap());
    assert_eq!(
        shown,
        json!({
            "path": path,
            "reference": shop.reference(),
            "resolved_reference": shop.reference().trim_start_matches("oci://"),
            "source": "network",
            "origin": "registry",
            "digest": published.manifest_digest.to_string(),
            "content_digest": published.layer_digest().to_string(),
            "size_bytes": published.layer_bytes().len(),
            "media_type": "application/json",
            "stale": false,
            "vouched": false,
            "fetched_at": fetched_at,
            "checked_at": fetched_at,
            "age_seconds": age,
            "refresh_failure": null,
            "registry_version": "providers@1",
            "categories": ["messaging"],
            "item_count": 2,
            "items": ["a", "b"],
            "unreadable": null,
        })
    );
    let text = bundle.run(&["show", &shop.reference()]).stdout;
    for line in ["source: cache", "media type: application/json", "providers: 2", "category messaging: 2 (Messaging)"] {
        assert!(text.lines().any(|shown| shown == line), "{line}: {text}");
    }
    assert!(text.contains("checked: ") && text.contains(&published.manifest_digest.to_string()), "{text}");
    // What cannot be read is shown as what it is.
    let odd = bundle.file("odd.json", br#"{"registry_version":"providers@7","items":[]}"#);
    let text = bundle.run(&["show", &odd]).expect_code(0).stdout.clone();
    assert!(text.contains("providers: unknown") && text.contains("providers@7"), "{text}");
}

#[test]
fn ls_lists_the_providers_and_refuses_what_is_no_catalog() {
    let bundle = Bundle::new();
    let list = json!([
        { "id": "a", "label": "\u{1b}[31mA", "reference": "oci://g.io/a" },
        { "id": "longer", "label": "L", "reference": "oci://g.io/l", "category": "events" },
    ]);
    let file = bundle.file("list.json", list.to_string().as_bytes());
    assert_eq!(bundle.run(&["ls", &file]).stdout, "a       -       oci://g.io/a\nlonger  events  oci://g.io/l\n");
    let listed = bundle.run(&["ls", "--json", &file]).json();
    assert_eq!(
        listed[1],
        json!({ "id": "longer", "label": "L", "i18n_key": null, "category": "events", "reference": "oci://g.io/l" })
    );
    let yaml = bundle.file("list.yaml", b"- id: y\n  reference: oci://g.io/y\n");
    assert_eq!(bundle.run(&["ls", &yaml]).stdout, "y  -  oci://g.io/y\n");
    for (text, said) in [
        ("", "empty"),
        ("{}", "no `items`"),
        (r#"[{"id":"a\u001b[2J","reference":"x"}]"#, "[0].id: it holds a control"),
        (r#"[{"id":"a","reference":"x"},{"id":"a","reference":"x"}]"#, "the provider `a` stands there twice"),
    ] {
        let file = bundle.file("bad.json", text.as_bytes());
        let error = error_of(&bundle.run(&["ls", "--json", &file]), 2, "invalid_input");
        assert!(error.to_string().contains(said) && error.to_string().contains("bad.json"), "{error}");
    }
}

#[test]
fn update_says_whether_anything_changed_and_asks_once_when_not() {
    let (bundle, shop) = (Bundle::new(), Shop::new());
    let first = artifact(&["a", "b"]).manifest_digest;
    assert_eq!(bundle.run(&["update", &shop.reference()]).line(), format!("changed {first}"));
    let asked = shop.0.requests();
    assert_eq!(bundle.run(&["update", &shop.reference()]).line(), format!("unchanged {first}"));
    assert_eq!(shop.0.requests(), asked + 1);
    let second = shop.publish(&["c"]).manifest_digest;
    let updated = bundle.run(&["update", "--json", &shop.reference()]).json();
    assert_eq!((&updated["changed"], &updated["previous_digest"]), (&json!(true), &json!(first.to_string())));
    assert_eq!((&updated["digest"], &updated["items"]), (&json!(second.to_string()), &json!(["c"])));
    // There is nothing to ask for a file; and nobody to ask offline.
    let file = bundle.file("list.json", &document(&["x"]));
    let outcome = bundle.run(&["update", &file]);
    assert!(outcome.line().starts_with("unchanged sha256:") && outcome.stderr.contains("as it is"), "{outcome:?}");
    let error = error_of(&bundle.run(&["update", "--offline", "--json", &shop.reference()]), 4, "offline");
    assert!(error["hints"].to_string().contains("GREENTIC_DIST_OFFLINE=1"), "{error}");
    assert_eq!(bundle.run(&["update", "--offline", &shop.reference()]).stderr.matches("offline mode wins").count(), 1);
    // What was not taken over is a failure as well.
    let errors = fixture::artifact("application/json", br#"{"errors":[{"code":"UNAUTHORIZED"}]}"#.to_vec());
    shop.put(&errors);
    let error = error_of(&bundle.run(&["update", "--json", &shop.reference()]), 10, "internal");
    assert!(error["causes"].to_string().contains("no `items`"), "{error}");
    // A registry that does not answer is a failure here, and the copy stays.
    let reference = shop.reference();
    drop(shop);
    let outcome = bundle.run(&["update", "--json", &reference]);
    let error = error_of(&outcome, 7, "temporary");
    assert!(error["message"].as_str().unwrap().contains(&reference), "{error}");
    // The chain cause by cause, and nothing of a copy that is used: it is not.
    assert!(error["causes"].as_array().unwrap().len() > 1, "{error}");
    assert!(!outcome.stderr.contains("cached copy is used"), "{}", outcome.stderr);
    assert_eq!(bundle.read(&bundle.run(&["resolve", &reference])), document(&["c"]));
}

#[test]
fn a_refresh_that_fails_warns_once_and_uses_the_copy() {
    let (bundle, shop) = (Bundle::new(), Shop::new());
    let reference = shop.reference();
    bundle.run(&["resolve", &reference]).expect_code(0);
    shop.publish(&["new"]);
    // Offline wins, and says so.
    let offline = bundle.run(&["resolve", "--offline", "--refresh", &reference]);
    assert_eq!(bundle.read(&offline), document(&["a", "b"]));
    assert!(offline.stderr.contains("offline mode wins over a refresh"), "{}", offline.stderr);
    // So does the name that other programs have for the flag.
    let refreshed = bundle.run(&["resolve", "--provider-registry-refresh", &reference]);
    assert_eq!(bundle.read(&refreshed), document(&["new"]));
    drop(shop);
    let outcome = bundle.run(&["resolve", "--refresh", &reference]);
    assert_eq!(bundle.read(&outcome), document(&["new"]));
    assert_eq!(outcome.stderr.matches("a refresh failed").count(), 1, "{}", outcome.stderr);
    let shown = bundle.run(&["show", "--json", "--refresh", &reference]).json();
    assert_eq!((&shown["stale"], &shown["refresh_failure"]["code"]), (&json!(true), &json!("temporary")));
    assert!(bundle.run(&["show", "--refresh", &reference]).stdout.contains("stale: "));
}

#[test]
fn nobody_else_may_write_to_what_is_made_whatever_the_umask() {
    use std::os::unix::fs::PermissionsExt as _;
    let (bundle, shop) = (Bundle::new(), Shop::new());
    let run = bundle.command(&["resolve", &shop.reference()]).below("sh", ["-c", "umask 000; exec \"$@\"", "sh"]);
    run.output().expect_code(0);
    let mut dirs = vec![bundle.dir().join(".greentic")];
    let mut seen = 0;
    while let Some(dir) = dirs.pop() {
        for path in fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path()).chain([dir.clone()]) {
            let meta = fs::symlink_metadata(&path).unwrap();
            assert_eq!(meta.permissions().mode() & 0o022, 0, "{}", path.display());
            seen += 1;
            if meta.is_dir() && path != dir {
                dirs.push(path);
            }
        }
    }
    assert!(seen > 10, "{seen}");
}

#[test]
fn an_index_that_was_torn_is_told_once_and_in_nobodys_way() {
    let (bundle, shop) = (Bundle::new(), Shop::new());
    bundle.run(&["resolve", &shop.reference()]).expect_code(0);
    fs::write(bundle.cache().join("index.json"), "{\"refs\": {\"oci").unwrap();
    let outcome = bundle.run(&["resolve", "--offline", &shop.reference()]);
    assert_eq!(bundle.read(&outcome), document(&["a", "b"]));
    assert!(outcome.stderr.contains("index.json") && outcome.stderr.contains("written anew"), "{}", outcome.stderr);
    assert_eq!(bundle.run(&["resolve", "--offline", &shop.reference()]).stderr, "");
}

#[test]
fn every_failure_has_its_exit_code_and_says_how_to_go_on() {
    let bundle = Bundle::new();
    let page = fixture::artifact("application/json", b"<html>log in</html>".to_vec());
    let registry = Scenario::new(page).repository("acme/providers").tag("latest").start();
    let (page, missing) =
        (format!("oci://{}", registry.reference()), format!("oci://{}", registry.reference_to("none")));
    for (reference, exit, code, said) in [
        ("/nowhere/catalog.json", 3, "not_found", "does not exist"),
        ("ghcr.io/acme/providers:1", 3, "not_found", "as in `oci://ghcr.io/acme/providers:1`"),
        (".", 2, "invalid_input", "not a regular file"),
        ("https://host/catalog.json", 2, "invalid_input", "accepted are `oci://`"),
        ("oci://acme/providers", 2, "invalid_input", "names no registry"),
        ("repo://providers", 5, "auth", "GREENTIC_REPO_REGISTRY_BASE"),
        ("store://providers", 5, "auth", "GREENTIC_STORE_REGISTRY_BASE"),
        ("oci://127.0.0.1:1/acme/providers:1", 7, "temporary", "--provider-registry file://<path>"),
        (&page, 10, "internal", "no catalog"),
        (&page, 10, "internal", "greentic-dist inspect"),
        (&missing, 3, "not_found", "manifest unknown"),
    ] {
        let error = error_of(&bundle.run(&["resolve", "--json", reference]), exit, code);
        let told = error.to_string();
        assert!(told.contains(said), "{reference}: {told}");
        // Advice stands in the hints alone.
        let message = error["message"].as_str().unwrap();
        for hint in error["hints"].as_array().unwrap() {
            assert!(!message.contains(hint.as_str().unwrap()), "{told}");
        }
    }
    registry.lie(Lie::status(Part::All, 401));
    error_of(&bundle.run(&["resolve", "--json", &page]), 5, "auth");
    // Nothing was cached by any of this.
    let files = |dir: &str| fs::read_dir(bundle.cache().join(dir)).map_or(0, Iterator::count);
    assert_eq!((files("by-digest"), files("records"), bundle.cache().join("index.json").exists()), (0, 0, false));
}

#[test]
fn a_catalog_file_that_is_not_there_is_not_found_by_any_command() {
    let bundle = Bundle::new();
    let missing = bundle.dir().join("nope.json").display().to_string();
    for command in ["resolve", "show", "ls", "update"] {
        for args in [&["--json", command, "--catalog-file", &missing][..], &["--json", command, &missing]] {
            let error = error_of(&bundle.run(args), 3, "not_found");
            assert!(error["message"].as_str().unwrap().contains("nope.json"), "{args:?} {error}");
        }
        let run = bundle.command(&["--json", command]).env(CATALOG_VARIABLE, &missing);
        error_of(&run.output(), 3, "not_found");
        error_of(&bundle.run(&["--json", command, "--catalog-file", "."]), 2, "invalid_input");
    }
}

#[test]
fn processes_that_meet_on_an_empty_bundle_agree_and_raise_no_alarm() {
    let (bundle, shop) = (Bundle::new(), Shop::new());
    let running: Vec<_> = (0..6).map(|_| bundle.command(&["update", &shop.reference()]).spawn()).collect();
    let digest = artifact(&["a", "b"]).manifest_digest.to_string();
    for process in running {
        let outcome = process.wait();
        assert!(outcome.expect_code(0).line().ends_with(&digest), "{outcome:?}");
        assert_eq!(outcome.stderr, "");
    }
    assert_eq!(bundle.read(&bundle.run(&["resolve", "--offline", &shop.reference()])), document(&["a", "b"]));
}

#[test]
fn bases_are_read_from_the_environment_of_the_command() {
    let (bundle, shop) = (Bundle::new(), Shop::new());
    let base = format!("{}/acme", shop.1.host());
    for (scheme, variable) in [("repo", "GREENTIC_REPO_REGISTRY_BASE"), ("store", "GREENTIC_STORE_REGISTRY_BASE")] {
        let outcome =
            bundle.command(&["resolve", &format!("{scheme}://providers@latest")]).env(variable, &base).output();
        assert_eq!(bundle.read(&outcome), document(&["a", "b"]));
    }
}

#[test]
fn the_repositories_of_a_registry_are_listed_and_a_bare_word_is_sent_to_nobody() {
    let (bundle, shop) = (Bundle::new(), Shop::new());
    assert_eq!(bundle.run(&[&shop.1.host()]).line(), "acme/providers");
    assert_eq!(bundle.run(&[&format!("oci://{}/", shop.1.host()), "--limit", "1"]).line(), "acme/providers");
    bundle.run(&[]).expect_code(2);
    for args in [&["--json", &shop.1.host(), "ls"][..], &["--json", "--limit", "3", "ls"]] {
        error_of(&bundle.run(args), 2, "invalid_input");
    }
    for name in ["lss", "oci://ls", "providers", ""] {
        let error = error_of(&bundle.run(&["--json", name]), 2, "invalid_input");
        assert!(error.to_string().contains("names no registry") && error.to_string().contains("`ls`"), "{error}");
    }
    // With a port it is a registry, and may be called like a command.
    for name in ["ls:1", "oci://show:443", "localhost", "registry.example"] {
        error_of(&bundle.run(&["--offline", "--json", name]), 4, "offline");
    }
}
