//! One verb, one file.

pub(super) mod cache;
pub(super) mod demo;
pub(super) mod inspect;
pub(super) mod pull;
pub(super) mod resolve;
