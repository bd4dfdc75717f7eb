//! The meaning of bytes and numbers: pure, no I/O.
//!
//! Every other crate speaks in these units. A bare `u64` never names a place or a size in a public signature.

pub mod class;
pub mod finding;
pub mod guid;
pub mod num;
pub mod size;
pub mod span;
pub mod sum;
pub mod tar;
pub mod text;
pub mod unit;

pub use class::{Class, Classified, Mismatch, Sealed};
pub use finding::{Finding, Severity};
pub use span::{Span, SpanSet};
pub use unit::{Lba, Len, Offset, SectorSize};
