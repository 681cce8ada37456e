//! The connection pools: one for each runtime, way, and set of connection settings.

use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use tokio::runtime;
use url::Url;

use crate::connect::CountConnections;
use crate::host::Profile;
use crate::proxy::{Proxies, ProxyRule, Through};
use crate::resolver::GuardedResolver;
use crate::target_policy::Guard;
use crate::transport::Transport;
use crate::{NetError, NetErrorKind, tls};

/// Runtimes whose connections are kept; the oldest makes room.
const RUNTIMES: usize = 4;
/// Most pools; the oldest makes room.
const POOLS: usize = 256;

/// The pools of all requests of one [`Net`](crate::Net).
pub(crate) struct Pools {
    idle_per_host: usize,
    clients: Mutex<Vec<(Slot, reqwest::Client)>>,
    proxies: OnceLock<Proxies>,
}

/// One kind of connection pool. A connection lives on the runtime that opened it and dies with it, so pools are per runtime.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Slot {
    runtime: runtime::Id,
    tls: bool,
    /// For requests each of which is to have a connection of its own, over which HTTP/2 would put them together.
    apart: bool,
    route: Route,
    /// The [`Profile`] connections are made with.
    profile: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Route {
    Direct(Guard),
    Proxy,
}

impl fmt::Debug for Pools {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A client may know the login of a proxy.
        f.debug_struct("Pools").field("idle_per_host", &self.idle_per_host).finish_non_exhaustive()
    }
}

impl Pools {
    /// No pool yet; `idle_per_host` unused connections are kept in each.
    pub(crate) fn new(idle_per_host: usize) -> Self {
        Self { idle_per_host, clients: Mutex::default(), proxies: OnceLock::new() }
    }
}

impl Transport {
    /// The client for a URL, built at first need; and the proxy it connects through. `apart` for a connection that speaks
    /// HTTP/1.1 and is shared with no other request at the same time.
    pub(crate) fn client(
        &self,
        url: &Url,
        guard: Guard,
        apart: bool,
        profile: &Profile,
    ) -> Result<(reqwest::Client, Option<Through>), NetError> {
        let runtime = runtime::Handle::try_current()
            .map_err(|error| {
                NetError::new(NetErrorKind::InvalidInput, "no async runtime is running").with_source(error)
            })?
            .id();
        let proxy = self.proxy_to(url, profile)?;
        let route = if proxy.is_some() { Route::Proxy } else { Route::Direct(guard) };
        let tls = url.scheme() == "https";
        // Without TLS every connection speaks HTTP/1.1.
        let slot = Slot { runtime, tls, apart: tls && apart, route, profile: profile.id() };
        let mut clients = self.pools.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, client)) = clients.iter().find(|(known, _)| *known == slot) {
            return Ok((client.clone(), proxy));
        }
        let client = self.build(slot, profile)?;
        let mut runtimes: Vec<runtime::Id> = Vec::new();
        for (known, _) in clients.iter() {
            if known.runtime != runtime && !runtimes.contains(&known.runtime) {
                runtimes.push(known.runtime);
            }
        }
        if let (true, Some(oldest)) = (runtimes.len() >= RUNTIMES, runtimes.first()) {
            clients.retain(|(known, _)| known.runtime != *oldest);
        }
        if clients.len() >= POOLS {
            clients.remove(0);
        }
        clients.push((slot, client.clone()));
        Ok((client, proxy))
    }

    /// The proxy on the way to a URL.
    ///
    /// # Errors
    /// `Config` for a proxy that cannot be used, and when it would be shown a client certificate.
    fn proxy_to(&self, url: &Url, profile: &Profile) -> Result<Option<Through>, NetError> {
        if crate::config::is_loopback(url) {
            return Ok(None);
        }
        let proxy = self.pools.proxies.get_or_init(|| Proxies::of(&self.proxy)).on_the_way_to(url, &self.secrets)?;
        // The handshake with such a proxy is made with the settings of the host behind it.
        if profile.has_identity() && proxy.as_ref().is_some_and(Through::speaks_tls) {
            let host = url.host_str().unwrap_or_default();
            let detail = format!("the client certificate for {host} would be shown to a proxy that speaks TLS");
            return Err(NetError::new(NetErrorKind::Config, detail)
                .with_hint(format!("name an `http://` proxy, or exempt `{host}` from proxies (NO_PROXY)")));
        }
        Ok(proxy)
    }

    fn build(&self, slot: Slot, profile: &Profile) -> Result<reqwest::Client, NetError> {
        let mut tls = if slot.tls { profile.tls()? } else { tls::without_roots()? };
        if slot.apart {
            tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        }
        let builder = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .no_gzip()
            .no_brotli()
            .no_zstd()
            .no_deflate()
            .connect_timeout(profile.connect_timeout().unwrap_or(self.timeouts.connect))
            .pool_idle_timeout(self.timeouts.pool_idle)
            .pool_max_idle_per_host(self.pools.idle_per_host)
            .connector_layer(CountConnections)
            .tcp_nodelay(true)
            .tcp_keepalive(Duration::from_secs(15))
            .http2_initial_stream_window_size(8 << 20)
            .http2_initial_connection_window_size(32 << 20)
            // Somewhat more than is taken: what exceeds the limit is then told from what breaks the protocol.
            .http1_max_headers(self.limits.header_fields.saturating_add(100))
            .http2_max_header_list_size(
                u32::try_from(self.limits.header_bytes).unwrap_or(u32::MAX).saturating_add(1 << 20),
            )
            .http2_keep_alive_interval(Duration::from_secs(20))
            .http2_keep_alive_timeout(Duration::from_secs(10));
        let builder = if slot.apart { builder.http1_only() } else { builder };
        let builder = match slot.route {
            Route::Proxy => match &self.proxy {
                ProxyRule::Through(proxy) => builder.proxy(proxy.to_reqwest()?),
                // The HTTP client reads the same settings.
                ProxyRule::System | ProxyRule::Off => builder,
            },
            Route::Direct(guard) => builder.no_proxy().dns_resolver(Arc::new(GuardedResolver(guard))),
        };
        builder.build().map_err(|error| {
            NetError::new(NetErrorKind::InvalidInput, "the HTTP client could not be set up").with_source(error)
        })
    }
}
