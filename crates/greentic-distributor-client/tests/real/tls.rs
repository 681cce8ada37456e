//! TLS and HTTP/2 in front of the registry, and a header less.

use std::fs;

use greentic_dist_testkit::fixture::{self, WASM_TYPE};
use greentic_dist_testkit::real::{Compression, TlsFront, ready};

use crate::machine::Machine;
use crate::{blob_line, lines, manifest_line, pin_in, registry_with, tag_in};

#[test]
fn over_tls_and_http2_without_the_digest_header_it_is_the_same() {
    if !ready("over_tls_and_http2_without_the_digest_header_it_is_the_same", &["docker-registry", "skopeo", "nginx"]) {
        return;
    }
    let artifact = fixture::artifact(WASM_TYPE, fixture::random_bytes(2, 2 << 20));
    let registry = registry_with(&artifact);
    let front = TlsFront::start(registry.addr());
    let (tag, pin) = (tag_in(&front.host()), pin_in(&front.host(), &artifact));
    let machine = Machine::new();
    let pull = |reference: &str| {
        let outcome = machine.command(["pull", reference]).env("SSL_CERT_FILE", front.ca_file()).output();
        assert!(fs::read(outcome.expect_code(0).line()).unwrap() == artifact.layer_bytes(), "{reference}");
    };
    // What was said in clear text to find out that it is TLS does not count.
    let asked = |count| lines(&front.requests_when(count, |request| request.protocol == "HTTP/2.0"));
    pull(&tag);
    assert_eq!(asked(2), [manifest_line(200), blob_line(&artifact, 200)]);
    pull(&pin);
    pull(&tag);
    assert_eq!(asked(3)[2..], [manifest_line(304)]);
    machine.assert_entries_prove_themselves();
}

#[test]
fn quirk_p57_an_unknown_authority_is_refused_with_a_hint_and_trusted_where_it_is_named() {
    let name = "quirk_p57_an_unknown_authority_is_refused_with_a_hint_and_trusted_where_it_is_named";
    if !ready(name, &["docker-registry", "skopeo", "nginx"]) {
        return;
    }
    let artifact = fixture::component();
    let registry = registry_with(&artifact);
    let (front, stranger) = (TlsFront::start(registry.addr()), TlsFront::start(registry.addr()));
    let already = registry.requests().len();
    let blob = format!("https://{}/v2/acme/hello/blobs/{}", front.host(), artifact.layer_digest());
    for reference in [tag_in(&front.host()), blob] {
        let machine = Machine::new();
        let command = machine.command(["pull", &reference]);
        // Only the system's roots; and only the root of somebody else.
        for run in [command.clone(), command.env("SSL_CERT_FILE", stranger.ca_file())] {
            let outcome = run.output();
            outcome.expect_code(10);
            let words = outcome.stderr.to_lowercase();
            assert!(words.contains("certificate") && words.contains("hint: "), "{}", outcome.stderr);
            assert!(outcome.stderr.contains("SSL_CERT_FILE"), "{}", outcome.stderr);
            assert_eq!(machine.entries(), [""; 0]);
        }
    }
    assert_eq!(registry.requests_after(already, 0), [], "nothing was asked behind a refused certificate");
    // Named by the environment, or for this host alone by its configuration.
    let tree = tempfile::tempdir().unwrap();
    fs::create_dir(tree.path().join(front.host())).unwrap();
    let toml = format!("server = \"https://{}\"\nca = \"{}\"\n", front.host(), front.ca_file().display());
    fs::write(tree.path().join(front.host()).join("hosts.toml"), toml).unwrap();
    for by_environment in [true, false] {
        let machine = Machine::new();
        let run = machine.command(["pull", &tag_in(&front.host())]);
        let run = if by_environment {
            run.env("SSL_CERT_FILE", front.ca_file())
        } else {
            run.arg("--hosts-dir").arg(tree.path())
        };
        assert_eq!(fs::read(run.output().expect_code(0).line()).unwrap(), artifact.layer_bytes());
    }
}

#[test]
fn a_front_that_compresses_changes_no_byte_or_is_refused_by_the_name_of_its_encoding() {
    let name = "a_front_that_compresses_changes_no_byte_or_is_refused_by_the_name_of_its_encoding";
    if !ready(name, &["docker-registry", "skopeo", "nginx"]) {
        return;
    }
    // What would become much smaller.
    let artifact = fixture::artifact(WASM_TYPE, vec![b'a'; 300_000]);
    let registry = registry_with(&artifact);
    let blobs = Compression::Forced("application/octet-stream".to_owned());
    for (compression, exit) in [
        // Nobody asks for it, so nobody gets it.
        (Compression::Offered, 0),
        // Right bytes under a wrong label are right bytes.
        (Compression::Claimed, 0),
        (blobs, 8),
        (Compression::Forced("*".to_owned()), 10),
    ] {
        let front = TlsFront::start_compressing(registry.addr(), &compression);
        let machine = Machine::new();
        let run = machine.command(["pull", &tag_in(&front.host())]).env("SSL_CERT_FILE", front.ca_file());
        let outcome = run.output();
        outcome.expect_code(exit);
        if exit == 0 {
            assert!(fs::read(outcome.line()).unwrap() == artifact.layer_bytes(), "{compression:?}");
            let blob = front.requests_when(1, |request| request.status == 200 && request.is_blob_get());
            assert_eq!(blob[0].bytes, 300_000, "{compression:?}");
            machine.assert_entries_prove_themselves();
        } else {
            assert!(outcome.stderr.contains("content encoding `gzip`"), "{compression:?}: {}", outcome.stderr);
            assert_eq!(machine.entries(), [""; 0]);
        }
    }
}
