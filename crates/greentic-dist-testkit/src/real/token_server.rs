//! A token server for `docker-registry` (distribution's "Token Authentication"): one user, signed tokens for whatever is asked.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use rcgen::{CertificateParams, KeyPair, SigningKey as _};
use serde_json::{Value, json};

use super::docker_registry::RegistryAuth;
use crate::{Journal, LyingServer, Request, Response};

/// Who issues the tokens, and for which service.
const ISSUER: &str = "tokens of the tests";
const SERVICE: &str = "registry of the tests";
/// Seconds a token lives.
const LIFE: u64 = 300;

/// A running token server. It knows the user of [`RegistryAuth::known`], and grants nothing to anybody else.
#[derive(Debug)]
pub struct TokenServer {
    server: LyingServer,
    certificate_pem: String,
}

impl TokenServer {
    /// Starts it with a key of its own.
    pub fn start() -> Self {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(Vec::new()).expect("parameters of a certificate");
        let certificate = params.self_signed(&key).expect("sign the certificate");
        let der = STANDARD.encode(certificate.der());
        let server = LyingServer::start(move |request, _| answer(request, &key, &der));
        Self { server, certificate_pem: certificate.pem() }
    }

    /// `127.0.0.1:PORT`.
    pub fn host(&self) -> String {
        self.server.host()
    }

    /// How a registry is set up that believes its tokens.
    pub fn auth(&self) -> RegistryAuth {
        RegistryAuth::Token {
            realm: format!("{}/token", self.server.url()),
            service: SERVICE.to_owned(),
            issuer: ISSUER.to_owned(),
            certificate_pem: self.certificate_pem.clone(),
        }
    }

    /// What it was asked.
    pub fn journal(&self) -> Journal {
        self.server.journal()
    }
}

fn answer(request: &Request, key: &KeyPair, certificate: &str) -> Response {
    let login = format!("{}:{}", RegistryAuth::KNOWN_USER, RegistryAuth::KNOWN_PASSWORD);
    let expected = format!("Basic {}", STANDARD.encode(login));
    if request.method != "GET" || request.path != "/token" {
        return Response::oci_error(404, "NOT_FOUND", "there is only GET /token");
    }
    if request.header("authorization") != Some(expected.as_str()) {
        return Response::oci_error(401, "UNAUTHORIZED", "who are you?");
    }
    let scopes = request.query.iter().filter(|(name, _)| name == "scope");
    let access: Vec<Value> = scopes.flat_map(|(_, scope)| scope.split(' ')).filter_map(granted).collect();
    let body = json!({ "token": token(key, certificate, &access), "expires_in": LIFE });
    Response::ok(body.to_string()).header("Content-Type", "application/json")
}

/// `TYPE:NAME:ACTION,ACTION` as a token has it.
fn granted(scope: &str) -> Option<Value> {
    let (kind, rest) = scope.split_once(':')?;
    let (name, actions) = rest.rsplit_once(':')?;
    Some(json!({ "type": kind, "name": name, "actions": actions.split(',').collect::<Vec<_>>() }))
}

fn token(key: &KeyPair, certificate: &str, access: &[Value]) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock").as_secs();
    let header = json!({ "typ": "JWT", "alg": "ES256", "x5c": [certificate] });
    let claims = json!({
        "iss": ISSUER, "sub": RegistryAuth::KNOWN_USER, "aud": SERVICE, "jti": now.to_string(),
        "iat": now, "nbf": now - 30, "exp": now + LIFE, "access": access,
    });
    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", encode(&header), encode(&claims));
    let signature = key.sign(signed.as_bytes()).expect("sign a token");
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(raw_signature(&signature)))
}

/// The two numbers of a DER signature, 32 bytes each, as JSON Web Signature has them.
fn raw_signature(der: &[u8]) -> Vec<u8> {
    let mut raw = Vec::with_capacity(64);
    // SEQUENCE, its length, then two INTEGERs; none is longer than 33 bytes.
    let mut rest = &der[2..];
    for _ in 0..2 {
        let (number, after) = rest[2..].split_at(usize::from(rest[1]));
        let number = number.strip_prefix(&[0]).unwrap_or(number);
        raw.resize(raw.len() + 32 - number.len(), 0);
        raw.extend_from_slice(number);
        rest = after;
    }
    raw
}
