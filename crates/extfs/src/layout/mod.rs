//! Records exactly as on disk, nothing else. Little-endian, except the journal's in [`jbd2`].

pub mod dir;
pub mod group;
pub mod inode;
pub mod jbd2;
pub mod misc;
pub mod superblock;
pub mod xattr;

pub use dir::{DirTail, Dirent, DxCountLimit, DxEntry, DxRootInfo, DxTail};
pub use group::GroupDesc;
pub use inode::{Extent, ExtentHeader, ExtentIdx, ExtentTail, Inode, InodeExtra};
pub use misc::{Mmp, OrphanTail};
pub use superblock::Superblock;
pub use xattr::{XattrEntry, XattrHeader};

/// Declares a record: plain bytes in memory, of the stated size, with the stated offsets of its fields.
macro_rules! record {
    ($(#[$doc:meta])* $name:ident [$size:literal] { $($(#[$fdoc:meta])* $at:literal $field:ident: $of:ty,)* }) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable,
            zerocopy::KnownLayout, zerocopy::Unaligned,
        )]
        #[repr(C)]
        #[allow(missing_docs, reason = "fields have the names and meanings of the specification")]
        pub struct $name { $($(#[$fdoc])* pub $field: $of,)* }

        const _: () = {
            assert!(size_of::<$name>() == $size);
            $(assert!(core::mem::offset_of!($name, $field) == $at);)*
        };
    };
}
pub(crate) use record;
