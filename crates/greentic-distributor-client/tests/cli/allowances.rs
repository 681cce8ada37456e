//! What is refused unless a person allows it: places that registries lead to, and more than a limit.

use std::fs;

use greentic_dist_testkit::fixture;
use greentic_dist_testkit::process::{Outcome, Run};
use greentic_dist_testkit::real::{TlsFront, ready};
use greentic_dist_testkit::scenario::{Lie, Scenario, blob_host, hostile};
use greentic_dist_testkit::{LyingServer, Response};

use crate::support::{Bench, CANARY, error_of, sample, with_login};

/// A host configuration: this registry is asked at that address.
fn configured(bench: &Bench, registry: &str, server: &str) -> std::path::PathBuf {
    let dir = bench.cache().join("hosts").join(registry);
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join("hosts.toml"), format!("server = \"{server}\"\n")).unwrap();
    bench.cache().join("hosts")
}

#[test]
fn row_52_a_public_registry_leads_into_a_private_network_only_when_that_is_allowed() {
    let artifact = sample();
    let inner = blob_host([127, 0, 0, 1].into(), &artifact);
    let base = inner.url();
    let copy = artifact.clone();
    // Stands behind a proxy, so that nobody knows where it is: as far as any public server.
    let registry = LyingServer::start(move |request, _| match request.path.rsplit_once("/blobs/") {
        Some((_, digest)) => Response::redirect(307, format!("{base}/blob/{digest}")),
        None => Response::ok(copy.manifest_bytes.clone()).header("Content-Type", copy.media_type.clone()),
    });
    let bench = Bench::new();
    let hosts = configured(&bench, "registry.test", "http://registry.test");
    let pull = |run: Run| {
        let run = run.arg("--hosts-dir").arg(&hosts).env("http_proxy", registry.url());
        with_login(run, "registry.test", CANARY).output()
    };
    let refused = pull(bench.dist(["--json", "pull", "registry.test/acme/hello:1"]));
    let error = error_of(&refused, 6, "policy");
    assert!(error["causes"].to_string().contains("inner network"), "{error}");
    assert!(error["hints"].to_string().contains("--allow-private-targets"), "{error}");
    assert_eq!(inner.connections(), 0);

    let allowed = pull(bench.dist(["pull", "registry.test/acme/hello:1", "--allow-private-targets"]));
    assert!(fs::read(allowed.expect_code(0).line()).unwrap() == artifact.layer_bytes());
    assert!(!inner.journal().contains(CANARY));

    // A metadata service stays refused, and there is no advice to allow it.
    let bench = Bench::new();
    let registry =
        Scenario::new(sample()).lie(Lie::RedirectBlobTo { status: 307, url: "http://169.254.169.254/x".into() });
    let registry = registry.start();
    let run = bench.dist(["--json", "--allow-private-targets", "pull", &registry.reference()]).output();
    let error = error_of(&run, 6, "policy");
    assert_eq!(error["hints"].as_array().unwrap().len(), 0, "{error}");
}

#[test]
fn quirk_a26_a_token_server_over_plain_http_gets_the_login_only_when_that_is_allowed() {
    let name = "quirk_a26_a_token_server_over_plain_http_gets_the_login_only_when_that_is_allowed";
    if !ready(name, &["nginx"]) {
        return;
    }
    let tokens = LyingServer::start(|_, _| Response::ok(r#"{"token":"token-1"}"#));
    let (artifact, realm) = (sample(), format!("{}/token", tokens.url()));
    let copy = artifact.clone();
    let registry = LyingServer::start(move |request, _| {
        if request.header("authorization") != Some("Bearer token-1") {
            return Response::bearer_challenge(&realm, "s", "repository:acme/hello:pull");
        }
        if request.path.contains("/manifests/") {
            return Response::ok(copy.manifest_bytes.clone()).header("Content-Type", copy.media_type.clone());
        }
        Response::ranged(request, "", copy.layer_bytes().to_vec())
    });
    let front = TlsFront::start(registry.addr());
    let (bench, host) = (Bench::new(), front.host());
    let hosts = configured(&bench, &host, &format!("https://{host}"));
    let pull = |flags: &[&str]| {
        let run = bench.dist(["--json", "pull"]).arg(format!("{host}/acme/hello:1")).args(flags);
        let run = run.arg("--hosts-dir").arg(&hosts).env("SSL_CERT_FILE", front.ca_file());
        with_login(run, &host, CANARY).output()
    };
    for flags in [&[][..], &["--allow-http-realm", "other.example"]] {
        let error = error_of(&pull(flags), 6, "policy");
        assert!(error["causes"].to_string().contains("would leave HTTPS"), "{error}");
        assert!(error["hints"].to_string().contains(&format!("--allow-http-realm {host}")), "{error}");
        assert!(tokens.journal().is_empty());
    }
    pull(&["--allow-http-realm", &host]).expect_code(0);
    assert!(tokens.journal().contains(CANARY), "{:?}", tokens.journal().lines());
    assert!(!registry.journal().contains(CANARY));
    pull(&["--allow-http-realm", "a/b"]).expect_code(2);
}

#[test]
fn quirk_p47_a_limit_that_is_met_is_named_and_can_be_raised_on_the_command_line() {
    let artifact = sample();
    let huge = hostile::padded_manifest(&artifact, 5 << 20);
    let registry = Scenario::new(artifact.clone()).start();
    registry.publish_document(&huge, Some("huge"));
    let reference = format!("{}/acme/hello:huge", registry.host());
    let bench = Bench::new();
    let error = error_of(&bench.run(["--json", "pull", &reference]), 10, "internal");
    assert!(error["causes"].to_string().contains("`manifest-bytes`"), "{error}");
    assert!(error["hints"].to_string().contains("--set-limit manifest-bytes=8388608"), "{error}");
    let raised = bench.run(["pull", &reference, "--set-limit", "manifest-bytes=8388608"]);
    assert!(fs::read(raised.expect_code(0).line()).unwrap() == artifact.layer_bytes());
    // What is in the cache was accepted once.
    let kept = format!("{}/acme/hello@{}", registry.host(), huge.digest);
    bench.run(["--offline", "pull", &kept]).expect_code(0);

    // The artifact itself has a limit, too.
    let error = error_of(
        &bench.run(["--json", "pull", &registry.reference(), "--set-limit", "artifact-bytes=1KiB"]),
        10,
        "internal",
    );
    assert!(error["hints"].to_string().contains("--set-limit artifact-bytes=2048"), "{error}");
    for wrong in ["manifest-bytes", "manifest-bytes=", "manifest-bytes=65MiB", "size=1", "layers=-1", "layers=10001"] {
        bench.run(["pull", &reference, "--set-limit", wrong]).expect_code(2);
    }
}

#[test]
fn every_limit_has_a_name_on_the_command_line() {
    let bench = Bench::new();
    let refused = bench.run(["pull", "./x", "--set-limit", "x=1"]);
    refused.expect_code(2);
    for limit in greentic_distributor_client::dist::Limit::ALL {
        assert!(refused.stderr.contains(limit.name()), "{limit}: {}", refused.stderr);
        let set = bench.run(["--json", "cache", "ls", "--set-limit", &format!("{limit}=1")]);
        set.expect_code(0);
    }
}

#[test]
fn a_deadline_ends_a_pull_as_temporary_and_what_came_is_gone_on_with() {
    let registry = Scenario::new(sample()).lie(Lie::StallBlob { after: 120_000, times: 1 }).start();
    let bench = Bench::new();
    let error = error_of(&bench.run(["--json", "pull", &registry.reference(), "--deadline", "2s"]), 7, "temporary");
    assert!(error["hints"].to_string().contains("--deadline"), "{error}");
    let part = format!("partial/sha256-{}.part", registry.artifact().layer_digest().to_hex());
    assert_eq!(fs::metadata(bench.cache().join(part)).unwrap().len(), 120_000);
    registry.journal().clear();
    let path = bench.run(["pull", &registry.reference(), "--deadline", "10m"]);
    assert!(fs::read(path.expect_code(0).line()).unwrap() == registry.artifact().layer_bytes());
    assert_eq!(registry.journal().header_of(1, "range").as_deref(), Some("bytes=120000-"));
    for wrong in ["0", "0s", "soon", "-1s", ""] {
        bench.run(["pull", &registry.reference(), "--deadline", wrong]).expect_code(2);
    }
}

#[test]
fn quirk_p26_inspect_tells_what_the_registry_says_about_its_limit() {
    let artifact = sample();
    let registry = LyingServer::start(move |request, _| {
        let answer = match request.path.as_str() {
            path if path.contains("/manifests/sha256-") || path.contains("/referrers/") => Response::status(404, ""),
            path if path.contains("/manifests/") => {
                Response::ok(artifact.manifest_bytes.clone()).header("Content-Type", artifact.media_type.clone())
            }
            _ => Response::ranged(request, "", artifact.layer_bytes().to_vec()),
        };
        answer.header("RateLimit-Limit", "100;w=21600").header("RateLimit-Remaining", "76;w=21600")
    });
    let (bench, reference) = (Bench::new(), format!("{}/acme/hello:1", registry.host()));
    let document = bench.run(["--json", "inspect", &reference]).json();
    let told = serde_json::json!({ "limit": 100, "remaining": 76, "window_seconds": 21_600, "reset_seconds": null });
    assert_eq!(document["oci"]["rate_limit"], told, "{document}");
    let shown = bench.run(["inspect", &reference]);
    assert!(shown.stdout.contains("rate limit: 76 left, 100 allowed, 21600 s window"), "{}", shown.stdout);
}

#[test]
fn what_was_taken_with_a_raised_limit_is_read_from_a_layout_again() {
    let artifact = sample();
    let registry = Scenario::new(artifact.clone()).start();
    registry.publish_document(&hostile::padded_manifest(&artifact, 5 << 20), Some("huge"));
    let bench = Bench::new();
    let place = |name: &str| format!("oci-layout:{}", bench.cache().join(name).display());
    let reference = format!("{}/acme/hello:huge", registry.host());
    fs::create_dir_all(bench.cache()).unwrap();
    bench.run(["copy", &reference, &place("a")]).expect_code(10);
    bench.run(["copy", &reference, &place("b"), "--set-limit", "manifest-bytes=8MiB"]).expect_code(0);
    bench.run(["copy", &place("b"), &place("c")]).expect_code(0);
    bench.run(["inspect", &place("c")]).expect_code(0);
}

#[test]
fn a_pinned_catalog_within_raised_limits_is_proven_by_its_pin_offline() {
    let catalog = crate::catalog::artifact(&["a", "b"]);
    let registry = Scenario::new(catalog.clone()).start();
    let layers = hostile::many_layers(&catalog, 1_100);
    let chain = hostile::index_chain(&catalog, 3);
    for document in chain.iter().chain([&layers]) {
        registry.publish_document(document, None);
    }
    // Two indexes in each other are within the limits that nobody has raised.
    for (document, limit, advice) in [
        (&layers, "layers=2000", "--set-limit layers=2000"),
        (&chain[2], "index-depth=4", "--set-limit index-depth=4"),
        (&chain[1], "", ""),
    ] {
        let bundle = crate::catalog::Bundle::new();
        let pinned = format!("oci://{}/acme/hello@{}", registry.host(), document.digest);
        if !limit.is_empty() {
            let error = error_of(&bundle.run(&["resolve", "--json", &pinned]), 10, "internal");
            assert!(error["hints"].to_string().contains(advice), "{error}");
        }
        let raised = if limit.is_empty() { &[][..] } else { &["--set-limit", limit] };
        let online = bundle.run(&[&["resolve", &pinned][..], raised].concat());
        assert_eq!(bundle.read(&online), catalog.layer_bytes(), "{limit}");
        // What was taken once is read by everybody, and nobody is asked.
        registry.journal().clear();
        for args in [&["--offline", "resolve", &pinned][..], &["resolve", "--refresh", &pinned]] {
            assert_eq!(bundle.read(&bundle.run(args)), catalog.layer_bytes(), "{limit}");
        }
        assert_eq!(registry.journal().lines(), [""; 0], "{limit}");
    }
}

/// What a URL leads to is refused beyond the limit, whether its length is told or not, and taken within it.
fn url_within_the_limit(url: &str, bytes: &[u8], run: impl Fn(&Bench, &[&str]) -> Outcome) {
    let limit = |value: &str| format!("artifact-bytes={value}");
    let bench = Bench::new();
    for form in ["told", "untold"] {
        let url = format!("{url}/{form}");
        let error = error_of(&run(&bench, &["--json", "pull", &url, "--set-limit", &limit("1KiB")]), 10, "internal");
        assert!(error["hints"].to_string().contains("--set-limit artifact-bytes=2048"), "{form}: {error}");
        assert!(error["message"].as_str().unwrap().contains(&url), "{form}: {error}");
        assert_eq!(bench.run(["cache", "ls"]).stdout, "", "{form}");
    }
    for form in ["told", "untold"] {
        let (bench, url) = (Bench::new(), format!("{url}/{form}"));
        let exact = limit(&bytes.len().to_string());
        let pulled = run(&bench, &["pull", &url, "--set-limit", &exact]);
        assert!(fs::read(pulled.expect_code(0).line()).unwrap() == bytes, "{form}");
    }
}

/// A server whose answers tell their length, or do not.
fn of_any_length(bytes: Vec<u8>) -> LyingServer {
    LyingServer::start(move |request, _| match request.path.as_str() {
        "/told" => Response::ok(bytes.clone()),
        _ => Response::ok(bytes.clone()).chunked(),
    })
}

#[test]
fn the_limit_of_an_artifact_holds_for_a_url_too() {
    let bytes = fixture::random_bytes(3, 100_000);
    let server = of_any_length(bytes.clone());
    url_within_the_limit(&server.url(), &bytes, |bench, args| {
        bench.dist([]).args(args).env("GREENTIC_DIST_ALLOW_INSECURE_LOCAL_HTTP", "1").output()
    });
}

#[test]
fn the_limit_of_an_artifact_holds_for_a_url_over_tls_too() {
    if !ready("the_limit_of_an_artifact_holds_for_a_url_over_tls_too", &["nginx"]) {
        return;
    }
    let bytes = fixture::random_bytes(4, 100_000);
    let server = of_any_length(bytes.clone());
    let front = TlsFront::start(server.addr());
    url_within_the_limit(&format!("https://{}", front.host()), &bytes, |bench, args| {
        bench.dist([]).args(args).env("SSL_CERT_FILE", front.ca_file()).output()
    });
}

#[test]
fn a_raised_depth_of_indexes_counts_for_what_is_pulled_and_for_what_is_told() {
    let artifact = sample();
    let registry = Scenario::new(artifact.clone()).start();
    let chain = hostile::index_chain(&artifact, 3);
    for document in &chain {
        registry.publish_document(document, None);
    }
    registry.publish_document(&chain[2], Some("deep"));
    let bench = Bench::new();
    let reference = format!("{}/acme/hello:deep", registry.host());
    let layer = |document: &serde_json::Value| document["oci"]["layers"][0]["digest"].clone();
    for command in ["inspect", "pull"] {
        let error = error_of(&bench.run(["--json", command, &reference]), 10, "internal");
        assert!(error["hints"].to_string().contains("--set-limit index-depth=4"), "{command}: {error}");
    }
    let told = bench.run(["--json", "inspect", &reference, "--set-limit", "index-depth=3"]);
    assert_eq!(layer(&told.expect_code(0).json()), artifact.layer_digest().to_string());
    let pulled = bench.run(["pull", &reference, "--set-limit", "index-depth=3"]);
    assert!(fs::read(pulled.expect_code(0).line()).unwrap() == artifact.layer_bytes());
    // What was taken once is opened by everybody, by the tag and by the digest of the outermost index.
    let pinned = format!("{}/acme/hello@{}", registry.host(), chain[2].digest);
    for name in [&reference, &pinned] {
        bench.run(["--offline", "pull", name]).expect_code(0);
    }

    // Of a layout, what is deeper is not told.
    let layout = format!("oci-layout:{}:1", bench.path().join("layout").display());
    bench.run(["copy", &reference, &layout, "--set-limit", "index-depth=3"]).expect_code(0);
    let told = bench.run(["--json", "inspect", &layout]).expect_code(0).json();
    assert_eq!((&told["digest"], layer(&told)), (&chain[2].digest.to_string().into(), serde_json::Value::Null));
    let told = bench.run(["--json", "inspect", &layout, "--set-limit", "index-depth=3"]).expect_code(0).json();
    assert_eq!(layer(&told), artifact.layer_digest().to_string());
}
