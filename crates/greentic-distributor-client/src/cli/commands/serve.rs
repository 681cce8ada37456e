//! `greentic-dist serve --root DIR`: a directory of packs and components as a registry and a distributor.

use std::future::{Future as _, poll_fn};
use std::io::{self, IsTerminal as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::mpsc;
use std::task::Poll;
use std::time::Duration;

use greentic_dist_serve::{AccessEvent, Registry, ServeError, ServeOptions, TreeLayout};
use greentic_dist_types::Secret;
use serde_json::json;

use super::Context;
use crate::dist_cli::CliError;
use crate::dist_cli::output::Output;
use crate::env;

/// How long answers that are on their way may take when the server is told to end.
const STOP_GRACE: Duration = Duration::from_secs(10);
/// How long a line may wait for whoever reads stderr, when the server ends.
const STDERR_PATIENCE: Duration = Duration::from_secs(1);

/// Arguments of `greentic-dist serve`.
#[derive(Debug, clap::Args)]
#[command(after_help = "The first SIGTERM or interrupt gives answers on their way 10 s to end, the second cuts them.")]
pub struct ServeArgs {
    /// Directory with `packs/` and `components/`; read, never written
    #[arg(long, value_name = "DIR")]
    pub root: PathBuf,
    /// Where to listen; port 0 takes a free one. Addresses other than loopback need a token
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:0")]
    pub listen: SocketAddr,
    /// How the files are named: `flat` is `<id>-<version>.gtpack`, `nested` is `<id>/<version>/pack.gtpack`
    #[arg(long, value_enum, default_value_t = LayoutArg::Flat)]
    pub layout: LayoutArg,
    /// Answer only requests with this token [default: `GREENTIC_DIST_SERVE_TOKEN`, which others on this machine cannot see]
    #[arg(long, value_name = "TOKEN")]
    pub token: Option<String>,
}

/// How files are named.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum LayoutArg {
    /// `<id>-<version>.gtpack`, `<id>-<version>.wasm`
    Flat,
    /// `<id>/<version>/pack.gtpack`, `<id>/<version>/component.wasm`
    Nested,
}

pub(crate) async fn run(context: &Context<'_>, args: ServeArgs) -> Result<(), CliError> {
    context.reporter.finish();
    let output = context.output;
    if context.client.options().offline {
        return Err(CliError::offline("serving takes a socket, and offline mode forbids every socket"));
    }
    if args.token.is_some() && io::stderr().is_terminal() {
        output
            .note("warning: everybody on this machine can see a token in the arguments; use GREENTIC_DIST_SERVE_TOKEN");
    }
    let token = args.token.map(Secret::from).or_else(|| env::text(env::SERVE_TOKEN).map(Secret::from));
    if token.as_ref().is_some_and(Secret::is_empty) {
        return Err(CliError::invalid("the token is empty"));
    }
    let layout = match args.layout {
        LayoutArg::Flat => TreeLayout::Flat,
        LayoutArg::Nested => TreeLayout::ByIdAndVersion,
    };
    let registry = Registry::over_tree(&args.root, layout).map_err(|error| failed(&error))?;
    let options = ServeOptions::new().token(token).access_log(log).stop_grace(STOP_GRACE);
    // Before the port is open: a signal that comes early is not lost.
    let mut stop = Stop::new()?;
    let running = registry.start_with(args.listen, options).map_err(|error| failed(&error))?;
    if !args.listen.ip().is_loopback() {
        output.note("warning: others than this machine are answered over plain HTTP; something that speaks TLS belongs in front");
    }
    if let Some(here) = address_here(running.addr()) {
        output.note(&format!("note: it listens on every address of this machine; from here it is http://{here}"));
    }
    if is_bare(&args.root) {
        output.note(&format!(
            "note: {} has neither `packs/` nor `components/`; there is nothing to serve until it has",
            args.root.display()
        ));
    }
    let url = running.url();
    if output.is_json() {
        output.document(&json!({ "url": url, "addr": running.addr().to_string(), "root": args.root }))?;
    } else {
        output.line(&format!("listening on {url}"));
    }
    output.end()?;
    stop.wait().await;
    running.begin_stop();
    say("stopping: answers on their way have 10 s, and a second signal cuts them");
    let hurried = {
        let (mut ended, mut again) = (pin!(running.ended()), pin!(stop.wait()));
        poll_fn(|cx| match ended.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(false),
            Poll::Pending => again.as_mut().poll(cx).map(|()| true),
        })
        .await
    };
    if hurried {
        running.stop_now();
    } else {
        running.stop();
    }
    Ok(())
}

/// The address to ask from this machine, when it listens on every address.
fn address_here(addr: SocketAddr) -> Option<SocketAddr> {
    let here = match addr.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        _ => return None,
    };
    Some(SocketAddr::new(here, addr.port()))
}

/// Whether a directory has nothing that is ever served.
fn is_bare(root: &Path) -> bool {
    !["packs", "components"].into_iter().any(|dir| root.join(dir).is_dir())
}

/// One line for one answer. Called on a thread of its own: whoever reads stderr may take their time.
fn log(event: &AccessEvent) {
    let line = match event {
        AccessEvent::Answer(record) => {
            let (request, took) = (&record.request, record.took.as_millis());
            let reason = record.reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default();
            let status = request.status;
            format!("{} {} {status} {} B {took} ms{reason}", record.peer.ip(), request.line(), request.bytes)
        }
        AccessEvent::Dropped(count) => format!("{count} lines were dropped: stderr is read too slowly"),
        _ => return,
    };
    Output::new(false).note(&line);
}

/// Writes a line to stderr, and does not wait for long when nobody reads it: the end of the server must not.
fn say(line: &'static str) {
    let (saying, said) = mpsc::channel::<()>();
    let spawned = std::thread::Builder::new().name("stderr".to_owned()).spawn(move || {
        Output::new(false).note(line);
        drop(saying);
    });
    if spawned.is_ok() {
        let _read_or_not = said.recv_timeout(STDERR_PATIENCE);
    }
}

fn failed(error: &ServeError) -> CliError {
    let mut told = match error {
        ServeError::NotLoopback { .. } => {
            let mut told = CliError::invalid(&error.to_string());
            told.hints.push("set GREENTIC_DIST_SERVE_TOKEN, or listen on 127.0.0.1".to_owned());
            told
        }
        ServeError::Io { source, .. } if source.kind() == io::ErrorKind::NotFound => {
            CliError::missing(&error.to_string())
        }
        ServeError::Io { .. } | ServeError::Listen { .. } => CliError::invalid(&error.to_string()),
        _ => CliError::internal(&error.to_string()),
    };
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        told.causes.push(error.to_string());
        cause = error.source();
    }
    told
}

/// The signals that end the server.
struct Stop {
    #[cfg(unix)]
    terminated: tokio::signal::unix::Signal,
    #[cfg(unix)]
    interrupted: tokio::signal::unix::Signal,
}

impl Stop {
    fn new() -> Result<Self, CliError> {
        #[cfg(unix)]
        {
            use tokio::signal::unix::{SignalKind, signal};
            let listen = |kind| {
                signal(kind).map_err(|error| CliError::internal(&format!("signals cannot be listened for: {error}")))
            };
            Ok(Self { terminated: listen(SignalKind::terminate())?, interrupted: listen(SignalKind::interrupt())? })
        }
        #[cfg(not(unix))]
        Ok(Self {})
    }

    /// Returns at the next of them.
    #[cfg(unix)]
    async fn wait(&mut self) {
        poll_fn(|cx| {
            if self.terminated.poll_recv(cx).is_ready() || self.interrupted.poll_recv(cx).is_ready() {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
    }

    /// Returns when the user interrupts.
    #[cfg(not(unix))]
    async fn wait(&mut self) {
        let _no_signals_here = tokio::signal::ctrl_c().await;
    }
}
