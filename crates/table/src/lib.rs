//! Who owns which sectors: MBR and GPT.
//!
//! [`read`] gives the [`Table`] with everything wrong about it; [`check`] is what it found. Changes are planned from a
//! table without damage, for the length that the disk will have: a [`Plan`] is plain bytes and their places.

mod away;
mod check;
mod chs;
mod copy;
mod error;
mod gpt;
mod grow;
mod kind;
mod layout;
mod mbr;
mod overlap;
mod partition;
mod plan;
mod probe;
mod read;
mod record;
mod repair;
mod table;

pub use away::plan_make_way;
pub use check::check;
pub use error::Error;
pub use grow::{Limit, To, plan_grow_disk, plan_grow_partition};
pub use kind::Type;
pub use ondisk::{Finding, Severity};
pub use partition::{DiskId, Neighbour, PartUuid, Partition, Role};
pub use plan::{Growth, Plan};
pub use read::{read, read_as};
pub use repair::plan_repair;
pub use table::{Kind, Table};

/// The result of working on a table.
pub type Result<T> = std::result::Result<T, Error>;
