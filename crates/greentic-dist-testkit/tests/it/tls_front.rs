//! TLS in front of a registry.

use std::fs;

use greentic_dist_testkit::raw_client;
use greentic_dist_testkit::real::{DockerRegistry, TlsFront, ready};

#[test]
fn the_tls_front_answers_tls_alone_and_logs() {
    if !ready("the_tls_front_answers_tls_alone_and_logs", &["docker-registry", "nginx"]) {
        return;
    }
    let registry = DockerRegistry::open();
    let front = TlsFront::start(registry.addr());
    let answer = raw_client::get(front.addr(), "/v2/").unwrap();
    assert_eq!(answer.status, 400, "plain HTTP on a TLS port: {}", answer.text());
    assert_eq!(front.requests_when(1, |_| true)[0].status, 400);
    assert!(fs::read_to_string(front.ca_file()).unwrap().starts_with("-----BEGIN CERTIFICATE-----"));
}
