//! Through which proxy other machines are reached.

use std::fmt;

use greentic_dist_types::{Secret, redact_url};
use http::StatusCode;
use hyper_util::client::proxy::matcher::Matcher;
use url::Url;

use crate::cause::wants_proxy_login;
use crate::sent::GivenSecrets;
use crate::{Credential, NetError, NetErrorKind};

/// The variables that name a proxy for HTTPS, for HTTP, and for both; the first one that is set counts.
const HTTPS: [&str; 2] = ["HTTPS_PROXY", "https_proxy"];
const HTTP: [&str; 2] = ["HTTP_PROXY", "http_proxy"];
const ALL: [&str; 2] = ["ALL_PROXY", "all_proxy"];
const NONE: [&str; 2] = ["NO_PROXY", "no_proxy"];

/// Through which proxy servers other machines are reached. This machine is never reached through one.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub enum ProxyRule {
    /// As the environment (`HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY`, `NO_PROXY`) and the system's settings say, read once when
    /// the first request leaves this machine.
    #[default]
    System,
    /// None, whatever the environment says.
    Off,
    /// This one, whatever the environment says.
    Through(Proxy),
}

/// A proxy server. `Debug` shows no password.
#[derive(Clone)]
#[must_use]
pub struct Proxy {
    url: String,
    login: Option<(String, Secret)>,
    except: Vec<String>,
}

impl Proxy {
    /// The proxy at `http://host:port` or `https://host:port`. HTTPS goes through it as a tunnel. A login in the URL is taken as
    /// [`Proxy::login`] would be. Checked when the client is built.
    pub fn new(url: impl Into<String>) -> Self {
        Self { url: url.into(), login: None, except: Vec::new() }
    }

    /// The login the proxy wants, sent as `Basic` to the proxy and to nobody else.
    pub fn login(mut self, username: impl Into<String>, password: impl Into<Secret>) -> Self {
        self.login = Some((username.into(), password.into()));
        self
    }

    /// A host that is reached without the proxy, in the forms of `NO_PROXY`: a name (with all below it), an address, or a
    /// network (`10.0.0.0/8`).
    pub fn except(mut self, host: impl Into<String>) -> Self {
        self.except.push(host.into());
        self
    }

    /// Checks what can be checked without a connection, and takes the login out of the URL.
    ///
    /// # Errors
    /// `Config`, without a secret in it.
    pub(crate) fn checked(mut self) -> Result<Self, NetError> {
        let wrong = |why: &str| {
            NetError::new(NetErrorKind::Config, format!("the proxy `{}` cannot be used: {why}", redact_url(&self.url)))
        };
        let mut url = Url::parse(&self.url).map_err(|error| wrong("it is not a URL").with_source(error))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(wrong("it is neither http nor https"));
        }
        if url.host().is_none() || !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some()
        {
            return Err(wrong("a proxy is a scheme, a host and a port"));
        }
        if self.except.iter().any(|host| host.contains([',', ' ']) || host.is_empty()) {
            return Err(wrong("an exception is one host or network"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            let decode = |text: &str| {
                // Neither means anything in a user name, and both do in a form.
                let pairs = format!("x={}", text.replace('+', "%2B").replace('&', "%26"));
                let decoded = url::form_urlencoded::parse(pairs.as_bytes()).next().map(|(_, value)| value.into_owned());
                decoded.unwrap_or_default()
            };
            let (username, password) =
                (decode(url.username()), Secret::new(decode(url.password().unwrap_or_default())));
            self.login.get_or_insert((username, password));
            // Of a URL with a host neither can fail.
            let _cleared = (url.set_username(""), url.set_password(None));
        }
        self.url = url.into();
        Ok(self)
    }

    /// Takes note of its login, which it may repeat in its answers.
    pub(crate) fn note_login(&self, secrets: &GivenSecrets) {
        if let Some((username, password)) = &self.login {
            secrets.note_login(&Credential::Basic { username: username.clone(), password: password.clone() });
        }
    }

    /// Decides which URLs go through it.
    pub(crate) fn matcher(&self) -> Matcher {
        Matcher::builder().all(self.url.clone()).no(self.except.join(",")).build()
    }

    /// As the HTTP client takes it.
    ///
    /// # Errors
    /// `Config`.
    pub(crate) fn to_reqwest(&self) -> Result<reqwest::Proxy, NetError> {
        let proxy = reqwest::Proxy::all(&self.url).map_err(|error| {
            NetError::new(NetErrorKind::Config, "the proxy cannot be used").with_source(error.without_url())
        })?;
        let proxy = match &self.login {
            Some((username, password)) => proxy.basic_auth(username, password.expose()),
            None => proxy,
        };
        Ok(proxy.no_proxy(reqwest::NoProxy::from_string(&self.except.join(","))))
    }
}

/// The proxies of a client, read once.
pub(crate) struct Proxies {
    matcher: Option<Matcher>,
    /// What the environment names for HTTPS and for HTTP, where it counts.
    named: [Option<Named>; 2],
    /// Intercepts what the environment does not exempt from proxies.
    exempt: Matcher,
}

/// A proxy that a variable names.
struct Named {
    variable: &'static str,
    /// Intercepts everything, unless what the variable says is no proxy at all.
    proxy: Matcher,
}

/// The proxy on the way to a server.
#[derive(Clone, Debug)]
pub(crate) struct Through {
    /// Host and port, without its login.
    address: String,
    tls: bool,
}

impl Proxies {
    /// Reads the environment and the system's settings where the rule says so.
    pub(crate) fn of(rule: &ProxyRule) -> Self {
        let set = |names: [&'static str; 2]| {
            names.into_iter().find_map(|name| std::env::var(name).ok().map(|value| (name, value)))
        };
        let named = |own: [&'static str; 2]| {
            let value = [own, ALL].into_iter().filter_map(set).find(|(_, value)| !value.is_empty());
            value.map(|(variable, value)| Named { variable, proxy: Matcher::builder().all(value).build() })
        };
        let (matcher, named) = match rule {
            ProxyRule::System => {
                // Of a script of a web server this is a header of a request.
                let is_cgi = std::env::var_os("REQUEST_METHOD").is_some();
                let http = if is_cgi { None } else { named(HTTP) };
                (Some(Matcher::from_system()), [named(HTTPS), http])
            }
            ProxyRule::Through(proxy) => (Some(proxy.matcher()), [None, None]),
            ProxyRule::Off => (None, [None, None]),
        };
        let exempt = set(NONE).map(|(_, hosts)| hosts).unwrap_or_default();
        Self { matcher, named, exempt: Matcher::builder().all("http://proxy").no(exempt).build() }
    }

    /// The proxy on the way to a URL; `None` for none. A login that goes with it is noted as a secret.
    ///
    /// # Errors
    /// `Config` for one that is none, or of a kind this client does not speak to.
    pub(crate) fn on_the_way_to(&self, url: &Url, secrets: &GivenSecrets) -> Result<Option<Through>, NetError> {
        let Some(matcher) = &self.matcher else { return Ok(None) };
        let Ok(uri) = url.as_str().parse::<http::Uri>() else { return Ok(None) };
        let [https, http] = &self.named;
        let named = if url.scheme() == "https" { https } else { http };
        // What cannot be understood would else be no proxy, and the connection a direct one.
        let named = named.as_ref().filter(|_| self.exempt.intercept(&uri).is_some());
        let proxy = match named {
            Some(named) => Some(named.proxy.intercept(&uri).ok_or_else(|| unusable(Some(named.variable)))?),
            None => matcher.intercept(&uri),
        };
        let Some(proxy) = proxy else { return Ok(None) };
        if let Some(login) = proxy.basic_auth() {
            secrets.note_authorization(login);
        }
        let tls = match proxy.uri().scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(unusable(named.map(|named| named.variable))),
        };
        let host = proxy.uri().host().unwrap_or_default();
        let port = proxy.uri().authority().and_then(|authority| authority.as_str().rsplit_once(host));
        // A port that is none would else be the usual one.
        if port.is_some_and(|(_, port)| port.len() > 1) && proxy.uri().port_u16().is_none() {
            return Err(unusable(named.map(|named| named.variable)));
        }
        let address = proxy.uri().port_u16().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
        Ok(Some(Through { address, tls }))
    }
}

/// The error for a proxy that is set somewhere. What is set there may hold a login.
fn unusable(variable: Option<&'static str>) -> NetError {
    let place = variable.unwrap_or("the system's settings");
    let detail = format!("the proxy in {place} cannot be used: it is no `http://host:port` or `https://host:port`");
    NetError::new(NetErrorKind::Config, detail)
        .with_hint(format!("correct {place}, or exempt the host from proxies (NO_PROXY)"))
}

impl Through {
    pub(crate) const fn speaks_tls(&self) -> bool {
        self.tls
    }

    /// Names the proxy in what went wrong on the way through it.
    pub(crate) fn judge(&self, answer: Result<reqwest::Response, NetError>) -> Result<reqwest::Response, NetError> {
        let wants_login = match &answer {
            Ok(response) => response.status() == StatusCode::PROXY_AUTHENTICATION_REQUIRED,
            Err(error) => wants_proxy_login(error),
        };
        if wants_login {
            let detail = format!("the proxy `{}` wants a login, or another one", self.address);
            return Err(NetError::new(NetErrorKind::Config, detail)
                .with_hint("name the proxy with its login: `http://user:password@host:port`"));
        }
        answer.map_err(|error| error.with_hint(format!("it was asked through the proxy `{}`", self.address)))
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxy")
            .field("url", &redact_url(&self.url))
            .field("has_login", &self.login.is_some())
            .field("except", &self.except)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_in_the_url_of_a_proxy_is_a_secret_like_any_other() {
        let proxy = Proxy::new("http://a%6En:can%40ary+x&y=%26@proxy.example:3128/");
        assert!(!format!("{proxy:?}").contains("ary"), "{proxy:?}");
        let checked = proxy.checked().unwrap();
        assert_eq!(checked.url, "http://proxy.example:3128/");
        let (username, password) = checked.login.as_ref().unwrap();
        assert_eq!((username.as_str(), password.expose()), ("ann", "can@ary+x&y=&"));
        assert!(!format!("{checked:?}").contains("ary+x"), "{checked:?}");
        checked.to_reqwest().unwrap();
    }

    #[test]
    fn what_is_no_proxy_is_refused_without_showing_its_login() {
        for wrong in [
            "",
            "proxy",
            "ftp://proxy:1",
            "socks5://u:canary@proxy:1",
            "http://u:canary@proxy/path",
            "http://p/?canary",
        ] {
            let error = Proxy::new(wrong).checked().unwrap_err();
            assert_eq!(error.kind(), NetErrorKind::Config);
            assert!(!format!("{error} {error:?}").contains("canary"), "{error:?}");
        }
        assert!(Proxy::new("http://proxy:1").except("a, b").checked().is_err());
    }

    #[test]
    fn the_login_of_a_proxy_that_the_system_names_is_noted_where_it_is_used() {
        let matcher = Matcher::builder().all("http://ann:canary-5f1d@proxy:3128").no("corp.example").build();
        let exempt = Matcher::builder().all("http://proxy").build();
        let (proxies, secrets) =
            (Proxies { matcher: Some(matcher), named: [None, None], exempt }, GivenSecrets::default());
        let through = |url: &str| proxies.on_the_way_to(&url.parse().unwrap(), &secrets).unwrap().is_some();
        assert!(!through("https://corp.example/"));
        assert_eq!(secrets.blank("canary-5f1d"), "canary-5f1d");
        assert!(through("https://ghcr.io/v2/"));
        assert_eq!(secrets.blank("canary-5f1d YW5uOmNhbmFyeS01ZjFk"), "[redacted] [redacted]");
    }

    #[test]
    fn exceptions_are_reached_without_the_proxy() {
        let matcher =
            Proxy::new("http://proxy:3128").except("corp.example").except("10.0.0.0/8").checked().unwrap().matcher();
        let goes_through = |url: &str| matcher.intercept(&url.parse().unwrap()).is_some();
        assert!(goes_through("https://ghcr.io/v2/") && goes_through("http://11.0.0.1/"));
        for exempt in ["https://corp.example/", "https://registry.corp.example/", "http://10.1.2.3:5000/"] {
            assert!(!goes_through(exempt), "{exempt}");
        }
    }
}
