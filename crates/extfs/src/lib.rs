//! ext2, ext3 and ext4: read, check, replay, grow.
//!
//! ```text
//! layout    records exactly as on disk            unit, feature   names for numbers and bits
//! sb        the validated superblock              geom            groups and backups: pure arithmetic
//! group     descriptors                           csum            every checksum, once
//! bitmap    bits of a group                       read            inodes, maps, files, directories, attributes
//! check     all that may be damaged               recovery        journal (jbd2), then orphans (orphan)
//! ```
//!
//! [`Ext::open`] is the gate: it reads and never writes. A dirty journal is not looked at here; replay it into an
//! overlay first and open that.

pub mod bitmap;
pub mod check;
pub mod csum;
pub mod error;
pub mod feature;
pub mod free;
pub mod geom;
pub mod group;
pub mod jbd2;
pub mod layout;
pub mod orphan;
pub mod read;
mod recount;
pub mod recovery;
mod refusal;
pub mod resize;
pub mod sb;
mod settle;
pub mod unit;

pub use bitmap::Bitmap;
pub use csum::{Object, Sums};
pub use error::{Error, Part, Result};
pub use geom::{Backups, Geometry};
pub use group::{Descriptor, Groups};
pub use read::Ext;
pub use read::inode::{Inode, Kind};
pub use recount::recounted;
pub use recovery::{Recovery, recovered};
pub use sb::Superblock;
pub use unit::{BlockCount, BlockNo, BlockSize, ClusterCount, FileBlock, GroupNo, InodeNo};
