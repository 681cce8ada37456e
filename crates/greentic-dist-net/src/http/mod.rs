//! Plain HTTP beside the registries: files by URL, and small calls to an API.

mod call;
mod get;

pub use call::{HttpCall, HttpReply};
pub use get::{BodyStream, HttpAnswer, HttpGet};
