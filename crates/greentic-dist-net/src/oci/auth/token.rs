//! Bearer tokens: fetched by GET, kept until they age, fetched once for everybody who waits.
//!
//! Distribution's token specification: `GET realm?service=…&scope=…`, with the login as `Basic` where there is one.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use greentic_dist_types::{Digest, Secret};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::Mutex;
use tokio::time::Instant;
use url::Url;

use super::credential::{Credential, sensitive};
use crate::config::is_loopback;
use crate::exchange::refusal;
use crate::limit::Lane;
use crate::payload::Payload;
use crate::redirect::is_redirect;
use crate::retry::Retry;
use crate::sent::SentSecrets;
use crate::stats::count;
use crate::target_policy::Guard;
use crate::transport::{Hop, Transport};
use crate::{NetError, NetErrorKind};

/// Shortest life a token is given, whatever the server says: servers leave it out, say 0, or have a wrong clock.
const SHORTEST_LIFE: Duration = Duration::from_mins(1);
/// Longest life a token is trusted for.
const LONGEST_LIFE: Duration = Duration::from_hours(1);

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// What a token is for. Two requests share a token only when all of it is equal; the registry is the owner of the table.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct TokenKey {
    realm: String,
    service: Option<String>,
    scopes: Vec<String>,
    login: Option<Digest>,
}

/// One question to a token server.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TokenRequest<'a> {
    pub(crate) realm: &'a Url,
    pub(crate) guard: Guard,
    pub(crate) service: Option<&'a str>,
    pub(crate) scopes: &'a [String],
    pub(crate) login: Option<&'a Credential>,
}

/// A token and when to fetch the next.
#[derive(Clone)]
pub(crate) struct Token {
    pub(crate) id: u64,
    pub(crate) header: HeaderValue,
    stale_at: Instant,
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token").field("id", &self.id).finish_non_exhaustive()
    }
}

/// The place of one token: whoever comes first fetches it, the others wait for the result.
#[derive(Debug)]
pub(crate) struct TokenCell {
    registry: String,
    state: Mutex<State>,
    fetches: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    token: Option<Token>,
    failure: Option<NetError>,
}

#[derive(Deserialize)]
struct TokenAnswer {
    #[serde(default)]
    token: Option<String>,
    #[serde(default)]
    access_token: Option<String>,
    #[serde(default)]
    expires_in: Value,
}

impl TokenRequest<'_> {
    pub(crate) fn key(&self) -> TokenKey {
        TokenKey {
            realm: self.realm.to_string(),
            service: self.service.map(str::to_owned),
            scopes: self.scopes.to_vec(),
            login: self.login.map(Credential::identity),
        }
    }

    /// The realm with its own query kept, one `scope` per scope, the one demanded first.
    fn url(&self) -> Url {
        let mut url = self.realm.clone();
        {
            let mut query = url.query_pairs_mut();
            if let Some(service) = self.service {
                query.append_pair("service", service);
            }
            for scope in self.scopes {
                query.append_pair("scope", scope);
            }
        }
        url
    }
}

impl TokenCell {
    pub(crate) fn new(registry: &str) -> Self {
        Self { registry: registry.to_owned(), state: Mutex::default(), fetches: AtomicU64::new(0) }
    }

    /// The token, and whether it was there already. Fetched once for all who ask at the same time; they share a failure.
    ///
    /// Cancel-safe: when the fetching task goes away, the next waiting one fetches.
    pub(crate) async fn token(
        &self,
        transport: &Transport,
        request: &TokenRequest<'_>,
        round: u32,
    ) -> Result<(Token, bool), NetError> {
        let fetches = self.fetches.load(Ordering::Acquire);
        let mut state = self.state.lock().await;
        if let Some(token) = state.token.as_ref().filter(|token| token.stale_at > Instant::now()) {
            return Ok((token.clone(), round == 0));
        }
        if let Some(failure) = state.failure.as_ref().filter(|_| self.fetches.load(Ordering::Acquire) != fetches) {
            return Err(failure.clone());
        }
        let fetched = Box::pin(transport.fetch_token(&self.registry, request)).await;
        self.fetches.fetch_add(1, Ordering::AcqRel);
        match fetched {
            Ok(token) => {
                *state = State { token: Some(token.clone()), failure: None };
                Ok((token, false))
            }
            Err(error) => {
                *state = State { token: None, failure: Some(error.clone()) };
                Err(error)
            }
        }
    }

    /// Gives up the token with this id; a newer one stays.
    pub(crate) async fn forget(&self, id: u64) {
        let mut state = self.state.lock().await;
        if state.token.as_ref().is_some_and(|token| token.id == id) {
            state.token = None;
        }
    }
}

impl Transport {
    /// Asks a token server. Its redirects are never followed.
    async fn fetch_token(&self, registry: &str, request: &TokenRequest<'_>) -> Result<Token, NetError> {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        if let Some(login) = request.login.and_then(Credential::basic_header) {
            headers.insert(header::AUTHORIZATION, login?);
        }
        let url = request.url();
        let mut retry = Retry::new(self.retry, is_loopback(&url));
        loop {
            let hop = Hop {
                method: Method::GET,
                url: url.clone(),
                headers: headers.clone(),
                body: Payload::NONE,
                guard: request.guard,
                lane: Lane::Metadata,
                header_timeout: self.timeouts.token,
            };
            match self.ask_for_token(registry, hop).await {
                Ok(token) => return Ok(token),
                Err(error) => self.pause(&mut retry, error).await?,
            }
        }
    }

    async fn ask_for_token(&self, registry: &str, hop: Hop) -> Result<Token, NetError> {
        let url = hop.url.clone();
        count(&self.counters.token_requests);
        let mut reply = self.send(hop).await?;
        if reply.status() != StatusCode::OK {
            let status = reply.status();
            let sent = SentSecrets::of(reply.authorization.as_ref());
            let error = refusal(self, reply, "token server", &sent).await;
            return Err(match status {
                status if is_redirect(status) => {
                    let detail = "the token server answered with a redirect, which is not followed";
                    NetError::new(NetErrorKind::Refused, detail).for_request(&Method::GET, &url)
                }
                StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => error
                    .with_hint(format!("the login for `{registry}` was rejected, or it may not pull this repository")),
                _ => error,
            });
        }
        let limit = self.limits.token_body_bytes;
        let body = reply.read(self, limit).await?;
        let wrong = |why: &'static str| {
            NetError::new(NetErrorKind::Unauthorized, format!("the token server's answer {why}"))
                .for_request(&Method::GET, &url)
        };
        let answer: TokenAnswer =
            serde_json::from_slice(&body).map_err(|_may_hold_a_token| wrong("is not the expected JSON"))?;
        // Both names are in use, some servers send both (the newer one wins), some an empty one.
        let token = [answer.access_token, answer.token].into_iter().flatten().find(|token| !token.is_empty());
        let token = Secret::new(token.ok_or_else(|| wrong("holds no token"))?);
        if token.expose().len() > self.limits.token_bytes {
            return Err(wrong("holds a token that is too long"));
        }
        let header = sensitive(Secret::new(format!("Bearer {}", token.expose())).expose())
            .map_err(|_secret| wrong("holds a token that cannot be sent in a header"))?;
        let life = life_of(&answer.expires_in);
        let early = (life / 10).max(Duration::from_secs(5));
        let stale_at = Instant::now() + life.saturating_sub(early);
        Ok(Token { id: NEXT_ID.fetch_add(1, Ordering::Relaxed), header, stale_at })
    }
}

/// The life of a token from its `expires_in`, in bounds. `issued_at` is not looked at: clocks differ.
fn life_of(expires_in: &Value) -> Duration {
    let seconds = match expires_in {
        Value::Number(number) => {
            number.as_u64().or_else(|| number.as_f64().filter(|float| *float > 0.0).map(|_large| u64::MAX))
        }
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    Duration::from_secs(seconds.unwrap_or(0)).clamp(SHORTEST_LIFE, LONGEST_LIFE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn lives_of_tokens_stay_in_bounds_whatever_the_server_says() {
        for (said, seconds) in [
            (json!(null), 60),
            (json!(0), 60),
            (json!(-1), 60),
            (json!(30), 60),
            (json!(300), 300),
            (json!("600"), 600),
            (json!(9_223_372_036_854_775_808_u64), 3600),
            (json!(1e30), 3600),
            (json!("soon"), 60),
            (json!({}), 60),
        ] {
            assert_eq!(life_of(&said), Duration::from_secs(seconds), "{said}");
        }
    }

    #[test]
    fn the_realms_own_query_is_kept_and_values_are_encoded() {
        let realm = Url::parse("https://a.example:8443/token?account=x").unwrap();
        let scopes = ["repository:a/b:pull".to_owned(), "x&y=#\"".to_owned()];
        let request =
            TokenRequest { realm: &realm, guard: Guard::Own, service: Some("s&t"), scopes: &scopes, login: None };
        assert_eq!(
            request.url().as_str(),
            "https://a.example:8443/token?account=x&service=s%26t&scope=repository%3Aa%2Fb%3Apull&scope=x%26y%3D%23%22"
        );
    }

    #[test]
    fn tokens_are_shared_only_when_realm_service_scope_and_login_are_equal() {
        let (one, other) = (Url::parse("https://a.example/t").unwrap(), Url::parse("https://b.example/t").unwrap());
        let (pull, wide) = (["repository:a:pull".to_owned()], ["repository:b:pull".to_owned()]);
        let login = Credential::Basic { username: "u".into(), password: "p".into() };
        let base = TokenRequest { realm: &one, guard: Guard::Own, service: Some("s"), scopes: &pull, login: None };
        assert_eq!(base.key(), base.key());
        for different in [
            TokenRequest { realm: &other, ..base },
            TokenRequest { service: None, ..base },
            TokenRequest { scopes: &wide, ..base },
            TokenRequest { login: Some(&login), ..base },
        ] {
            assert_ne!(base.key(), different.key());
        }
    }
}
