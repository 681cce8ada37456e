//! Plain GET for `https://` sources.

mod get;

pub use get::{BodyStream, HttpAnswer, HttpGet};
