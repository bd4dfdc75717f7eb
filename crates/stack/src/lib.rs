//! Layers on top of each other.
//!
//! ```text
//! file ─ container ─ virtual disk ─ table ─ partition ─ filesystem
//!                                               └ physical ─ logical volume ─ filesystem
//! ```
//!
//! [`discover`] walks down and gives a [`Layout`]; [`select`] finds the volume that is meant;
//! [`grow`] stages one change of all layers in an overlay over the file and checks what it has made. Nothing here
//! opens a file: the layers below are reached through `ReadAt`, and a container's parent is handed in.

pub mod chain;
pub mod check;
pub mod content;
pub mod error;
pub mod free;
pub mod groups;
pub mod grow;
pub mod guest;
pub mod ident;
pub mod layout;
pub mod owners;
pub mod pairs;
pub mod place;
pub mod receive;
pub mod region;
pub mod repair;
pub mod replay;
pub mod select;
pub mod source;
pub mod sparsify;
pub mod target;
pub mod view;
mod way;

pub use content::Content;
pub use error::Error;
pub use groups::Groups;
pub use ident::Ident;
pub use layout::{ExtFacts, Layout, Volume, VolumeId, discover};
pub use place::Place;
pub use region::Region;

/// The result of work on several layers.
pub type Result<T> = std::result::Result<T, Error>;
