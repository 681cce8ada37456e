//! TLS and HTTP/2 in front of the registry, and a header less.

use std::fs;

use greentic_dist_testkit::fixture::{self, WASM_TYPE};
use greentic_dist_testkit::real::{TlsFront, ready};

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
fn a_certificate_of_an_unknown_authority_is_refused_with_a_hint() {
    if !ready("a_certificate_of_an_unknown_authority_is_refused_with_a_hint", &["docker-registry", "skopeo", "nginx"]) {
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
}
