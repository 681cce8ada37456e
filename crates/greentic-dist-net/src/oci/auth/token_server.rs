//! Asking a token server: `GET` with the login as `Basic` (distribution's token specification), or `POST` with an OAuth2 grant.
//!
//! An identity token is exchanged by `POST`; a password goes by `GET`, which every token server understands, and by `POST` to
//! one that only knows OAuth2, or first where [`NetBuilder::oauth2_passwords`](crate::NetBuilder::oauth2_passwords) says so.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use greentic_dist_types::{Digest, Secret};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use serde::Deserialize;
use serde_json::Value;
use tokio::time::{Instant, timeout};
use url::{Url, form_urlencoded};

use super::credential::{Credential, sensitive};
use super::token::{Token, TokenRequest};
use super::{insert_bounded, lock};
use crate::limit::Lane;
use crate::payload::Payload;
use crate::redirect::is_redirect;
use crate::stats::count;
use crate::trace::Errand;
use crate::transport::{Hop, Transport};
use crate::verdict::refusal;
use crate::{Limit, NetError, NetErrorKind};

/// Shortest life a token is given, whatever the server says: servers leave it out, say 0, or have a wrong clock.
const SHORTEST_LIFE: Duration = Duration::from_mins(1);
/// Longest life a token is trusted for.
const LONGEST_LIFE: Duration = Duration::from_hours(24);
/// How much longer than one answer of a token server all of them may take, for one token: 90 s.
const WHOLE: u32 = 6;
/// The name this client has in OAuth2 (token specification, `client_id`).
const CLIENT_ID: &str = "greentic-dist";

/// What is remembered about the token servers of one registry.
#[derive(Debug, Default)]
pub(crate) struct TokenServer {
    /// Passwords are no longer posted.
    refuses_oauth2: AtomicBool,
    /// Refresh tokens that came with tokens, for this session: by realm, service and login.
    refresh: Mutex<HashMap<Session, Secret>>,
}

type Session = (String, Option<String>, Digest);

/// How a token is asked for.
#[derive(Clone, Copy)]
enum Grant<'a> {
    Get,
    Password { username: &'a str, password: &'a Secret },
    Refresh(&'a Secret),
}

#[derive(Deserialize)]
struct TokenAnswer {
    #[serde(default)]
    token: Option<String>,
    #[serde(default)]
    access_token: Option<String>,
    #[serde(default)]
    refresh_token: Option<String>,
    #[serde(default)]
    expires_in: Value,
    #[serde(default)]
    issued_at: Value,
}

impl TokenServer {
    /// A new token, within [`WHOLE`] times the time that one answer has. Redirects are never followed.
    ///
    /// # Errors
    /// `Unauthorized` or `Forbidden` where the login was rejected or the answer holds no token; otherwise by cause.
    pub(crate) async fn fetch(
        &self,
        transport: &Transport,
        registry: &str,
        request: &TokenRequest<'_>,
    ) -> Result<Token, NetError> {
        let ask = Asking { server: self, transport, registry, request };
        let fetching = async {
            match request.login {
                None | Some(Credential::Bearer(_)) => ask.ask(Grant::Get).await,
                Some(Credential::Basic { username, password }) => self.with_password(&ask, username, password).await,
                Some(Credential::IdentityToken(token)) => self.with_identity_token(&ask, token).await,
            }
        };
        let most = transport.timeouts.token.saturating_mul(WHOLE);
        timeout(most, fetching).await.unwrap_or_else(|_elapsed| {
            let detail = format!("the token server gave no token within {} s", most.as_secs_f32());
            Err(NetError::new(NetErrorKind::Timeout, detail).for_request(&Method::GET, request.realm))
        })
    }

    async fn with_password(&self, ask: &Asking<'_>, username: &str, password: &Secret) -> Result<Token, NetError> {
        let post = Grant::Password { username, password };
        if ask.transport.oauth2_passwords && !self.refuses_oauth2.load(Ordering::Relaxed) {
            return match ask.ask(post).await {
                // GCR, Artifactory, ACR and others answer so where they mean that they know no OAuth2.
                Err(error) if matches!(error.status(), Some(400 | 401 | 404 | 405)) => {
                    let token = ask.ask(Grant::Get).await?;
                    self.refuses_oauth2.store(true, Ordering::Relaxed);
                    Ok(token)
                }
                other => other,
            };
        }
        match ask.ask(Grant::Get).await {
            Err(error) if is_unknown_method(&error) => match ask.ask(post).await {
                Err(second) if is_unknown_method(&second) => Err(error),
                other => other,
            },
            other => other,
        }
    }

    async fn with_identity_token(&self, ask: &Asking<'_>, token: &Secret) -> Result<Token, NetError> {
        let session = ask.session();
        let kept = session.as_ref().and_then(|session| lock(&self.refresh).get(session).cloned());
        if let Some(kept) = kept.filter(|kept| kept != token) {
            match ask.ask(Grant::Refresh(&kept)).await {
                // It was for one use, or ran out: the token of the user still counts.
                Err(error) if matches!(error.status(), Some(400 | 401 | 403)) => {
                    session.map(|session| lock(&self.refresh).remove(&session));
                }
                other => return other,
            }
        }
        match ask.ask(Grant::Refresh(token)).await {
            Err(error) if is_unknown_method(&error) => ask.ask(Grant::Get).await,
            other => other,
        }
    }
}

/// Whether a token server does not know the way it was asked.
fn is_unknown_method(error: &NetError) -> bool {
    matches!(error.status(), Some(404 | 405))
}

/// One question, however often it is put.
struct Asking<'a> {
    server: &'a TokenServer,
    transport: &'a Transport,
    registry: &'a str,
    request: &'a TokenRequest<'a>,
}

impl Asking<'_> {
    fn session(&self) -> Option<Session> {
        let TokenRequest { realm, service, login, .. } = *self.request;
        Some((realm.to_string(), service.map(str::to_owned), login?.identity()))
    }

    /// A `POST` is sent once: what it says may be good for one use, and the server may have taken it without an answer.
    async fn ask(&self, grant: Grant<'_>) -> Result<Token, NetError> {
        let mut retry = self.transport.retry_at(self.request.realm);
        retry.host().budget().earn();
        loop {
            match self.ask_once(self.hop(grant)?).await {
                Ok(token) => return Ok(token),
                Err(error) if matches!(grant, Grant::Get) || error.is_connect() && error.status().is_none() => {
                    self.transport.pause(&mut retry, error).await?;
                }
                Err(error) => self.transport.pause(&mut retry, error.not_repeatable()).await?,
            }
        }
    }

    fn hop(&self, grant: Grant<'_>) -> Result<Hop, NetError> {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        let (method, url, body) = match grant {
            Grant::Get => {
                if let Some(login) = self.request.login.and_then(Credential::basic_header) {
                    headers.insert(header::AUTHORIZATION, login?);
                }
                (Method::GET, self.request.url(), Payload::NONE)
            }
            Grant::Password { .. } | Grant::Refresh(_) => {
                let form = HeaderValue::from_static("application/x-www-form-urlencoded");
                headers.insert(header::CONTENT_TYPE, form);
                (Method::POST, self.request.realm.clone(), Payload::Bytes(self.request.form(grant)))
            }
        };
        Ok(Hop {
            method,
            url,
            headers,
            body,
            guard: self.request.guard,
            profile: Arc::clone(self.request.profile),
            lane: Lane::Metadata,
            header_timeout: self.transport.timeouts.token,
            errand: Errand { op: "token", ..Errand::default() },
            stays: false,
        })
    }

    async fn ask_once(&self, hop: Hop) -> Result<Token, NetError> {
        let (transport, method, url) = (self.transport, hop.method.clone(), hop.url.clone());
        count(&transport.hosts.of(&url).tally().token_requests);
        let mut reply = transport.send(hop).await?;
        if reply.status() != StatusCode::OK {
            let status = reply.status();
            let error = refusal(transport, reply, "token server", &transport.secrets.known()).await;
            return Err(match status {
                status if is_redirect(status) => {
                    let detail = "the token server answered with a redirect, which is not followed";
                    NetError::new(NetErrorKind::Refused, detail).for_request(&method, &url)
                }
                StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => error.with_hint(format!(
                    "the login for `{}` was rejected, or it may not do this with the repository",
                    self.registry
                )),
                // `invalid_grant` (RFC 6749, 5.2): the login is not good, whatever the status says.
                StatusCode::BAD_REQUEST if method == Method::POST => error.with_kind(NetErrorKind::Unauthorized),
                _ => error,
            });
        }
        let body = reply.read(transport, transport.limits.token_body_bytes).await;
        let body = body.map_err(|error| transport.limits.name(Limit::TokenBodyBytes, error))?;
        self.understand(&body).map_err(|error| error.for_request(&method, &url))
    }

    fn understand(&self, body: &[u8]) -> Result<Token, NetError> {
        let wrong =
            |why: &'static str| NetError::new(NetErrorKind::Unauthorized, format!("the token server's answer {why}"));
        let answer: TokenAnswer =
            serde_json::from_slice(body).map_err(|_may_hold_a_token| wrong("is not the expected JSON"))?;
        // Both names are in use, some servers send both (the newer one wins), some an empty one.
        let token = [answer.access_token, answer.token].into_iter().flatten().find(|token| !token.is_empty());
        let token = Secret::new(token.ok_or_else(|| wrong("holds no token"))?);
        if token.expose().len() > self.transport.limits.token_bytes {
            let (limit, most) = (Limit::TokenBytes, self.transport.limits.get(Limit::TokenBytes));
            return Err(wrong("holds a token that is too long").with_limit(limit, limit.advice(most)));
        }
        let header = sensitive(Secret::new(format!("Bearer {}", token.expose())).expose())
            .map_err(|_secret| wrong("holds a token that cannot be sent in a header"))?;
        let refresh = answer.refresh_token.map(Secret::new).filter(|token| !token.is_empty());
        if let (Some(refresh), Some(session), Some(Credential::IdentityToken(_))) =
            (refresh, self.session(), self.request.login)
            && refresh.expose().len() <= self.transport.limits.token_bytes
        {
            self.transport.secrets.note_secret(refresh.expose());
            insert_bounded(&self.server.refresh, session, refresh);
        }
        let life = life_of(&answer.expires_in, &answer.issued_at, SystemTime::now());
        let early = (life / 10).max(Duration::from_secs(5));
        Ok(Token::new(header, Instant::now() + life.saturating_sub(early)))
    }
}

impl TokenRequest<'_> {
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

    /// The body of a `POST` (token specification, "OAuth2"): the scopes are one value, with spaces.
    fn form(&self, grant: Grant<'_>) -> Bytes {
        let mut form = form_urlencoded::Serializer::new(String::new());
        match grant {
            Grant::Get => {}
            Grant::Password { username, password } => {
                form.append_pair("grant_type", "password");
                form.append_pair("username", username).append_pair("password", password.expose());
            }
            Grant::Refresh(token) => {
                form.append_pair("grant_type", "refresh_token").append_pair("refresh_token", token.expose());
            }
        }
        form.append_pair("client_id", CLIENT_ID);
        if let Some(service) = self.service {
            form.append_pair("service", service);
        }
        if !self.scopes.is_empty() {
            form.append_pair("scope", &self.scopes.join(" "));
        }
        form.finish().into()
    }
}

/// The life a token has left, in bounds. A time of issue counts only when it is in the past and leaves some of the life.
fn life_of(expires_in: &Value, issued_at: &Value, now: SystemTime) -> Duration {
    let seconds = match expires_in {
        Value::Number(number) => {
            number.as_u64().or_else(|| number.as_f64().filter(|float| *float > 0.0).map(|_large| u64::MAX))
        }
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    let life = Duration::from_secs(seconds.unwrap_or(0)).clamp(SHORTEST_LIFE, LONGEST_LIFE);
    let age = issued_at.as_str().and_then(parse_time).and_then(|issued| now.duration_since(issued).ok());
    match age.and_then(|age| life.checked_sub(age)) {
        Some(left) => left.max(SHORTEST_LIFE),
        None => life,
    }
}

/// A date and time as RFC 3339 writes them; `None` for anything else and for times before 1970.
fn parse_time(text: &str) -> Option<SystemTime> {
    let (date, rest) = text.trim().split_once(['T', 't', ' '])?;
    let mut date = date.splitn(3, '-').map(|part| part.parse::<i64>().ok());
    let (year, month, day) = (date.next()??, date.next()??, date.next()??);
    let zone_at = rest.find(['Z', 'z', '+', '-'])?;
    let (time, zone) = rest.split_at_checked(zone_at)?;
    let mut time = time.splitn(3, ':');
    let (hour, minute) = (time.next()?.parse::<i64>().ok()?, time.next()?.parse::<i64>().ok()?);
    let second = time.next()?.split('.').next()?.parse::<i64>().ok()?;
    let offset = match zone {
        "Z" | "z" => 0,
        zone => {
            let (hours, minutes) = zone.get(1..)?.split_once(':')?;
            let minutes = hours.parse::<i64>().ok()? * 60 + minutes.parse::<i64>().ok()?;
            if zone.starts_with('-') { -minutes } else { minutes }
        }
    };
    let in_range = (1970..=9999).contains(&year)
        && (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && (0..24).contains(&hour)
        && (0..60).contains(&minute)
        && (0..=60).contains(&second)
        && (-1_440..=1_440).contains(&offset);
    if !in_range {
        return None;
    }
    // Days since 1970-01-01, with years that begin in March so that the leap day is their last.
    let (shifted, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = shifted * 365 + shifted / 4 - shifted / 100 + shifted / 400 + (month * 153 + 2) / 5 + day - 719_469;
    let seconds = days * 86_400 + hour * 3_600 + minute * 60 + second - offset * 60;
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(u64::try_from(seconds).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::Profile;
    use crate::target_policy::Guard;
    use serde_json::json;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn row_47_lives_of_tokens_stay_in_bounds_whatever_the_server_says() {
        for (said, seconds) in [
            (json!(null), 60),
            (json!(0), 60),
            (json!(-1), 60),
            (json!(30), 60),
            (json!(300), 300),
            (json!("600"), 600),
            (json!(9_223_372_036_854_775_808_u64), 86_400),
            (json!(1e30), 86_400),
            (json!("soon"), 60),
            (json!({}), 60),
        ] {
            assert_eq!(life_of(&said, &json!(null), SystemTime::now()), Duration::from_secs(seconds), "{said}");
        }
    }

    #[test]
    fn a_time_of_issue_shortens_a_life_unless_it_cannot_be_true() {
        // 2026-11-20T10:00:00Z
        let now = at(1_795_168_800);
        for (issued, seconds) in [
            (json!("2026-11-20T10:00:00Z"), 300),
            (json!("2026-11-20T09:58:00.123456789Z"), 180),
            (json!("2026-11-20T11:58:00+02:00"), 180),
            // Nearly over by our clock: clocks differ, and a token that is over is noticed anyhow.
            (json!("2026-11-20T09:55:10Z"), 60),
            (json!("2026-11-20T09:00:00Z"), 300),
            (json!("2026-11-20T10:30:00Z"), 300),
            (json!("yesterday"), 300),
            (json!(1_795_168_000), 300),
            (json!(null), 300),
        ] {
            assert_eq!(life_of(&json!(300), &issued, now), Duration::from_secs(seconds), "{issued}");
        }
    }

    #[test]
    fn times_are_read_as_rfc_3339_writes_them() {
        for (text, seconds) in [
            ("1970-01-01T00:00:00Z", Some(0)),
            ("2000-02-29T12:00:00Z", Some(951_825_600)),
            ("2000-03-01t00:00:00z", Some(951_868_800)),
            ("2009-11-10T23:00:00-01:30", Some(1_257_899_400)),
            ("1969-12-31T23:59:59Z", None),
            ("2026-13-01T00:00:00Z", None),
            ("2026-11-20", None),
            ("2026-11-20T10:00Z", None),
            ("2026-11-20T10:00:00", None),
            ("99999999999999999999-01-01T00:00:00Z", None),
            ("T::Z", None),
            ("", None),
        ] {
            assert_eq!(parse_time(text), seconds.map(at), "{text}");
        }
    }

    #[test]
    fn row_45_the_realms_own_query_is_kept_and_values_are_encoded() {
        let realm = Url::parse("https://a.example:8443/token?account=x").unwrap();
        let scopes = ["repository:a/b:pull".to_owned(), "x&y=#\"".to_owned()];
        let profile = &Profile::own(Vec::new());
        let service = Some("s&t");
        let request = TokenRequest { realm: &realm, guard: Guard::Own, profile, service, scopes: &scopes, login: None };
        assert_eq!(
            request.url().as_str(),
            "https://a.example:8443/token?account=x&service=s%26t&scope=repository%3Aa%2Fb%3Apull&scope=x%26y%3D%23%22"
        );
        let form = request.form(Grant::Refresh(&"r&=".into()));
        assert_eq!(
            form,
            "grant_type=refresh_token&refresh_token=r%26%3D&client_id=greentic-dist&service=s%26t\
             &scope=repository%3Aa%2Fb%3Apull+x%26y%3D%23%22"
        );
    }
}
