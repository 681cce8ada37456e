//! A cache to lose, a registry to lie, and the questions every test asks afterwards.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use greentic_dist_testkit::fixture::{self, Artifact, WASM_TYPE};
use greentic_dist_testkit::scenario::{Auth, Lie, LyingRegistry, Scenario};
use greentic_dist_testkit::{Journal, TreeSnapshot};
use greentic_distributor_client::dist::{
    Credential, DistClient, DistClientBuilder, DistError, DistErrorKind, DistOptions, ResolvedArtifact, RetryPolicy,
    Secret, StaticCredentials, Timeouts,
};
use tempfile::TempDir;

/// A secret that must be seen by nobody it was not meant for.
pub(crate) const CANARY: &str = "canary-7d1f";
/// The content of the file beside the cache that nothing may change.
const SENTINEL: &str = "do not touch\n";

/// A directory with a cache in it and a sentinel beside it.
pub(crate) struct Home(TempDir);

impl Home {
    pub(crate) fn new() -> Self {
        let home = Self(TempDir::new().unwrap());
        fs::create_dir(home.outside()).unwrap();
        fs::write(home.sentinel(), SENTINEL).unwrap();
        home
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn cache(&self) -> PathBuf {
        self.path().join("cache")
    }

    pub(crate) fn outside(&self) -> PathBuf {
        self.path().join("outside")
    }

    pub(crate) fn sentinel(&self) -> PathBuf {
        self.outside().join("sentinel")
    }

    /// Options that read nothing of this process's environment.
    pub(crate) fn options(&self) -> DistOptions {
        DistOptions {
            cache_dir: self.cache(),
            allow_tags: true,
            offline: false,
            allow_insecure_local_http: false,
            cache_max_bytes: 0,
            repo_registry_base: None,
            store_registry_base: None,
            store_auth_path: self.path().join("store-auth.json"),
            store_state_path: self.path().join("store-auth.json"),
            #[cfg(feature = "fixture-resolver")]
            fixture_dir: None,
        }
    }

    /// A client that waits milliseconds where the default waits seconds, but is as patient with slow machines.
    pub(crate) fn builder(&self) -> DistClientBuilder {
        DistClient::builder()
            .options(self.options())
            .retry(quick_retries())
            .credentials(Arc::new(StaticCredentials::new()))
    }

    pub(crate) fn client(&self) -> DistClient {
        self.builder().build()
    }

    pub(crate) fn offline(&self) -> DistClient {
        self.builder().options(DistOptions { offline: true, ..self.options() }).build()
    }

    pub(crate) fn pins_only(&self) -> DistClient {
        self.builder().options(DistOptions { allow_tags: false, ..self.options() }).build()
    }

    pub(crate) fn with_login(&self, host: &str, password: &str) -> DistClient {
        self.builder().credentials(login(host, password)).build()
    }

    /// A client that gives up on silence quickly.
    pub(crate) fn impatient(&self) -> DistClient {
        self.builder().timeouts(impatience()).build()
    }

    /// The directory of the entry with this pin.
    pub(crate) fn entry(&self, pin: impl std::fmt::Display) -> PathBuf {
        let pin = pin.to_string();
        self.cache().join(pin.split_once(':').unwrap().1)
    }

    /// Panics when anything beside the cache changed or appeared.
    #[track_caller]
    pub(crate) fn assert_nothing_outside_changed(&self) {
        assert_eq!(fs::read_to_string(self.sentinel()).unwrap(), SENTINEL);
        let mut names: Vec<String> = fs::read_dir(self.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .filter(|name| name != "cache")
            .collect();
        names.sort();
        assert_eq!(names, ["outside"]);
        assert_eq!(TreeSnapshot::of(&self.outside()).paths(), ["sentinel"]);
    }

    /// Panics when the cache holds anything but its tag and empty directories.
    #[track_caller]
    pub(crate) fn assert_cache_empty(&self) {
        let files = TreeSnapshot::of(&self.cache());
        let beside = ["CACHEDIR.TAG", "state/endpoints.json"];
        let files: Vec<_> = files.files().into_iter().filter(|file| !beside.contains(file)).collect();
        assert!(files.is_empty(), "the cache holds {files:?}");
        assert!(self.client().list_cache().is_empty());
    }

    /// Panics when `text` stands in any file below this directory.
    #[track_caller]
    pub(crate) fn assert_in_no_file(&self, text: &str) {
        assert_in_no_file(self.path(), text);
    }
}

#[track_caller]
fn assert_in_no_file(dir: &Path, text: &str) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_symlink() {
            continue;
        }
        if path.is_dir() {
            assert_in_no_file(&path, text);
        } else {
            let bytes = fs::read(&path).unwrap();
            let found = bytes.windows(text.len()).any(|window| window == text.as_bytes());
            assert!(!found, "`{text}` stands in {}", path.display());
        }
    }
}

/// As many attempts as by default, with waits too short to notice.
pub(crate) fn quick_retries() -> RetryPolicy {
    RetryPolicy { base: Duration::from_millis(1), cap: Duration::from_millis(4), ..RetryPolicy::default() }
}

/// For tests that expect a timeout: short enough not to be waited for.
pub(crate) fn impatience() -> Timeouts {
    Timeouts {
        headers: Duration::from_millis(300),
        token: Duration::from_millis(300),
        idle_body: Duration::from_millis(150),
        ..Timeouts::default()
    }
}

pub(crate) fn login(host: &str, password: &str) -> Arc<StaticCredentials> {
    let login = Credential::Basic { username: "alice".to_owned(), password: Secret::new(password) };
    Arc::new(StaticCredentials::new().with(host, login))
}

/// A component of 200 000 bytes: more than one read of any buffer, less than a moment.
pub(crate) fn sample() -> Artifact {
    fixture::artifact(WASM_TYPE, fixture::random_bytes(1, 200_000))
}

/// Another small component.
pub(crate) fn other(seed: u64) -> Artifact {
    fixture::artifact(WASM_TYPE, fixture::random_bytes(seed, 3_000))
}

/// An honest registry with [`sample`] as `acme/hello:1`.
pub(crate) fn registry() -> LyingRegistry {
    Scenario::new(sample()).start()
}

/// A registry whose word is about to be doubted: it has honestly served `acme/hello:good` into a cache, and lies from now
/// on. The journal starts empty.
pub(crate) struct Doubt {
    pub(crate) home: Home,
    pub(crate) registry: LyingRegistry,
    before: TreeSnapshot,
}

impl Doubt {
    pub(crate) async fn about(lies: impl IntoIterator<Item = Lie>) -> Self {
        Self::in_scenario(Scenario::new(sample()), lies).await
    }

    pub(crate) async fn with_auth(auth: Auth, lies: impl IntoIterator<Item = Lie>) -> Self {
        Self::in_scenario(Scenario::new(sample()).auth(auth), lies).await
    }

    async fn in_scenario(scenario: Scenario, lies: impl IntoIterator<Item = Lie>) -> Self {
        let home = Home::new();
        let registry = scenario.start();
        registry.publish(&other(99), "good");
        let client = home.with_login(&registry.host(), CANARY);
        client.resolve_ref(&registry.reference_to("good")).await.expect("an honest pull");
        registry.journal().clear();
        for lie in lies {
            registry.lie(lie);
        }
        let before = TreeSnapshot::of(&home.cache());
        Self { home, registry, before }
    }

    /// `oci://` and the tag of the artifact in question.
    pub(crate) fn reference(&self) -> String {
        format!("oci://{}", self.registry.reference())
    }

    /// `oci://` and the pin of the artifact in question.
    pub(crate) fn pinned(&self) -> String {
        format!("oci://{}", self.registry.pinned())
    }

    pub(crate) fn journal(&self) -> Journal {
        self.registry.journal()
    }

    /// How often manifests and blobs were asked for.
    pub(crate) fn asked(&self) -> (usize, usize) {
        (self.journal().count_containing("/manifests/"), self.journal().count_containing("/blobs/"))
    }

    /// Pulls what must be refused: the cache and everything around it is as it was, and the good artifact still opens.
    #[track_caller]
    pub(crate) fn refused(&self, client: &DistClient, reference: &str) -> impl Future<Output = Refusal> {
        let caller = std::panic::Location::caller();
        let (client, reference) = (client.clone(), reference.to_owned());
        async move {
            let error = match client.resolve_ref(&reference).await {
                Ok(artifact) => panic!("{caller}: a pull went well: {artifact:?}"),
                Err(error) => error,
            };
            let diff = self.before.diff(&TreeSnapshot::of(&self.home.cache()));
            assert!(diff.is_empty(), "{caller}: the cache changed:\n{}", diff.join("\n"));
            self.home.assert_nothing_outside_changed();
            Refusal { error, reference }
        }
    }

    /// As [`Doubt::refused`], where the transfer was cut: a partial download of the right bytes may stay, nothing else.
    #[track_caller]
    pub(crate) fn cut_off(&self, client: &DistClient, reference: &str) -> impl Future<Output = Refusal> {
        let caller = std::panic::Location::caller();
        let (client, reference) = (client.clone(), reference.to_owned());
        async move {
            let Err(error) = client.resolve_ref(&reference).await else { panic!("{caller}: a pull went well") };
            let partial = format!("partial/sha256-{}.part", self.registry.artifact().layer_digest().to_hex());
            let diff = self.before.diff(&TreeSnapshot::of(&self.home.cache()));
            let others: Vec<_> = diff.iter().filter(|line| !line.starts_with(&format!("+ {partial}: "))).collect();
            assert!(others.is_empty(), "{caller}: the cache changed:\n{others:#?}");
            if let Ok(bytes) = fs::read(self.home.cache().join(partial)) {
                assert!(self.registry.artifact().layer_bytes().starts_with(&bytes), "{caller}: wrong partial bytes");
            }
            self.home.assert_nothing_outside_changed();
            Refusal { error, reference }
        }
    }

    /// The same pull from the same client, once the registry is honest again.
    pub(crate) async fn heals(&self, client: &DistClient) {
        self.registry.be_honest();
        let artifact = client.resolve_ref(&self.reference()).await.expect("an honest registry");
        assert_delivers(&artifact, self.registry.artifact());
    }
}

/// Panics unless `artifact` is `expected`, proven and in the cache.
#[track_caller]
pub(crate) fn assert_delivers(artifact: &ResolvedArtifact, expected: &Artifact) {
    assert_eq!(artifact.digest, expected.manifest_digest.to_string());
    assert_eq!(artifact.content_digest(), expected.layer_digest().to_string());
    assert!(artifact.wasm_bytes().unwrap() == expected.layer_bytes(), "other bytes came out");
}

/// Why a pull failed.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) error: DistError,
    reference: String,
}

impl Refusal {
    /// The error and all its causes.
    pub(crate) fn text(&self) -> String {
        chain(&self.error)
    }

    /// Panics unless it is of this kind and exit code, names the reference, and gives every one of these reasons.
    #[track_caller]
    pub(crate) fn is(&self, kind: DistErrorKind, exit: i32, reasons: &[&str]) {
        let text = self.text();
        assert_eq!((self.error.kind(), self.error.exit_code()), (kind, exit), "{text}");
        assert!(text.contains(&self.reference), "`{}` is not named: {text}", self.reference);
        for reason in reasons {
            assert!(text.contains(reason), "`{reason}` is not said: {text}");
        }
        assert!(!text.contains(CANARY), "a secret is told: {text}");
        assert!(!format!("{:?}", self.error).contains(CANARY), "a secret is told to debuggers");
        assert!(!text.chars().any(char::is_control), "{text:?}");
    }
}

/// An error and its sources in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// The error of a call that must fail.
#[track_caller]
pub(crate) fn failure<T>(result: Result<T, DistError>) -> DistError {
    match result {
        Ok(_) => panic!("it went well"),
        Err(error) => error,
    }
}

/// Panics unless a call failed with this kind and exit code.
#[track_caller]
pub(crate) fn assert_fails<T>(result: Result<T, DistError>, kind: DistErrorKind, exit: i32) -> String {
    let error = failure(result);
    let text = chain(&error);
    assert_eq!((error.kind(), error.exit_code()), (kind, exit), "{text}");
    text
}
