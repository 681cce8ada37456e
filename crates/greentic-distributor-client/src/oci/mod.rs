//! OCI content in registries, directories and archives.
//!
//! A [`Place`] names an artifact wherever it is: `ghcr.io/acme/hello:1` in a registry, `oci-layout:./dist:1` in a directory,
//! `oci-archive:hello.tar` in a tar file.
//!
//! An OCI image layout is read without trust: a link, a device or a doubled name in it is refused, every byte is hashed, an
//! archive is never unpacked. What is written is complete or not there: a blob gets its name when it is proven, and the
//! index names an artifact when everything below it is there.
//!
//! ```no_run
//! use greentic_distributor_client::dist::DistClient;
//! use greentic_distributor_client::oci::{CopyOptions, Place, PushOptions};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let client = DistClient::default();
//! let pushed = client.push("hello.wasm".as_ref(), &Place::parse("ghcr.io/acme/hello:1")?, &PushOptions::default()).await?;
//! let archive = Place::parse("oci-archive:hello.tar")?;
//! client.copy(&Place::parse(&pushed.pinned)?, &archive, &CopyOptions::default()).await?;
//! # Ok(())
//! # }
//! ```

mod artifact;
mod copy;
mod created;
mod describe;
mod error;
mod graph;
mod layout;
mod place;
mod push;
mod registry;
mod remote;
mod sink;
mod source;
mod wasm;

pub use artifact::PushKind;
pub use copy::{CopyOptions, CopyReport};
pub use created::parse_created;
pub use describe::{ArtifactDescription, ContentDescription, PlatformDescription};
pub use error::{LayoutError, LayoutProblem};
pub use greentic_dist_types::{Digest, Reference};
pub use place::{Place, PlaceKind};
pub use push::{PushOptions, PushReport};
pub use remote::{Deletion, ListOptions, Listing, TagReport};
