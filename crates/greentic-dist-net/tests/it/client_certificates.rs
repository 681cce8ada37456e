//! Servers that want a certificate of the client: who is shown one, and what a wrong one leads to.

use std::sync::atomic::Ordering;

use greentic_dist_net::{HostConfig, HostEndpoint, Net, NetErrorClass, NetErrorKind, Selector};

use crate::support::{descriptor, quick, read, repository};
use crate::tls_server::{Authority, Beyond, Certificate, TlsServer, blob};

async fn demanding(authority: &Authority, alpn: &[&str]) -> TlsServer {
    let beyond = Beyond { client_authority: Some(authority.clone()), ..Beyond::default() };
    TlsServer::start_with(Certificate::Good, alpn, beyond).await
}

fn host(server: &TlsServer) -> String {
    format!("localhost:{}", server.addr.port())
}

/// A client that trusts the server's authority for the server alone, and shows it this certificate.
fn showing(server: &TlsServer, certificate: Option<&(String, String)>) -> Net {
    let url = format!("https://{}", host(server));
    let endpoint = HostEndpoint::new(url).root_certificates_pem(server.authority_pem.clone());
    let endpoint = match certificate {
        Some((certificate, key)) => endpoint.client_certificate_pem(certificate.clone(), key.as_str()),
        None => endpoint,
    };
    quick().host(HostConfig::new(host(server)).origin(endpoint)).build().unwrap()
}

#[tokio::test]
async fn a_client_certificate_from_the_right_authority_opens_the_door_over_both_protocols() {
    let authority = Authority::new();
    for alpn in [&["h2", "http/1.1"][..], &["http/1.1"]] {
        let server = demanding(&authority, alpn).await;
        let net = showing(&server, Some(&authority.client()));
        let repository = repository(&net, &format!("{}/acme/hello", host(&server)));
        repository.manifest(Selector::Tag("1")).await.unwrap();
        let bytes = read(repository.blob(&descriptor(&blob())).open().await.unwrap()).await.unwrap();
        assert!(bytes == blob());
        assert_eq!((server.seen().len(), server.connections.load(Ordering::SeqCst)), (2, 1));
    }
}

#[tokio::test]
async fn a_client_certificate_that_is_wrong_or_missing_is_a_tls_error_that_names_the_host() {
    let (authority, other) = (Authority::new(), Authority::new());
    let server = demanding(&authority, &["h2", "http/1.1"]).await;
    let wrong = other.client();
    for (certificate, advice) in [(Some(&wrong), "did not accept"), (None, "want a certificate")] {
        let net = showing(&server, certificate);
        let asked = repository(&net, &format!("{}/acme/hello", host(&server))).manifest(Selector::Tag("1")).await;
        let error = asked.unwrap_err();
        assert_eq!((error.kind(), error.class()), (NetErrorKind::Tls, NetErrorClass::Network), "{error:?}");
        assert_eq!(error.attempts(), 1, "it would only be refused again");
        assert!(error.to_string().contains(&host(&server)), "{error}");
        assert!(error.hints().iter().any(|hint| hint.contains(advice)), "{:?}", error.hints());
        assert!(!format!("{error:?}").contains("PRIVATE KEY"));
    }
    assert!(server.seen().is_empty());
}

#[tokio::test]
async fn a_client_certificate_and_an_authority_are_for_the_host_they_are_configured_for() {
    let authority = Authority::new();
    let (own, other) = (demanding(&authority, &["h2"]).await, demanding(&authority, &["h2"]).await);
    let (certificate, key) = authority.client();
    let endpoint = HostEndpoint::new(format!("https://{}", host(&own)))
        .root_certificates_pem(own.authority_pem.clone())
        .client_certificate_pem(certificate, key.as_str());
    let net = quick()
        .host(HostConfig::new(host(&own)).origin(endpoint))
        .host(HostConfig::new(host(&other)).origin(
            HostEndpoint::new(format!("https://{}", host(&other))).root_certificates_pem(other.authority_pem.clone()),
        ))
        .build()
        .unwrap();
    repository(&net, &format!("{}/acme/hello", host(&own))).manifest(Selector::Tag("1")).await.unwrap();
    let asked = repository(&net, &format!("{}/acme/hello", host(&other))).manifest(Selector::Tag("1")).await;
    assert_eq!(asked.unwrap_err().kind(), NetErrorKind::Tls);
    assert!(other.seen().is_empty(), "the other host wants one, too, and was shown none");
    // The authority of one host vouches for no other.
    let endpoint =
        HostEndpoint::new(format!("https://{}", host(&other))).root_certificates_pem(own.authority_pem.clone());
    let net = quick().host(HostConfig::new(host(&other)).origin(endpoint)).build().unwrap();
    let asked = repository(&net, &format!("{}/acme/hello", host(&other))).manifest(Selector::Tag("1")).await;
    let error = asked.unwrap_err();
    assert_eq!(error.kind(), NetErrorKind::Tls);
    assert!(error.hints()[0].contains("authority"), "{:?}", error.hints());
}
