//! The four ways in which Debian's `docker-registry` is reached, and what each test asks of it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use greentic_dist_testkit::Proxy;
use greentic_dist_testkit::content::Content;
use greentic_dist_testkit::real::{
    DockerRegistry, DockerRegistryConfig, LoggedRequest, RegistryAuth, TlsFront, TokenServer, ready,
};
use greentic_distributor_client::dist::{
    Credential, DistClient, DistClientBuilder, DistOptions, RangePolicy, RetryPolicy, Secret, StaticCredentials,
    TargetPolicy,
};
use greentic_distributor_client::oci::{CopyOptions, CopyReport, Place, Reference};
use tempfile::TempDir;

/// How the registry is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// Plain HTTP, everybody may.
    Plain,
    /// TLS with HTTP/2, by `nginx` in front of it.
    Tls,
    /// A password.
    Htpasswd,
    /// Tokens of a token server.
    Token,
}

/// A registry, and a client that may use it.
pub(super) struct Stage {
    pub(super) way: Way,
    pub(super) registry: DockerRegistry,
    pub(super) work: TempDir,
    front: Option<TlsFront>,
    tokens: Option<TokenServer>,
    runtime: tokio::runtime::Runtime,
}

impl Stage {
    /// Starts everything; `None`, and a line about it, where a program is missing.
    pub(super) fn start(way: Way, test: &str) -> Option<Self> {
        let programs: &[&str] = if way == Way::Tls { &["docker-registry", "nginx"] } else { &["docker-registry"] };
        if !ready(&format!("matrix, {way:?}, {test}"), programs) {
            return None;
        }
        let tokens = (way == Way::Token).then(TokenServer::start);
        let auth = match (&tokens, way) {
            (Some(tokens), _) => tokens.auth(),
            (None, Way::Htpasswd) => RegistryAuth::known(),
            (None, _) => RegistryAuth::None,
        };
        let registry = DockerRegistry::start(&DockerRegistryConfig { auth });
        let front = (way == Way::Tls).then(|| TlsFront::start(registry.addr()));
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        Some(Self { way, registry, work: tempfile::tempdir().unwrap(), front, tokens, runtime })
    }

    /// Where clients find the registry.
    pub(super) fn host(&self) -> String {
        self.front.as_ref().map_or_else(|| self.registry.host(), TlsFront::host)
    }

    /// A line that can be slowed down and cut, in front of it.
    pub(super) fn line(&self) -> Proxy {
        Proxy::start(self.front.as_ref().map_or_else(|| self.registry.addr(), TlsFront::addr))
    }

    /// A client for the registry at `host`, with a cache of its own.
    pub(super) fn builder(&self, host: &str) -> DistClientBuilder {
        let cache = self.work.path().join(format!("cache-{}", host.replace(':', "-")));
        let options = DistOptions { cache_dir: cache, allow_tags: true, offline: false, ..DistOptions::default() };
        let mut builder = DistClient::builder().options(options).retry(RetryPolicy {
            base: Duration::from_millis(2),
            cap: Duration::from_millis(20),
            ..RetryPolicy::default()
        });
        let mut logins = StaticCredentials::new();
        if matches!(self.way, Way::Htpasswd | Way::Token) {
            let password = Secret::from(RegistryAuth::KNOWN_PASSWORD);
            let login = Credential::Basic { username: RegistryAuth::KNOWN_USER.to_owned(), password };
            logins = logins.with(host, login);
        }
        if let Some(tokens) = &self.tokens {
            builder = builder.target_policy(TargetPolicy::new().trust_realm(host, tokens.host()));
        }
        if let Some(front) = &self.front {
            builder = builder.root_certificates_pem(fs::read(front.ca_file()).unwrap());
        }
        builder.credentials(Arc::new(logins))
    }

    pub(super) fn client(&self) -> DistClient {
        self.builder(&self.host()).build()
    }

    /// A client that opens further connections for everything from a MiB on.
    pub(super) fn eager(&self, host: &str) -> DistClient {
        let ranges = RangePolicy {
            from_bytes: 1 << 20,
            segment_bytes: 1 << 20,
            look: Duration::ZERO,
            fast_bytes_per_second: u64::MAX,
            trial: Duration::ZERO,
            loopback: true,
            ..RangePolicy::default()
        };
        self.builder(host).ranges(ranges).build()
    }

    pub(super) fn run<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }

    pub(super) fn place(&self, name: &str) -> Place {
        Place::parse(&format!("{}/{name}", self.host())).unwrap()
    }

    pub(super) fn reference(&self, name: &str) -> Reference {
        Reference::parse(&format!("{}/{name}", self.host())).unwrap()
    }

    pub(super) fn layout(&self, name: &str) -> PathBuf {
        self.work.path().join(name)
    }

    pub(super) fn copy(&self, from: &Place, to: &Place) -> CopyReport {
        let copied = self.run(self.client().copy(from, to, &CopyOptions::default()));
        copied.unwrap_or_else(|error| panic!("{:?}: {error}: {error:?}", self.way))
    }

    /// Puts content into the registry.
    pub(super) fn publish(&self, content: &Content, name: &str) -> CopyReport {
        let layout = self.layout(&format!("source-{}", content.root.digest.to_hex()));
        fs::create_dir_all(&layout).unwrap();
        content.write_layout(&layout, "1");
        self.copy(&layout_place(&layout, ":1"), &self.place(name))
    }

    /// What the registry was asked after its first `already` requests and did not answer with "who are you?": `METHOD path
    /// status`, sessions of uploads cut short.
    pub(super) fn asked(&self, already: usize) -> Vec<String> {
        let mut lines: Vec<String> = self.registry.requests()[already..]
            .iter()
            .map(|request| match request.to_string().split_once("/uploads/") {
                Some((start, rest)) if !rest.contains("mount=") => {
                    format!("{start}/uploads/… {}", rest.rsplit(' ').next().unwrap_or_default())
                }
                _ => request.to_string(),
            })
            .filter(|line| !line.ends_with(" 401"))
            .collect();
        lines.sort();
        lines
    }

    /// What tokens were asked for, as the token server read it; nothing where there is none.
    pub(super) fn scopes(&self) -> Vec<String> {
        self.tokens.iter().flat_map(|tokens| tokens.journal().lines()).collect()
    }

    /// How many requests the registry has answered.
    pub(super) fn already(&self) -> usize {
        self.registry.requests().len()
    }

    /// Panics unless everything went the way the stage is about.
    pub(super) fn assert_way(&self) {
        let requests = self.registry.requests();
        let demanded = requests.iter().any(|request: &LoggedRequest| request.to_string().ends_with(" 401"));
        assert_eq!(demanded, matches!(self.way, Way::Htpasswd | Way::Token), "{requests:?}");
        if let Some(front) = &self.front {
            assert!(!front.requests_when(1, |request| request.protocol == "HTTP/2.0").is_empty());
        }
        if let Some(tokens) = &self.tokens {
            assert!(!tokens.journal().is_empty());
        }
    }
}

/// A place in a layout; `what` is `:TAG`, `@DIGEST` or nothing.
pub(super) fn layout_place(path: &Path, what: &str) -> Place {
    Place::parse(&format!("oci-layout:{}{what}", path.display())).unwrap()
}
