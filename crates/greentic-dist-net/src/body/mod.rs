//! Bodies that outlive a connection.

mod content_range;
mod resume;

pub(crate) use resume::{Start, Transfer};
