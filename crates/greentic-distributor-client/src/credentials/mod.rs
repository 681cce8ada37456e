//! Where logins for registries come from.
//!
//! [`CredentialChain`] asks one place after another, and only when a registry demands a login: the environment, the logins
//! saved by `greentic-dist auth login`, Docker's configuration with its helpers, and the `auth.json` of the containers tools.
//! `docs/credentials.md` is the account for people. Each of these places is there by itself, too, at a path or by a name that the
//! program chooses, and [`Chain`] asks several of them in an order of its own.

mod auth_file;
mod chain;
mod containers_auth;
pub(crate) mod docker_config;
mod env;
mod helper;
mod notes;
mod places;
mod registry_logins;
mod scope;

pub use self::chain::CredentialChain;
pub use self::env::EnvCredentials;
pub use self::places::{Chain, ContainersAuth, CredentialHelper, DockerConfig, InvalidHelperName, SavedLogins};

#[cfg(feature = "dist-cli")]
pub(crate) use self::helper::{HelperError, HelperName};
#[cfg(feature = "dist-cli")]
pub(crate) use self::registry_logins::{RegistryLoginError, RegistryLogins, SavedLogin, Secrets};
#[cfg(feature = "dist-cli")]
pub(crate) use self::scope::Scope;
