//! Counts connections where they are made, for the request that made them.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use tower_layer::Layer;
use tower_service::Service;

use crate::stats::{Tally, count};

tokio::task_local! {
    static REQUEST: Arc<Connects>;
}

/// The connections one request has made. A second one can be made for it, when an idle one turns up while it connects.
#[derive(Debug)]
pub(crate) struct Connects {
    tally: Arc<Tally>,
    made: AtomicBool,
}

impl Connects {
    pub(crate) fn new(tally: &Arc<Tally>) -> Arc<Self> {
        Arc::new(Self { tally: Arc::clone(tally), made: AtomicBool::new(false) })
    }

    /// Runs a request whose connections are counted here.
    pub(crate) async fn around<F: Future>(self: &Arc<Self>, request: F) -> F::Output {
        REQUEST.scope(Arc::clone(self), request).await
    }

    /// Takes note that the request was answered. Whether that was over a connection that was open before it.
    pub(crate) fn answered(&self) -> bool {
        let reused = !self.made.load(Ordering::Relaxed);
        if reused {
            count(&self.tally.connections_reused);
        }
        reused
    }

    fn made(&self) {
        self.made.store(true, Ordering::Relaxed);
        count(&self.tally.connections_opened);
    }
}

/// Puts the counting around a connector.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CountConnections;

impl<S> Layer<S> for CountConnections {
    type Service = Counted<S>;

    fn layer(&self, inner: S) -> Counted<S> {
        Counted(inner)
    }
}

/// A connector whose connections are counted.
#[derive(Clone, Debug)]
pub(crate) struct Counted<S>(S);

impl<S, R> Service<R> for Counted<S>
where
    S: Service<R>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, target: R) -> Self::Future {
        // The call is made by the request; what it returns may outlive it.
        let request = REQUEST.try_with(Arc::clone).ok();
        let connecting = self.0.call(target);
        Box::pin(async move {
            let connection = connecting.await;
            if let (Ok(_), Some(request)) = (&connection, request) {
                request.made();
            }
            connection
        })
    }
}
