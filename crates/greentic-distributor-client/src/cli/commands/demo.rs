//! `greentic-dist demo`: the whole flow against a registry inside this process, step by step, with what it cost.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use greentic_dist_serve::{Registry, RunningRegistry};
use greentic_dist_types::{Digest, media_type};
use serde_json::{Value, json};

use super::Context;
use crate::dist::{
    DistClient, DistError, DistErrorKind, DistOptions, Event, Reporter, ResolvePolicy, ResolvedArtifact,
};
use crate::dist_cli::CliError;
use crate::dist_cli::output::Output;

/// A component of a few hundred bytes that any Wasm tool parses; its text is `assets/hello.wat`.
const COMPONENT: &[u8] = include_bytes!("../../../assets/hello.component.wasm");
const REPOSITORY: &str = "demo/hello";
const TAG: &str = "1";

/// One step of the demo, for people and for `--json`.
struct Step {
    name: &'static str,
    text: String,
    facts: Value,
}

struct Demo<'a> {
    output: &'a Output,
    steps: Vec<Step>,
    registry: Option<RunningRegistry>,
    host: String,
    received: Arc<Received>,
    cache_dir: PathBuf,
    reference: String,
}

/// Counts the bytes of transfers.
#[derive(Default)]
struct Received(AtomicU64);

impl Reporter for Received {
    fn event(&self, event: &Event<'_>) {
        if let Event::Finished { bytes, .. } = event {
            self.0.fetch_add(*bytes, Ordering::Relaxed);
        }
    }
}

/// Arguments of `greentic-dist demo`.
#[derive(Debug, clap::Args)]
pub struct DemoArgs {
    /// Keep the demo's cache and registry content in this directory (must not exist, or be empty)
    #[arg(long, value_name = "DIR")]
    pub keep: Option<PathBuf>,
}

pub(crate) async fn run(context: &Context<'_>, args: DemoArgs) -> Result<(), CliError> {
    // The demo prints its steps itself; no bar may stand between them.
    context.reporter.finish();
    let (output, keep) = (context.output, args.keep);
    if context.client.options().offline {
        return Err(CliError::offline(
            "the demo reaches its registry through a socket, and offline mode forbids every socket",
        ));
    }
    // Removed with everything in it when this function ends, however it ends.
    let temporary = match keep {
        None => Some(
            tempfile::Builder::new()
                .prefix("greentic-dist-demo-")
                .tempdir()
                .map_err(|error| failed("make a directory", &error))?,
        ),
        Some(_) => None,
    };
    let home = match (&temporary, keep) {
        (Some(directory), _) => directory.path().to_owned(),
        (None, Some(directory)) => prepare(directory)?,
        (None, None) => return Err(CliError::internal("no directory for the demo")),
    };
    let mut demo = Demo::start(output, &home)?;
    let pin = demo.publish()?;
    let client = demo.client(false);
    demo.resolve(&client, &pin).await?;
    let pulled = demo.pull(&client).await?;
    demo.pull_again(&client, &pin).await?;
    demo.stop_registry();
    demo.open_offline(&pulled).await?;
    demo.tamper(&home, &pulled).await?;
    demo.finish(temporary.is_none().then_some(home.as_path()))
}

fn failed(what: &str, error: &dyn std::fmt::Display) -> CliError {
    CliError::internal(&format!("cannot {what}: {error}"))
}

/// A directory the demo may fill: new, or empty.
fn prepare(directory: PathBuf) -> Result<PathBuf, CliError> {
    fs::create_dir_all(&directory).map_err(|error| failed("make the directory to keep", &error))?;
    let mut inside = fs::read_dir(&directory).map_err(|error| failed("read the directory to keep", &error))?;
    if inside.next().is_some() {
        return Err(CliError::invalid(&format!(
            "`{}` is not empty; --keep wants a new or empty directory",
            directory.display()
        )));
    }
    Ok(directory)
}

impl<'a> Demo<'a> {
    fn start(output: &'a Output, home: &Path) -> Result<Self, CliError> {
        let registry =
            Registry::over_dir(home.join("registry")).map_err(|error| failed("open the registry directory", &error))?;
        let registry = registry
            .start(std::net::SocketAddr::from(([127, 0, 0, 1], 0)))
            .map_err(|error| failed("start the embedded registry", &error))?;
        let host = registry.host();
        let mut demo = Self {
            output,
            steps: Vec::new(),
            reference: format!("oci://{host}/{REPOSITORY}:{TAG}"),
            registry: Some(registry),
            host: host.clone(),
            received: Arc::default(),
            cache_dir: home.join("cache"),
        };
        demo.say("registry", format!("an OCI registry inside this process listens on {host}"), json!({ "host": host }));
        Ok(demo)
    }

    fn registry(&self) -> Result<&RunningRegistry, CliError> {
        self.registry.as_ref().ok_or_else(|| CliError::internal("the embedded registry is not running"))
    }

    /// Requests the registry has answered so far.
    fn requests(&self) -> u64 {
        self.registry.as_ref().map(RunningRegistry::requests).unwrap_or_default()
    }

    fn say(&mut self, name: &'static str, text: String, facts: Value) {
        if !self.output.is_json() {
            self.output.line(&format!("{:>2}. {name:<13} {text}", self.steps.len() + 1));
        }
        self.steps.push(Step { name, text, facts });
    }

    fn client(&self, offline: bool) -> DistClient {
        self.client_over(self.cache_dir.clone(), offline)
    }

    fn client_over(&self, cache_dir: PathBuf, offline: bool) -> DistClient {
        let options = DistOptions { cache_dir, offline, ..DistOptions::default() };
        DistClient::builder().options(options).reporter(Arc::clone(&self.received) as _).build()
    }

    /// Publishes the component as the ecosystem does: a Wasm config, one layer, a manifest, a tag.
    fn publish(&mut self) -> Result<Digest, CliError> {
        let registry = self.registry()?.registry().clone();
        let wrap = |error| failed("publish the component", &error);
        let layer = registry.put_blob(COMPONENT).map_err(wrap)?;
        let config =
            serde_json::to_vec(&json!({ "architecture": "wasm", "os": "wasip2", "layerDigests": [layer.to_string()] }))
                .map_err(|error| failed("write the config", &error))?;
        let config_digest = registry.put_blob(config.clone()).map_err(wrap)?;
        let manifest = serde_json::to_vec(&json!({
            "schemaVersion": 2,
            "mediaType": media_type::OCI_MANIFEST,
            "config": { "mediaType": media_type::WASM_CONFIG, "digest": config_digest.to_string(), "size": config.len() },
            "layers": [{ "mediaType": media_type::WASM, "digest": layer.to_string(), "size": COMPONENT.len() }],
        }))
        .map_err(|error| failed("write the manifest", &error))?;
        let pin = registry.put_manifest(REPOSITORY, &[TAG], media_type::OCI_MANIFEST, &manifest).map_err(wrap)?;
        self.say(
            "publish",
            format!("a Wasm component of {} bytes is now {REPOSITORY}:{TAG}", COMPONENT.len()),
            json!({ "digest": pin, "content_digest": layer, "size_bytes": COMPONENT.len() }),
        );
        Ok(pin)
    }

    async fn resolve(&mut self, client: &DistClient, pin: &Digest) -> Result<(), CliError> {
        let (before, started) = (self.requests(), Instant::now());
        let descriptor = client.resolve(client.parse_source(&self.reference)?, ResolvePolicy).await?;
        let (requests, time) = (self.requests() - before, elapsed(started));
        if descriptor.digest != pin.to_string() {
            return Err(CliError::internal("the tag resolved to another manifest than the one published"));
        }
        let text = format!("{} is {} ({requests} request, {time})", self.reference, pin.short());
        self.say("resolve", text, json!({ "digest": descriptor.digest, "requests": requests }));
        Ok(())
    }

    async fn pull(&mut self, client: &DistClient) -> Result<ResolvedArtifact, CliError> {
        let (before, started) = (self.requests(), Instant::now());
        // A client of its own, so that the requests are those of a cold start.
        let cold = self.client(false);
        let artifact = cold.resolve_ref(&self.reference).await?;
        let (requests, time) = (self.requests() - before, elapsed(started));
        let bytes = self.received.0.load(Ordering::Relaxed);
        let started = Instant::now();
        client.verify_cached(&artifact.digest)?;
        let verified_in = elapsed(started);
        if artifact.wasm_bytes()? != COMPONENT {
            return Err(CliError::internal("other bytes came out than went in"));
        }
        self.say(
            "pull",
            format!("{bytes} bytes verified while they streamed, then kept ({requests} requests, {time})"),
            json!({ "digest": artifact.digest, "path": artifact.local_path, "requests": requests, "bytes": bytes }),
        );
        self.say(
            "verify",
            format!(
                "hashed again on disk ({verified_in}): content {} at {}",
                short(&artifact.content_digest()),
                artifact.local_path.display()
            ),
            json!({ "content_digest": artifact.content_digest(), "path": artifact.local_path }),
        );
        Ok(artifact)
    }

    async fn pull_again(&mut self, client: &DistClient, pin: &Digest) -> Result<(), CliError> {
        let pinned = format!("oci://{}/{REPOSITORY}@{pin}", self.host);
        let (before, started) = (self.requests(), Instant::now());
        let again = client.resolve_ref(&pinned).await?;
        let (requests, time) = (self.requests() - before, elapsed(started));
        if again.fetched || requests != 0 {
            return Err(CliError::internal("a pin that is in the cache cost a request"));
        }
        let text = format!("the pinned reference comes from the cache ({requests} requests, 0 bytes, {time})");
        self.say("pull again", text, json!({ "reference": pinned, "requests": requests, "fetched": again.fetched }));
        let (before, started) = (self.requests(), Instant::now());
        client.resolve_ref(&self.reference).await?;
        let (requests, time) = (self.requests() - before, elapsed(started));
        let text =
            format!("the tag is unchanged: one conditional request, no body ({requests} request, 0 bytes, {time})");
        self.say("revalidate", text, json!({ "requests": requests }));
        Ok(())
    }

    fn stop_registry(&mut self) {
        if let Some(registry) = self.registry.take() {
            registry.stop();
        }
        self.say("stop", "the registry is gone".to_owned(), json!({}));
    }

    async fn open_offline(&mut self, pulled: &ResolvedArtifact) -> Result<(), CliError> {
        let offline = self.client(true);
        let started = Instant::now();
        let by_tag = offline.resolve_ref(&self.reference).await?;
        let by_digest = offline.open_cached(&pulled.digest)?;
        let time = elapsed(started);
        if by_tag.local_path != by_digest.local_path || by_digest.wasm_bytes()? != COMPONENT {
            return Err(CliError::internal("the artifact could not be opened again offline"));
        }
        let text = format!("tag and digest both open from the cache, no socket opened ({time})");
        self.say("offline", text, json!({ "path": by_digest.local_path, "fetched": by_tag.fetched }));
        Ok(())
    }

    /// Flips one byte in a copy of the cache and shows that the copy is refused.
    async fn tamper(&mut self, home: &Path, pulled: &ResolvedArtifact) -> Result<(), CliError> {
        let copy = home.join("tampered");
        copy_tree(&self.cache_dir, &copy).map_err(|error| failed("copy the cache", &error))?;
        let relative =
            pulled.local_path.strip_prefix(&self.cache_dir).map_err(|error| failed("find the artifact", &error))?;
        let victim = copy.join(relative);
        let mut bytes = fs::read(&victim).map_err(|error| failed("read the copy", &error))?;
        if let Some(last) = bytes.last_mut() {
            *last ^= 1;
        }
        fs::remove_file(&victim)
            .and_then(|()| fs::write(&victim, &bytes))
            .map_err(|error| failed("change the copy", &error))?;
        let refused = self.client_over(copy, true).resolve_ref(&self.reference).await;
        match refused {
            Err(error @ DistError::CorruptArtifact { .. }) if error.kind() == DistErrorKind::Integrity => {
                let text = format!("one flipped byte in a copy is refused (exit {}): {error}", error.exit_code());
                self.say("tamper", text, json!({ "exit": error.exit_code(), "error": error.to_string() }));
                Ok(())
            }
            Err(error) => Err(error.into()),
            Ok(_) => Err(CliError::internal("a tampered copy was accepted")),
        }
    }

    fn finish(self, kept: Option<&Path>) -> Result<(), CliError> {
        if self.output.is_json() {
            let steps: Vec<Value> = self
                .steps
                .iter()
                .map(|step| json!({ "step": step.name, "text": step.text, "facts": step.facts }))
                .collect();
            return self.output.document(&json!({ "ok": true, "kept": kept, "steps": steps }));
        }
        match kept {
            Some(path) => self.output.line(&format!("ok: everything is in {}", path.display())),
            None => self.output.line("ok: nothing is left behind (--keep DIR keeps it)"),
        }
        Ok(())
    }
}

fn elapsed(since: Instant) -> String {
    let micros = since.elapsed().as_micros();
    format!("{}.{} ms", micros / 1000, micros % 1000 / 100)
}

fn short(digest: &str) -> String {
    digest.parse::<Digest>().map(|digest| digest.short()).unwrap_or_default()
}

/// A directory that only its owner may use, as the store demands of a cache.
fn private_dir(path: &Path) -> std::io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

fn copy_tree(from: &Path, to: &Path) -> std::io::Result<()> {
    private_dir(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_tree(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), &target)?;
        }
    }
    Ok(())
}
