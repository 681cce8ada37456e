//! What an endpoint must be capable of to be asked something.

use greentic_dist_types::Digest;

use crate::host::Capabilities;
use crate::oci::auth::Action;

/// What a request needs of the endpoint that answers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// Bytes that are proven by the digest they are asked for by.
    Content,
    /// What a name means.
    Name,
    Referrers,
    /// Something only the registry's own host can answer.
    Own,
}

impl Need {
    /// Read off the path, which this crate has made of validated parts.
    pub(crate) fn of(action: &Action, path: &str) -> Self {
        // Uploads are led to their endpoint as a whole, see `Repository::for_pushing`.
        if *action != Action::Pull {
            return Self::Own;
        }
        let path = path.split('?').next().unwrap_or_default();
        let mut parts = path.rsplit('/');
        let (last, kind) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        match kind {
            "manifests" | "blobs" if last.parse::<Digest>().is_ok() => Self::Content,
            "manifests" | "tags" => Self::Name,
            "referrers" => Self::Referrers,
            _ => Self::Own,
        }
    }

    pub(crate) const fn is_met_by(self, capabilities: Capabilities) -> bool {
        match self {
            Self::Content => capabilities.pull,
            Self::Name => capabilities.resolve,
            Self::Referrers => capabilities.referrers,
            Self::Own => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_request_needs_is_told_by_its_path() {
        let digest = Digest::sha256(b"x");
        let pull = |path: &str| Need::of(&Action::Pull, path);
        assert_eq!(pull(&format!("/v2/acme/hello/blobs/{digest}")), Need::Content);
        assert_eq!(pull(&format!("/v2/acme/hello/manifests/{digest}")), Need::Content);
        assert_eq!(pull("/v2/acme/hello/manifests/1"), Need::Name);
        assert_eq!(pull("/v2/acme/hello/tags/list?n=5"), Need::Name);
        assert_eq!(pull(&format!("/v2/acme/hello/referrers/{digest}?artifactType=a/b")), Need::Referrers);
        assert_eq!(pull("/v2/"), Need::Own);
        // A repository may be called anything.
        assert_eq!(pull("/v2/blobs/manifests/tags/list"), Need::Name);
        assert_eq!(Need::of(&Action::Catalog, "/v2/_catalog"), Need::Own);
        assert_eq!(Need::of(&Action::Delete, &format!("/v2/a/manifests/{digest}")), Need::Own);
        assert_eq!(Need::of(&Action::Push, &format!("/v2/a/blobs/{digest}")), Need::Own);
    }

    #[test]
    fn an_endpoint_is_asked_only_for_what_it_is_capable_of() {
        for need in [Need::Content, Need::Name, Need::Referrers] {
            assert!(need.is_met_by(Capabilities::ALL) && !need.is_met_by(Capabilities::NONE), "{need:?}");
            assert_eq!(need.is_met_by(Capabilities::PULL), need == Need::Content);
        }
        assert!(!Need::Own.is_met_by(Capabilities::ALL));
    }
}
