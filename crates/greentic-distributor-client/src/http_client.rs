//! A distributor over HTTP: the JSON endpoints below `/distributor-api/`.

use std::collections::HashSet;
use std::fmt;

use async_trait::async_trait;
use greentic_dist_net::{HttpCall, HttpReply, Net, NetErrorKind, RetryPolicy, Timeouts};
use greentic_dist_types::{Digest, Reference, SafeText, SourceRef, limits, redact_reference, redact_url};
use http::header::{ACCEPT, AUTHORIZATION};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use url::Url;

use crate::types::{
    ArtifactLocation, ComponentStatus, DistributorEnvironmentId, PackStatusResponse, ResolveComponentRequest,
    ResolveComponentResponse, TenantCtx,
};
use crate::{DistributorClient, DistributorClientConfig, DistributorError};

/// Most characters kept of what a distributor says beside a refusal.
const SAID_CHARS: usize = 64 << 10;
/// Longest text a distributor may name a place with, in bytes.
const NAME_BYTES: usize = 4 << 10;
/// Most characters shown of what is wrong with an answer.
const WRONG_CHARS: usize = 500;
/// A configured header value of fewer bytes is no secret: taking it out of a message would only garble that.
const SECRET_BYTES: usize = 6;

/// A [`DistributorClient`] over HTTP. Cheap to clone; clones share connections.
///
/// The token goes to the origin of `base_url` and nowhere else: an API is asked where it is, and no redirect is followed.
/// Connecting may take 10 s, the header of an answer 30 s, a silence in its body 30 s; `request_timeout` limits the whole. The
/// questions are repeated after failures that may pass (5 attempts); asking to warm a pack is not. An answer may have 16 MiB.
///
/// ```
/// use greentic_distributor_client::{
///     DistributorClient, DistributorClientConfig, DistributorEnvironmentId, EnvId, HttpDistributorClient, TenantCtx, TenantId,
/// };
///
/// async fn ask() -> Result<(), Box<dyn std::error::Error>> {
///     let tenant = TenantCtx::new(EnvId::new("prod")?, TenantId::new("acme")?);
///     let env = DistributorEnvironmentId::from("prod");
///     // Every field is looked at here; no connection is opened yet.
///     let client = HttpDistributorClient::new(DistributorClientConfig {
///         base_url: Some("https://distributor.example".to_owned()),
///         environment_id: env.clone(),
///         tenant: tenant.clone(),
///         auth_token: None,
///         extra_headers: None,
///         request_timeout: None,
///     })?;
///     let status = client.get_pack_status_v2(&tenant, &env, "kit").await?;
///     println!("kit is {}", status.status);
///     Ok(())
/// }
/// ```
#[derive(Clone)]
pub struct HttpDistributorClient {
    net: Net,
    base: String,
    headers: HeaderMap,
    config: DistributorClientConfig,
}

/// What names a pack: the query of a GET and the document of a POST.
#[derive(Serialize)]
struct PackQuestion<'a> {
    #[serde(rename = "tenant_id")]
    tenant: &'a str,
    #[serde(rename = "environment_id")]
    environment: &'a str,
    #[serde(rename = "pack_id")]
    pack: &'a str,
}

/// Collects what [`DistributorClientConfig`] cannot say about a [`HttpDistributorClient`].
#[derive(Clone, Debug)]
#[must_use]
pub struct HttpDistributorClientBuilder {
    config: DistributorClientConfig,
    timeouts: Timeouts,
    retry: RetryPolicy,
    root_certificates_pem: Vec<u8>,
}

impl HttpDistributorClient {
    /// A client with this configuration and defaults for everything else. Opens no connection.
    ///
    /// # Errors
    /// [`DistributorError::InvalidResponse`] that names the field: `base_url` is missing, is no `http` or `https` URL, carries a
    /// user name, a query or a fragment, or is plain HTTP to another machine while there is a token; `auth_token` or
    /// `extra_headers` hold what cannot be sent, or a header that belongs to the connection, or a second login.
    pub fn new(config: DistributorClientConfig) -> Result<Self, DistributorError> {
        Self::builder(config).build()
    }

    /// A builder, for what the configuration cannot say.
    pub fn builder(config: DistributorClientConfig) -> HttpDistributorClientBuilder {
        HttpDistributorClientBuilder {
            config,
            timeouts: Timeouts::default(),
            retry: RetryPolicy::default(),
            root_certificates_pem: Vec::new(),
        }
    }

    fn call(&self, method: Method, path: &str) -> HttpCall {
        let url = format!("{}/distributor-api/{path}", self.base);
        self.net.call(method, &url).headers(self.headers.clone()).deadline(self.config.request_timeout)
    }

    async fn ask_status<T: DeserializeOwned>(
        &self,
        path: &str,
        question: &PackQuestion<'_>,
    ) -> Result<T, DistributorError> {
        let query = url::form_urlencoded::Serializer::new(String::new())
            .append_pair("tenant_id", question.tenant)
            .append_pair("environment_id", question.environment)
            .append_pair("pack_id", question.pack)
            .finish();
        let reply = self.call(Method::GET, &format!("{path}?{query}")).send().await?;
        self.decode(&self.accept(reply)?)
    }

    /// An answer that means success.
    fn accept(&self, reply: HttpReply) -> Result<HttpReply, DistributorError> {
        match reply.status {
            status if status.is_success() => Ok(reply),
            StatusCode::NOT_FOUND => Err(DistributorError::NotFound),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(DistributorError::PermissionDenied),
            status => {
                let body = self.tidied(&String::from_utf8_lossy(&reply.body), SAID_CHARS);
                Err(DistributorError::Status { status, body })
            }
        }
    }

    /// The document of an answer.
    fn decode<T: DeserializeOwned>(&self, reply: &HttpReply) -> Result<T, DistributorError> {
        let content_type = reply.content_type.as_deref().unwrap_or_default().trim_start();
        if content_type.get(..9).is_some_and(|start| start.eq_ignore_ascii_case("text/html")) {
            let hint = "is there a proxy or a login page in between?";
            return Err(DistributorError::InvalidResponse(format!("the answer is a web page, {hint}")));
        }
        if let Some(name) = reply.content_encoding.as_deref().filter(|name| !name.eq_ignore_ascii_case("identity")) {
            let name = SafeText::excerpt(name, limits::SHOWN_CHARS);
            let hint = "is there a proxy that compresses?";
            let wrong = format!("the answer has the content encoding `{name}`, which was not asked for: {hint}");
            return Err(DistributorError::InvalidResponse(wrong));
        }
        let mut read = serde_json::Deserializer::from_slice(&reply.body);
        let document = serde_path_to_error::deserialize(&mut read).map_err(|error| {
            let field = error.path().to_string();
            let why = error.into_inner();
            // Of an answer that is no JSON at all the path says nothing.
            self.wrong(&if why.is_data() && field != "." { format!("`{field}`: {why}") } else { why.to_string() })
        })?;
        read.end().map_err(|error| self.wrong(&error.to_string()))?;
        Ok(document)
    }

    /// An answer of another shape. What serde says quotes the answer, so it is treated as the peer's text.
    fn wrong(&self, why: &str) -> DistributorError {
        DistributorError::Serde(serde::de::Error::custom(self.tidied(why, WRONG_CHARS)))
    }

    /// A peer's text, without the secrets it was sent and fit for a terminal.
    fn tidied(&self, text: &str, most: usize) -> String {
        let token = self.config.auth_token.iter().filter(|token| !token.is_empty());
        let values = self.config.extra_headers.iter().flat_map(|headers| headers.values());
        let secrets = token.chain(values.filter(|value| value.len() >= SECRET_BYTES));
        let text = secrets.fold(text.to_owned(), |text, secret| text.replace(secret.as_str(), "[redacted]"));
        SafeText::excerpt(&text, most).to_string()
    }
}

impl HttpDistributorClientBuilder {
    /// How long each phase of a request may take.
    pub fn timeouts(mut self, timeouts: Timeouts) -> Self {
        self.timeouts = timeouts;
        self
    }

    /// How often and after which waits a question is repeated.
    pub fn retry(mut self, retry: RetryPolicy) -> Self {
        self.retry = retry;
        self
    }

    /// Certificates (PEM) trusted beside the platform's. Empty for none.
    pub fn root_certificates_pem(mut self, pem: Vec<u8>) -> Self {
        self.root_certificates_pem = pem;
        self
    }

    /// Builds the client. Opens no connection.
    ///
    /// # Errors
    /// As [`HttpDistributorClient::new`]; [`DistributorError::Http`] for certificates that are none.
    pub fn build(self) -> Result<HttpDistributorClient, DistributorError> {
        let Self { config, timeouts, retry, root_certificates_pem } = self;
        let Some(base) = config.base_url.as_deref() else { return Err(unusable("base_url", "it is not configured")) };
        let base = base_of(base)?;
        let headers = headers_of(&config)?;
        let net =
            Net::builder().timeouts(timeouts).retry(retry).root_certificates_pem(root_certificates_pem).build()?;
        net.call(Method::GET, &base).check().map_err(|error| unusable("base_url", error))?;
        let whole = net.call(Method::GET, &base).headers(headers.clone()).check();
        whole.map_err(|error| match error.kind() {
            NetErrorKind::InvalidInput => unusable("extra_headers", error),
            _ => unusable("base_url", error),
        })?;
        Ok(HttpDistributorClient { net, base, headers, config })
    }
}

#[async_trait]
impl DistributorClient for HttpDistributorClient {
    async fn resolve_component(
        &self,
        req: ResolveComponentRequest,
    ) -> Result<ResolveComponentResponse, DistributorError> {
        let call = self.call(Method::POST, "resolve-component").json(serde_json::to_vec(&req)?);
        // A question in the form of a POST: asking twice does no harm.
        let reply = call.repeatable(true).send().await?;
        let answer: ResolveComponentResponse = self.decode(&self.accept(reply)?)?;
        match check_answer(&answer) {
            Ok(()) => Ok(answer),
            Err(why) => Err(DistributorError::InvalidResponse(self.tidied(&why, WRONG_CHARS))),
        }
    }

    async fn get_pack_status(
        &self,
        tenant: &TenantCtx,
        env: &DistributorEnvironmentId,
        pack_id: &str,
    ) -> Result<Value, DistributorError> {
        self.ask_status("pack-status", &question(tenant, env, pack_id)).await
    }

    async fn get_pack_status_v2(
        &self,
        tenant: &TenantCtx,
        env: &DistributorEnvironmentId,
        pack_id: &str,
    ) -> Result<PackStatusResponse, DistributorError> {
        self.ask_status("pack-status-v2", &question(tenant, env, pack_id)).await
    }

    async fn warm_pack(
        &self,
        tenant: &TenantCtx,
        env: &DistributorEnvironmentId,
        pack_id: &str,
    ) -> Result<(), DistributorError> {
        let document = serde_json::to_vec(&question(tenant, env, pack_id))?;
        let reply = self.accept(self.call(Method::POST, "warm-pack").json(document).send().await?)?;
        // What comes back is of no interest, only that it is an answer of this API.
        if reply.body.is_empty() { Ok(()) } else { self.decode::<Value>(&reply).map(drop) }
    }
}

impl fmt::Debug for HttpDistributorClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpDistributorClient").field("config", &self.config).finish_non_exhaustive()
    }
}

fn question<'a>(tenant: &'a TenantCtx, env: &'a DistributorEnvironmentId, pack_id: &'a str) -> PackQuestion<'a> {
    PackQuestion { tenant: tenant.tenant_id.as_str(), environment: env.as_str(), pack: pack_id }
}

/// A field of the configuration that cannot be used.
fn unusable(field: &str, why: impl fmt::Display) -> DistributorError {
    DistributorError::InvalidResponse(format!("`{field}` cannot be used: {why}"))
}

/// The base URL as it is sent, without slashes at its end.
fn base_of(text: &str) -> Result<String, DistributorError> {
    let shown = || SafeText::excerpt(&redact_url(text), limits::SHOWN_CHARS);
    // A parser of URLs drops some of these and encodes others: neither is what was meant.
    if text.chars().any(|letter| letter.is_whitespace() || letter.is_control()) {
        return Err(unusable("base_url", format!("`{}` holds white space", shown())));
    }
    let url = Url::parse(text).map_err(|error| unusable("base_url", format!("`{}`: {error}", shown())))?;
    if url.query().is_some() || url.fragment().is_some() {
        return Err(unusable("base_url", "it has a query or a fragment"));
    }
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

fn headers_of(config: &DistributorClientConfig) -> Result<HeaderMap, DistributorError> {
    let mut headers = HeaderMap::new();
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    if let Some(token) = &config.auth_token {
        if token.trim().is_empty() {
            return Err(unusable("auth_token", "it is empty"));
        }
        let value = HeaderValue::from_str(&format!("Bearer {token}"));
        let mut value =
            value.map_err(|_secret| unusable("auth_token", "it holds characters that cannot be sent in a header"))?;
        value.set_sensitive(true);
        headers.insert(AUTHORIZATION, value);
    }
    let mut configured = HashSet::new();
    for (name, value) in config.extra_headers.iter().flatten() {
        let shown = SafeText::excerpt(name, limits::SHOWN_CHARS);
        let name: HeaderName =
            name.parse().map_err(|error| unusable("extra_headers", format!("the name `{shown}`: {error}")))?;
        if name == AUTHORIZATION && config.auth_token.is_some() {
            return Err(unusable("extra_headers", "it sets `authorization`, and there is an `auth_token`"));
        }
        let mut value = HeaderValue::from_str(value).map_err(|_may_be_secret| {
            unusable("extra_headers", format!("the value of `{shown}` holds characters that cannot be sent"))
        })?;
        value.set_sensitive(true);
        if configured.replace(name.clone()).is_some() {
            return Err(unusable("extra_headers", format!("`{shown}` is there twice, in capitals and not")));
        }
        headers.insert(name, value);
    }
    Ok(headers)
}

/// Names in an answer are somebody else's text: they go into references and paths of whoever asked.
fn check_answer(answer: &ResolveComponentResponse) -> Result<(), String> {
    let is_ready = answer.status == ComponentStatus::Ready;
    let wrong = |field: &str, text: &str, why: &str| {
        let shown = SafeText::excerpt(&redact_reference(text), limits::SHOWN_CHARS);
        Err(format!("`{field}` is `{shown}`, {why}"))
    };
    let digest = answer.digest.as_str();
    if is_ready && digest.parse::<Digest>().is_err() {
        return wrong("digest", digest, "which is no digest (`sha256:` and 64 hex digits)");
    }
    let (field, place) = match &answer.artifact {
        ArtifactLocation::FilePath { path } => ("artifact.path", path),
        ArtifactLocation::OciReference { reference } => ("artifact.reference", reference),
        ArtifactLocation::DistributorInternal { handle } => ("artifact.handle", handle),
    };
    if place.len() > NAME_BYTES || SafeText::excerpt(place, NAME_BYTES).as_str() != place {
        return wrong(field, place, "which is too long or holds control or invisible characters");
    }
    // Of what is not ready nobody needs to know yet where it will be.
    if place.is_empty() && !is_ready {
        return Ok(());
    }
    if place.is_empty() {
        return wrong(field, place, "which names nothing");
    }
    if matches!(&answer.artifact, ArtifactLocation::OciReference { .. }) && !is_registry_reference(place) {
        return wrong(field, place, "which is no reference of a registry");
    }
    Ok(())
}

/// Whether a text is what its sender calls it. Read as a user's text it could be a path or a URL, which are opened without asking
/// a registry.
fn is_registry_reference(text: &str) -> bool {
    match SourceRef::parse(text) {
        Ok(SourceRef::Oci(_) | SourceRef::Repo(_) | SourceRef::Store(_)) => true,
        // Without a registry: one is put in front by whoever runs the distributor.
        Ok(SourceRef::Bare(text)) => Reference::parse_with_docker_hub(&text).is_ok(),
        _ => false,
    }
}
