//! The public client against honest, broken and hostile peers, and against a cache somebody else touched.
//!
//! Every test has a cache directory of its own and servers of its own; nothing leaves 127.0.0.0/8.
#![cfg(feature = "dist-client")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod child;
mod client_certificates;
mod soak;
mod support;

mod peer_auth;
mod peer_bytes;
mod peer_hosts;
mod peer_manifests;
mod peer_statuses;
mod peer_tls;

mod blocking;
mod blocking_compat;

#[cfg(feature = "provider-registry")]
mod catalog;
#[cfg(feature = "provider-registry")]
mod catalog_cache;
#[cfg(feature = "provider-registry")]
mod catalog_document;
#[cfg(feature = "provider-registry")]
mod catalog_support;

mod bundle_model;
mod bundles;
mod verify;

mod components;
mod components_docs;
mod components_injected;
mod damage;
mod fetch_documents;
mod host_files;
mod injector;
mod input;
mod lock_pull;
mod lock_spec;
mod lock_write;
mod model;
mod offline;
mod packs;
mod packs_document;
mod packs_injected;
mod packs_rules;
mod packs_shared;
mod runner_api;
mod store_auth;
mod store_tenant;

mod artifact_manifest;
mod cap;
mod copy_children;
mod copy_layouts;
mod copy_limits;
mod copy_referrers;
mod copy_registries;
mod copy_several;
mod providers;
mod push;
mod retention;
mod retention_bundles;
mod save_blob;
mod save_blob_several;

mod flow_cache;
mod flow_file;
#[cfg(feature = "fixture-resolver")]
mod flow_fixture;
mod flow_https;
mod flow_mapping;
mod flow_mirrors;
mod flow_moved;
mod flow_oci;
mod flow_resume;
mod flow_runtime;
mod flow_several;
mod flow_share;
mod trace;
