//! Bodies that outlive a connection.

mod areas;
pub(crate) mod content_range;
mod pieces;
mod resume;

pub use pieces::Piece;
pub(crate) use pieces::Pieces;
pub(crate) use resume::{Start, Transfer};
