//! Boot loaders on a disk: what is installed, what it looks for, and what a change would break.
//!
//! ```text
//! boot sector ─ core in the gap, a BIOS boot partition or a file ─ prefix, search ─ partition ─ filesystem ─ path
//! ```
//!
//! [`look`] reads all of it and follows it the way the loader would; nothing is changed and nothing is run. What it finds
//! damaged is told with the rest: a disk whose boot loader is broken is the one that people look at.

pub mod boot;
pub mod core;
pub mod error;
mod layout;
pub mod legacy;
mod list;
mod name;
pub mod resolve;
pub mod sector;
pub mod startup;
mod world;

pub use boot::{Boot, BootSector, CorePlace, Grub2, GrubLegacy, Loader, Syslinux, look};
pub use error::Error;
pub use legacy::{Next, Stages};
pub use resolve::Resolution;
pub use sector::Chain;
pub use startup::{Named, Startup};

/// The result of looking at boot loaders.
pub type Result<T> = std::result::Result<T, Error>;
