//! `greentic-dist serve --root DIR`: a directory of packs and components as a registry and a distributor.

use std::io::{self, IsTerminal as _};
use std::net::SocketAddr;
use std::path::PathBuf;

use greentic_dist_serve::{AccessRecord, Registry, ServeError, ServeOptions, TreeLayout};
use greentic_dist_types::Secret;
use serde_json::json;

use super::Context;
use crate::dist_cli::CliError;
use crate::dist_cli::output::Output;
use crate::env;

/// Arguments of `greentic-dist serve`.
#[derive(Debug, clap::Args)]
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
    let options = ServeOptions::new().token(token).access_log(log);
    // Before the port is open: a signal that comes early is not lost.
    let stop = Stop::new()?;
    let running = registry.start_with(args.listen, options).map_err(|error| failed(&error))?;
    if !args.listen.ip().is_loopback() {
        output.note("warning: others than this machine are answered over plain HTTP; something that speaks TLS belongs in front");
    }
    let url = running.url();
    if output.is_json() {
        output.document(&json!({ "url": url, "addr": running.addr().to_string(), "root": args.root }))?;
    } else {
        output.line(&format!("listening on {url}"));
    }
    output.end()?;
    stop.wait().await;
    output.note("stopping: answers on their way may end");
    // Joins the serving thread.
    running.stop();
    Ok(())
}

/// One line for one answer.
fn log(record: &AccessRecord) {
    let request = &record.request;
    let took = record.took.as_millis();
    let line = format!("{} {} {} {} B {took} ms", record.peer.ip(), request.line(), request.status, request.bytes);
    Output::new(false).note(&line);
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

    /// Returns at the first of them.
    #[cfg(unix)]
    async fn wait(mut self) {
        std::future::poll_fn(|cx| {
            if self.terminated.poll_recv(cx).is_ready() || self.interrupted.poll_recv(cx).is_ready() {
                std::task::Poll::Ready(())
            } else {
                std::task::Poll::Pending
            }
        })
        .await;
    }

    /// Returns when the user interrupts.
    #[cfg(not(unix))]
    async fn wait(self) {
        let _no_signals_here = tokio::signal::ctrl_c().await;
    }
}
