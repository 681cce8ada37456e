//! Bearer tokens: kept until they age, fetched once for everybody who waits.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use greentic_dist_types::Digest;
use http::HeaderValue;
use tokio::sync::Mutex;
use tokio::time::Instant;
use url::Url;

use super::Credential;
use super::token_server::TokenServer;
use crate::NetError;
use crate::host::Profile;
use crate::target_policy::Guard;
use crate::transport::Transport;

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
    pub(crate) profile: &'a Arc<Profile>,
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

impl Token {
    pub(crate) fn new(header: HeaderValue, stale_at: Instant) -> Self {
        Self { id: NEXT_ID.fetch_add(1, Ordering::Relaxed), header, stale_at }
    }
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

impl TokenRequest<'_> {
    pub(crate) fn key(&self) -> TokenKey {
        TokenKey {
            realm: self.realm.to_string(),
            service: self.service.map(str::to_owned),
            scopes: self.scopes.to_vec(),
            login: self.login.map(Credential::identity),
        }
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
        server: &TokenServer,
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
        let fetched = Box::pin(server.fetch(transport, &self.registry, request)).await;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn row_48_tokens_are_shared_only_when_realm_service_scope_and_login_are_equal() {
        let (one, other) = (Url::parse("https://a.example/t").unwrap(), Url::parse("https://b.example/t").unwrap());
        let (pull, wide) = (["repository:a:pull".to_owned()], ["repository:b:pull".to_owned()]);
        let login = Credential::Basic { username: "u".into(), password: "p".into() };
        let profile = &Profile::own(Vec::new());
        let base =
            TokenRequest { realm: &one, guard: Guard::Own, profile, service: Some("s"), scopes: &pull, login: None };
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
