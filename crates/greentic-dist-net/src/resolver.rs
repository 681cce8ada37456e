//! Name resolution that knows which addresses a name may stand for.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use crate::target_policy::{Guard, reach_of};

/// The system's resolver, with the addresses a [`Guard`] does not admit left out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GuardedResolver(pub(crate) Guard);

/// Every address of a name was one no server may send us to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct InnerAddress {
    /// Whether one of them could be allowed: link-local and metadata addresses never are.
    pub(crate) could_be_allowed: bool,
}

impl fmt::Display for InnerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name resolves to an address of an inner network")
    }
}

impl std::error::Error for InnerAddress {}

impl Resolve for GuardedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let guard = self.0;
        Box::pin(async move {
            let found: Vec<SocketAddr> = if name.as_str() == "localhost" {
                // Never a question to the network (RFC 6761, 6.3), and no thread for it.
                [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)]
                    .map(|ip| SocketAddr::new(ip, 0))
                    .into()
            } else {
                tokio::net::lookup_host((name.as_str(), 0)).await?.collect()
            };
            let was_empty = found.is_empty();
            let could_be_allowed = found.iter().any(|address| reach_of(address.ip()).is_some());
            let admitted: Vec<SocketAddr> = found.into_iter().filter(|address| guard.admits(address.ip())).collect();
            if admitted.is_empty() && !was_empty {
                return Err(InnerAddress { could_be_allowed }.into());
            }
            Ok(Box::new(admitted.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target_policy::Reach;

    #[tokio::test]
    async fn row_43_a_name_of_an_inner_address_is_not_resolved_for_a_public_server() {
        let resolve = |guard| GuardedResolver(guard).resolve("localhost".parse().unwrap());
        assert_eq!(resolve(Guard::Own).await.unwrap().count(), 2);
        assert_eq!(resolve(Guard::AtLeast(Reach::Loopback)).await.unwrap().count(), 2);
        let refused = resolve(Guard::AtLeast(Reach::Public)).await.err().unwrap();
        assert_eq!(refused.downcast_ref(), Some(&InnerAddress { could_be_allowed: true }));
        let refused = GuardedResolver(Guard::AtLeast(Reach::Public)).resolve("169.254.169.254".parse().unwrap());
        let refused = refused.await.err().unwrap();
        assert_eq!(refused.downcast_ref(), Some(&InnerAddress { could_be_allowed: false }));
    }
}
