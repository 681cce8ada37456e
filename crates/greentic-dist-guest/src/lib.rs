//! The imports of `greentic:distributor-api@1.0.0`, as a guest is linked with them. Empty on every target but `wasm32`.
//!
//! Why not the bindings of `greentic-interfaces-guest`: their types belong to the world that *exports* the interface, and
//! linking anything of them makes the linker look for those exports in the guest. A guest that only asks has none, and is not
//! linked at all (ADR 0007).
//!
//! Everything below is generated from `wit/distributor.wit`. Internal: the public promise is made by
//! `greentic-distributor-client`.

#[cfg(target_arch = "wasm32")]
mod generated {
    wit_bindgen::generate!({ path: "wit", world: "imports", generate_all });
}

#[cfg(target_arch = "wasm32")]
pub use generated::greentic::distributor_api::distributor;
#[cfg(target_arch = "wasm32")]
pub use generated::greentic::secrets_types::types as secrets;
