//! What to keep and what to give up when the cache has to shrink.
//!
//! [`plan`](mod@plan) decides and touches nothing. `total` says without looking whether there is anything to decide, `survey`
//! looks, `evict` takes one entry away unless somebody needs it, and `lease` is how somebody says so.

mod evict;
mod lease;
mod plan;
mod survey;
mod total;

pub(crate) use evict::Obstacle;
pub use evict::{EvictTerms, Evicted, Kept};
pub use lease::Lease;
pub use plan::{Candidate, Limits, Protection, Reason, Verdict, plan};
pub use survey::Surveyed;
