//! The journal: what a crashed guest had already promised, and had not yet put in its place.
//!
//! ```text
//! block 0      first … end of the log                                        … fast commits …
//! superblock   | descriptor  data data … | revoke | commit | descriptor …    (wraps)
//!              |← transaction s_sequence, at s_start      →|← the next →|
//! ```
//!
//! 1. A transaction counts only with a valid commit block, and only if all before it count.
//! 2. A block revoked by transaction t is not taken from transactions up to t.
//! 3. Of several copies of a block the last counts; only it is written.
//! 4. A plan reads, and verifies all that it will write; nothing is written out of a damaged journal.
//! 5. Every target lies in the filesystem and not in the journal itself; a new superblock makes sense.
//! 6. No walk is longer than the log.

mod fast;
mod log;
mod plan;
mod scan;
mod tag;

pub use crate::error::Error;
pub use plan::{ReplayPlan, plan_replay};
