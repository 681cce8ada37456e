//! What a `registries.conf` says, understood as skopeo understands it: both read the same file, and the logs of the servers tell whom
//! they asked. Where this client differs on purpose, the test says in which.

use std::fs;

use greentic_dist_testkit::fixture::{self, Artifact, WASM_TYPE};
use greentic_dist_testkit::real::{DockerRegistry, ready, skopeo, skopeo_push_artifacts};

use crate::machine::Machine;

/// Three registries. `O` has the artifact as `acme/hello:1` and as `moved/hello:1`, `M` has it as `acme/hello:1`, `E` is empty.
struct Stage {
    artifact: Artifact,
    servers: [(&'static str, DockerRegistry); 3],
}

/// What came of a question: whether the artifact came, what each server was asked for by manifests, and who sent the layer.
#[derive(Debug, PartialEq, Eq)]
struct Told {
    worked: bool,
    manifests: Vec<String>,
    layer: Vec<String>,
}

impl Stage {
    fn start(test: &str) -> Option<Self> {
        if !ready(test, &["docker-registry", "skopeo"]) {
            return None;
        }
        let artifact = fixture::artifact(WASM_TYPE, fixture::random_bytes(51, 20_000));
        let servers = ["O", "M", "E"].map(|name| (name, DockerRegistry::open()));
        let stage = Self { artifact, servers };
        for (server, repository) in [("O", "acme/hello"), ("O", "moved/hello"), ("M", "acme/hello")] {
            let reference = format!("{}/{repository}:1", stage.host(server));
            skopeo_push_artifacts(std::slice::from_ref(&stage.artifact), &reference, None);
        }
        Some(stage)
    }

    fn host(&self, name: &str) -> String {
        let (_, server) = self.servers.iter().find(|(known, _)| *known == name).unwrap();
        server.host()
    }

    /// The text with the hosts in the place of `{O}`, `{M}` and `{E}`, and of `{digest}` what the artifact is pinned by.
    fn filled(&self, text: &str) -> String {
        let text = self
            .servers
            .iter()
            .fold(text.to_owned(), |text, (name, server)| text.replace(&format!("{{{name}}}"), &server.host()));
        text.replace("{digest}", &self.artifact.manifest_digest.to_string())
    }

    /// What the servers were asked while `ask` ran, which tells whether it worked.
    fn told(&self, ask: impl FnOnce() -> bool) -> Told {
        let before = self.servers.each_ref().map(|(_, server)| server.requests().len());
        let worked = ask();
        let (mut manifests, mut layer) = (Vec::new(), Vec::new());
        let blob = format!("/blobs/{} 200", self.artifact.layer_digest());
        for ((name, server), before) in self.servers.iter().zip(before) {
            for request in &server.requests()[before..] {
                let line = request.to_string();
                if line.contains("/manifests/") {
                    manifests.push(format!("{name}: {line}"));
                } else if line.ends_with(&blob) {
                    layer.push((*name).to_owned());
                }
            }
        }
        Told { worked, manifests, layer }
    }

    /// Has both resolve the reference by the same file.
    fn ask_both(&self, conf: &str, reference: &str) -> [Told; 2] {
        let machine = Machine::new();
        let (file, reference) = (machine.dir().join("registries.conf"), self.filled(reference));
        fs::write(&file, self.filled(conf)).unwrap();
        let theirs = self.told(|| {
            let to = format!("oci:{}:1", machine.dir().join("layout").display());
            let from = format!("docker://{reference}");
            let copy = ["--registries-conf".as_ref(), file.as_os_str(), "copy".as_ref(), from.as_ref(), to.as_ref()];
            skopeo(copy).code == Some(0)
        });
        let ours = self.told(|| {
            let outcome = machine.command(["--registries-conf"]).arg(&file).args(["pull", &reference]).output();
            outcome.code == Some(0) && fs::read(outcome.line()).unwrap() == self.artifact.layer_bytes()
        });
        [theirs, ours]
    }

    /// Both ask the same servers for the same manifests, in whatever order the logs have them, and the same one sends the layer.
    #[track_caller]
    fn agree(&self, conf: &str, reference: &str, manifests: &[&str], layer: &[&str]) {
        let expected = Told {
            worked: !layer.is_empty(),
            manifests: manifests.iter().map(|line| self.filled(line)).collect(),
            layer: layer.iter().map(|name| (*name).to_owned()).collect(),
        };
        let [theirs, ours] = self.ask_both(conf, reference);
        assert_eq!(theirs, expected, "skopeo, {reference} by\n{conf}");
        assert_eq!(ours, expected, "greentic-dist, {reference} by\n{conf}");
    }
}

#[test]
fn mirrors_are_asked_in_their_order_and_the_location_last_as_by_skopeo() {
    let Some(stage) = Stage::start("mirrors_are_asked_in_their_order_and_the_location_last_as_by_skopeo") else {
        return;
    };
    let table = |mirrors: &[&str]| {
        let mirror = |name: &&str| format!("[[registry.mirror]]\nlocation = \"{{{name}}}\"\ninsecure = true\n");
        let mirrors: String = mirrors.iter().map(mirror).collect();
        format!("[[registry]]\nprefix = \"example.invalid\"\nlocation = \"{{O}}\"\ninsecure = true\n{mirrors}")
    };
    let tag = "example.invalid/acme/hello:1";
    stage.agree(&table(&["M", "E"]), tag, &["M: GET /v2/acme/hello/manifests/1 200"], &["M"]);
    let missed = ["M: GET /v2/acme/hello/manifests/1 200", "E: GET /v2/acme/hello/manifests/1 404"];
    stage.agree(&table(&["E", "M"]), tag, &missed, &["M"]);
    let last = ["O: GET /v2/acme/hello/manifests/1 200", "E: GET /v2/acme/hello/manifests/1 404"];
    stage.agree(&table(&["E"]), tag, &last, &["O"]);
    stage.agree(&table(&[]), tag, &last[..1], &["O"]);
    // By digest alike.
    let pinned = "example.invalid/acme/hello@{digest}";
    stage.agree(&table(&["M"]), pinned, &["M: GET /v2/acme/hello/manifests/{digest} 200"], &["M"]);
}

#[test]
fn a_mirror_for_digests_or_for_tags_alone_is_asked_for_the_names_skopeo_asks_it_for() {
    let name = "a_mirror_for_digests_or_for_tags_alone_is_asked_for_the_names_skopeo_asks_it_for";
    let Some(stage) = Stage::start(name) else { return };
    let table = |own: &str, of_mirror: &str| {
        format!(
            "[[registry]]\nprefix = \"example.invalid\"\nlocation = \"{{O}}\"\ninsecure = true\n{own}\n[[registry.mirror]]\n\
             location = \"{{M}}\"\ninsecure = true\n{of_mirror}\n"
        )
    };
    let (tag, pinned) = ("example.invalid/acme/hello:1", "example.invalid/acme/hello@{digest}");
    let (by_tag, by_digest) = ("GET /v2/acme/hello/manifests/1 200", "GET /v2/acme/hello/manifests/{digest} 200");
    let digest_only = table("mirror-by-digest-only = true", "");
    stage.agree(&digest_only, pinned, &[&format!("M: {by_digest}")], &["M"]);
    let tag_only = table("", "pull-from-mirror = \"tag-only\"");
    stage.agree(&tag_only, tag, &[&format!("M: {by_tag}")], &["M"]);
    stage.agree(&tag_only, pinned, &[&format!("O: {by_digest}")], &["O"]);

    // A deviation: skopeo chooses one server for all of an image, and this client each time: a layer is content by its digest.
    for conf in [digest_only, table("", "pull-from-mirror = \"digest-only\"")] {
        let [theirs, ours] = stage.ask_both(&conf, tag);
        for (told, layer) in [(&theirs, "O"), (&ours, "M")] {
            assert_eq!(
                (told.worked, &*told.manifests, &*told.layer),
                (true, &[format!("O: {by_tag}")][..], &[layer.to_owned()][..])
            );
        }
    }
}

#[test]
fn names_are_rewritten_and_the_longest_prefix_counts_as_with_skopeo() {
    let Some(stage) = Stage::start("names_are_rewritten_and_the_longest_prefix_counts_as_with_skopeo") else { return };
    let table = |prefix: &str, location: &str| {
        format!("[[registry]]\nprefix = \"{prefix}\"\nlocation = \"{location}\"\ninsecure = true\n")
    };
    let moved = "O: GET /v2/moved/hello/manifests/1 200";
    let (acme, other) = (table("example.invalid/acme", "{O}/moved"), table("example.invalid", "{M}"));
    stage.agree(&acme, "example.invalid/acme/hello:1", &[moved], &["O"]);
    stage.agree(&[&*other, &acme].concat(), "example.invalid/acme/hello:1", &[moved], &["O"]);
    // A prefix ends where a name ends, and one that is a whole name leaves nothing of it.
    let whole = table("example.invalid/acme/hello", "{O}/moved/hello");
    stage.agree(&[&*other, &whole].concat(), "example.invalid/acme/hello:1", &[moved], &["O"]);
    let beside = table("example.invalid/acme/hell", "{O}/moved/hell");
    stage.agree(
        &[&*beside, &other].concat(),
        "example.invalid/acme/hello:1",
        &["M: GET /v2/acme/hello/manifests/1 200"],
        &["M"],
    );
    // Every host below a name, a longer one before a shorter one, and neither the name itself nor one that only ends like it.
    let below = [table("*.example.invalid", "{M}"), table("*.a.example.invalid", "{O}")].concat();
    stage.agree(&below, "b.example.invalid/acme/hello:1", &["M: GET /v2/acme/hello/manifests/1 200"], &["M"]);
    stage.agree(&below, "b.a.example.invalid/acme/hello:1", &["O: GET /v2/acme/hello/manifests/1 200"], &["O"]);
    for other in ["example.invalid", "badexample.invalid"] {
        stage.agree(&below, &format!("{other}/acme/hello:1"), &[], &[]);
    }
}

#[test]
fn what_is_blocked_is_asked_of_nobody_as_with_skopeo() {
    let Some(stage) = Stage::start("what_is_blocked_is_asked_of_nobody_as_with_skopeo") else { return };
    let table =
        |at: &str, blocked: bool| format!("[[registry]]\nlocation = \"{at}\"\ninsecure = true\nblocked = {blocked}\n");
    let below = "[[registry]]\nprefix = \"*.example.invalid\"\nblocked = true\n";
    let (own, found) = ("{O}/acme/hello:1", ["O: GET /v2/acme/hello/manifests/1 200"]);
    stage.agree(&table("{O}", false), own, &found, &["O"]);
    stage.agree(&table("{O}", true), own, &[], &[]);
    stage.agree(below, "a.example.invalid/acme/hello:1", &[], &[]);
    // A part may be what its registry is not, both ways.
    stage.agree(&[table("{O}", true), table("{O}/acme", false)].concat(), own, &found, &["O"]);
    stage.agree(&[table("{O}", false), table("{O}/acme", true)].concat(), own, &[], &[]);
    // A mirror and a location that are blocked themselves.
    let mirror = "[[registry.mirror]]\nlocation = \"{M}\"\ninsecure = true\n";
    let mirrored = [table("{M}", true), table("{O}", false), mirror.to_owned()].concat();
    stage.agree(&mirrored, own, &found, &["O"]);
    let elsewhere = "[[registry]]\nprefix = \"example.invalid\"\nlocation = \"{O}\"\ninsecure = true\n";
    stage.agree(&[&*table("{O}", true), elsewhere].concat(), "example.invalid/acme/hello:1", &[], &[]);

    // A deviation: by containers-registries.conf(5) nothing with a name that is blocked is pulled. skopeo 1.9 looks only at the place
    // where it asks, so that a mirror and a location elsewhere lead around it.
    for (conf, reference, server) in [
        ([&*table("{O}", true), mirror].concat(), own, "M"),
        ([elsewhere, "blocked = true\n"].concat(), "example.invalid/acme/hello:1", "O"),
    ] {
        let [theirs, ours] = stage.ask_both(&conf, reference);
        assert_eq!((theirs.worked, theirs.layer), (true, vec![server.to_owned()]), "{conf}");
        assert_eq!((ours.worked, ours.manifests), (false, Vec::new()), "{conf}");
    }
}

#[test]
fn plain_http_is_spoken_where_the_file_allows_it_and_on_this_machine() {
    let Some(stage) = Stage::start("plain_http_is_spoken_where_the_file_allows_it_and_on_this_machine") else { return };
    let table = |insecure: bool| {
        format!(
            "[[registry]]\nprefix = \"example.invalid\"\nlocation = \"{{O}}\"\ninsecure = true\n[[registry.mirror]]\n\
             location = \"{{M}}\"\ninsecure = {insecure}\n"
        )
    };
    let asked = |name: &str| vec![format!("{name}: GET /v2/acme/hello/manifests/1 200")];
    stage.agree(&table(true), "example.invalid/acme/hello:1", &["M: GET /v2/acme/hello/manifests/1 200"], &["M"]);
    // A deviation: registries of this machine are asked over plain HTTP whatever is said about them.
    let [theirs, ours] = stage.ask_both(&table(false), "example.invalid/acme/hello:1");
    assert_eq!((theirs.worked, theirs.manifests), (true, asked("O")));
    assert_eq!((ours.worked, ours.manifests), (true, asked("M")));
}
