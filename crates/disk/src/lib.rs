//! Reading and changing bytes safely.
//!
//! A command never edits an image. It edits an [`Overlay`] in memory that lies over the image *file*, checks what it
//! sees through the overlay, and then commits the overlay's [`Change`] through a redo journal.
//!
//! [`ReadAt`] and [`Disk`] know sparseness and freshness and nothing of durability; a `Dev` knows durability and
//! nothing of formats. Only commit and recovery write to a `Dev`.

pub mod change;
pub mod coarse;
mod commit;
pub mod crew;
pub mod cx;
pub mod dev;
pub mod draft;
pub mod error;
pub mod extent;
pub mod image;
mod journal;
pub mod linear;
pub mod lock;
pub mod mem;
pub mod overlay;
mod recover;
pub mod traits;
pub mod view;

pub use change::{Change, Data, Move, Over, Pour, Write};
pub use coarse::Coarse;
pub use cx::{Budget, Cancel, Cx, Limits, Progress, Quiet, Task, Total};
pub use dev::{
    Dev, DevKind, FileDev, Folder, Identity, Named, Owner, Place, Room, Settled, Space, Store, Target,
};
pub use draft::Draft;
pub use error::{Error, Result};
pub use extent::{Extent, ExtentKind, ExtentMap};
pub use image::{CommitOptions, Foreseen, Image, OpenOptions, Outcome, Pending, Receipt};
pub use linear::{Linear, Stripes};
pub use mem::{MemDev, MemDisk, Sparse};
pub use overlay::Overlay;
pub use traits::{Disk, PourInto, ReadAt, copy_up, read_record, read_vec, write_record};
pub use view::{Limited, Slice};
