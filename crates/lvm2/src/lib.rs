//! The volume groups of a guest: LVM2's labels, metadata areas and text, read, checked and changed offline.
//!
//! [`read`] takes every physical volume at hand and gives the [`Vg`]s with everything wrong about them; [`check`] is
//! what it found. [`Vg::map`] says where a logical volume's bytes lie. A change is drafted: [`Draft::of`] a volume
//! group, [`plan_grow_pv`] and [`plan_grow_lv`] as often as needed, and [`plan_commit`] makes one new text of it all,
//! to be written to every metadata area: a [`Plan`] is plain bytes and their places.
//!
//! Format: `lib/format_text` of LVM2 2.03 and the tools' behaviour; positions are bytes from the start of a physical
//! volume unless said otherwise.

mod alloc;
mod build;
mod check;
mod draft;
mod error;
mod free;
mod grow;
mod label;
mod layout;
mod map;
mod mda;
mod model;
mod plan;
mod read;
mod repair;
mod text;
mod unit;
mod uuid;

pub use check::check;
pub use draft::{Change, Draft};
pub use error::Error;
pub use grow::{By, plan_grow_lv, plan_grow_pv};
pub use map::Part;
pub use model::{Area, Lv, Mapping, Pv, Segment, User, Vg};
pub use ondisk::{Finding, Severity};
pub use plan::{Plan, Write, plan_commit};
pub use read::{Volumes, read};
pub use repair::plan_repair;
pub use unit::{ExtentCount, ExtentNo, ExtentRange, ExtentSize};
pub use uuid::Uuid;

/// The result of working on volume groups.
pub type Result<T> = std::result::Result<T, Error>;
