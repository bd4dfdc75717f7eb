//! Storage repositories (SRs) of XenServer and XCP-ng.
//!
//! ```text
//! store        volumes of a group, files of a filesystem on a device, files of a folder: names and bytes
//!   name       what a name means: a virtual disk (VDI), a journal, a leftover
//!   metadata   the volume MGT: names of VDIs, and which is whose snapshot
//! repository   the VDIs with what their images say, and which stands on which
//! copy         what a copy of it in files is made of
//! ```
//!
//! 1. Everything that can be read is listed, whatever else is damaged: a repository is looked at most when it is not
//!    well.
//! 2. Storage wins: MGT gives names, the volumes and the images in them say what there is.
//! 3. Nothing here opens a file of the host: stores are handed in, or stand on a disk that is.

mod copy;
mod error;
mod metadata;
mod name;
mod repository;
mod store;

pub use copy::{Copy, plan_copies};
pub use error::{Error, Result};
pub use metadata::{Metadata, Record};
pub use name::{Journal, Role};
pub use repository::{Image, Parent, Repository, Vdi, open_chain};
pub use store::{Bytes, Entry, Kind, OnDevice, Store, Title};
