//! Which of HTTP and HTTPS a registry speaks, where both may be tried.

use url::Url;

use crate::cause::is_distrust;
use crate::exchange::{Ask, Target, Tried};
use crate::transport::{Reply, Transport};
use crate::{NetError, NetErrorKind};

impl Ask {
    /// Whether a registry that is asked over plain HTTP by default may speak TLS instead.
    pub(crate) fn may_speak_tls(&self, error: &NetError) -> bool {
        let Target::Registry(access, _) = &self.target else { return false };
        let unintelligible = match error.status() {
            None => error.kind() == NetErrorKind::Protocol,
            Some(status) => status == 400 && error.registry_errors().is_empty(),
        };
        unintelligible && access.registry.may_speak_tls()
    }

    /// Whether a registry that HTTPS found nobody at may be asked over plain HTTP instead.
    pub(crate) fn may_speak_http(&self, error: &NetError, url: &Url) -> bool {
        use NetErrorKind as K;
        let Target::Registry(access, _) = &self.target else { return false };
        let no_tls = matches!(error.kind(), K::Tls | K::Connect | K::Interrupted) && !is_distrust(error);
        no_tls && url.scheme() == "https" && access.registry.may_speak_http()
    }
}

/// Whether somebody speaks the scheme that was tried, and this is what came of it.
fn was_answered(error: &NetError) -> bool {
    error.status().is_some() || matches!(error.kind(), NetErrorKind::Unauthorized | NetErrorKind::Refused)
}

impl Transport {
    /// Asks a loopback registry over HTTPS; remembers it when that works, and tells the first error when it does not.
    pub(crate) async fn attempt_over_tls(&self, ask: &Ask, plain: NetError) -> Result<Reply, NetError> {
        let Target::Registry(access, _) = &ask.target else { return Err(plain) };
        access.registry.set_tls(true);
        match Box::pin(self.attempt(ask, &mut Tried::default())).await {
            Ok(reply) => Ok(reply),
            Err(error) if was_answered(&error) => Err(error),
            // There is TLS, its certificate is only not trusted.
            Err(error) if is_distrust(&error) => Err(error),
            Err(_) => {
                access.registry.set_tls(false);
                Err(plain)
            }
        }
    }

    /// Asks a registry that may be asked so over plain HTTP; remembers it when that works, and tells the first error when it does
    /// not.
    pub(crate) async fn attempt_over_http(&self, ask: &Ask, over_tls: NetError) -> Result<Reply, NetError> {
        let Target::Registry(access, _) = &ask.target else { return Err(over_tls) };
        access.registry.set_http(true);
        match Box::pin(self.attempt(ask, &mut Tried::default())).await {
            Ok(reply) => Ok(reply),
            Err(error) if was_answered(&error) => Err(error),
            Err(_) => {
                access.registry.set_http(false);
                Err(over_tls)
            }
        }
    }
}
