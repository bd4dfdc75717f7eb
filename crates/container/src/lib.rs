//! A virtual disk in a file: raw, VHD, qcow2, and others that are only read.
//!
//! 1. A container opens in two steps: its own tables first, then the parent that it names, which the caller opens.
//! 2. Reading validates what it passes through; the first write validates who owns which byte of the file.
//! 3. A container changes its file through `Disk` alone: what it allocates is fresh, its tables are home.

pub mod chain;
pub mod container;
pub mod create;
pub mod error;
pub mod foreign;
pub mod format;
pub mod in_place;
pub mod link;
mod parallels;
pub mod probe;
pub mod qcow2;
mod qed;
pub mod raw;
pub mod repair;
pub mod sparsify;
pub mod status;
mod vdi;
pub mod vhd;
mod vhdx;
mod vmdk;
pub mod write;
mod xml;
mod xva;

pub use chain::{Mapped, Parent, ParentRef};
pub use container::{Container, Facts, GrowPlan, Map, VhdFacts};
pub use create::{Create, CreatePlan};
pub use error::{Error, Result};
pub use foreign::{OpenWith, Part};
pub use format::{Format, NotAFormat};
pub use ondisk::Severity;
pub use status::{BlockStatus, Finding, Findings};
