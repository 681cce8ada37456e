//! Bodies that outlive a connection.

mod areas;
pub(crate) mod content_range;
mod front;
mod host_ranges;
mod in_order;
mod odd;
mod pieces;
mod resume;
mod start;

pub(crate) use in_order::InOrder;
pub(crate) use odd::{Odd, WEB_PAGE};
pub use pieces::Piece;
pub(crate) use pieces::Pieces;
pub(crate) use resume::Transfer;
pub(crate) use start::Start;
