//! A registry that wants a certificate of the client, as a directory of host configurations names one.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use greentic_distributor_client::dist::DistErrorKind::Internal;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use rustls::RootCertStore;
use rustls::server::WebPkiClientVerifier;

use crate::peer_tls::{TlsServer, artifact_server, provider};
use crate::support::{Home, assert_delivers, chain, sample};

struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// Writes a client certificate and its key.
    fn write_client(&self, dir: &Path) {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.extended_key_usages.push(ExtendedKeyUsagePurpose::ClientAuth);
        let key = KeyPair::generate().unwrap();
        fs::write(dir.join("node.cert"), params.signed_by(&key, &self.0).unwrap().pem()).unwrap();
        fs::write(dir.join("node.key"), key.serialize_pem()).unwrap();
    }

    /// A registry with [`sample`] that lets in whoever has a certificate from this authority.
    fn registry(&self) -> TlsServer {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).unwrap();
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider()).build().unwrap();
        artifact_server(Some(verifier))
    }
}

/// The directory of a registry's configuration, with the registry's own authority in it.
fn configured(home: &Home, server: &TlsServer) -> std::path::PathBuf {
    let dir = home.outside().join("hosts").join(format!("localhost_{}_", server.port()));
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join("ca.crt"), &server.ca_pem).unwrap();
    dir
}

fn reference(server: &TlsServer) -> String {
    format!("oci://localhost:{}/acme/hello:1", server.port())
}

#[tokio::test]
async fn a_client_certificate_and_an_authority_in_hosts_toml_open_a_registry_that_wants_one() {
    let (home, authority) = (Home::new(), Authority::new());
    let server = authority.registry();
    let dir = configured(&home, &server);
    authority.write_client(&dir);
    let url = server.url("");
    let toml = format!("server = \"{url}\"\nca = \"ca.crt\"\nclient = [[\"node.cert\", \"node.key\"]]\n");
    fs::write(dir.join("hosts.toml"), toml).unwrap();
    let client = home.builder().hosts_dir(home.outside().join("hosts")).build();
    assert_delivers(&client.resolve_ref(&reference(&server)).await.unwrap(), &sample());
    // Docker's files say the same without a `hosts.toml`.
    fs::remove_file(dir.join("hosts.toml")).unwrap();
    let (other, docker) = (Home::new(), home.outside().join("hosts"));
    let client =
        other.builder().hosts_dir(docker).http_rule(greentic_distributor_client::dist::HttpRule::Never).build();
    assert_delivers(&client.resolve_ref(&reference(&server)).await.unwrap(), &sample());
}

#[tokio::test]
async fn a_client_certificate_of_another_authority_is_refused_with_the_host_and_what_to_look_at() {
    let (home, authority) = (Home::new(), Authority::new());
    let server = authority.registry();
    let dir = configured(&home, &server);
    Authority::new().write_client(&dir);
    let url = server.url("");
    let toml = format!("server = \"{url}\"\nca = \"ca.crt\"\nclient = [[\"node.cert\", \"node.key\"]]\n");
    fs::write(dir.join("hosts.toml"), toml).unwrap();
    let client = home.builder().hosts_dir(home.outside().join("hosts")).build();
    let error = client.resolve_ref(&reference(&server)).await.unwrap_err();
    let text = chain(&error);
    assert_eq!((error.kind(), error.exit_code()), (Internal, 10), "{text}");
    assert!(text.contains(&format!("localhost:{}", server.port())) && text.contains("TLS"), "{text}");
    assert!(error.hints().iter().any(|hint| hint.contains("did not accept the certificate")), "{:?}", error.hints());
    assert!(!format!("{error:?}").contains("PRIVATE KEY"));
    assert_eq!(server.requests(), 0);

    // And one that is configured for nothing is shown to nobody.
    fs::write(dir.join("hosts.toml"), format!("server = \"{url}\"\nca = \"ca.crt\"\n")).unwrap();
    let client = home.builder().hosts_dir(home.outside().join("hosts")).build();
    let error = client.resolve_ref(&reference(&server)).await.unwrap_err();
    assert!(error.hints().iter().any(|hint| hint.contains("want a certificate")), "{:?}", error.hints());
    assert_eq!(server.requests(), 0);
    home.assert_cache_empty();
}
