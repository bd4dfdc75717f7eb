//! Inodes: what a file is, without its name.
//!
//! ```text
//! 0           128        128 + i_extra_isize        inode size
//! | base      | extra    | attributes inside        |
//! ```

use crate::csum::{InodeSeed, Sums};
use crate::error::{Error, Part, Result};
use crate::layout;
use crate::unit::{BlockNo, InodeNo};
use ondisk::Len;
use zerocopy::{FromBytes, FromZeros, IntoBytes};

/// `i_flags`: the directory has a hash tree.
pub const INDEX: u32 = 0x1000;
/// `i_flags`: `i_blocks` counts filesystem blocks.
pub const HUGE_FILE: u32 = 0x4_0000;
/// `i_flags`: mapped by extents.
pub const EXTENTS: u32 = 0x8_0000;
/// `i_flags`: encrypted.
pub const ENCRYPT: u32 = 0x800;
/// `i_flags`: holds a large attribute value.
pub const EA_INODE: u32 = 0x20_0000;
/// `i_flags`: the contents are in the inode.
pub const INLINE_DATA: u32 = 0x1000_0000;

/// What kind of file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Dir,
    /// A symbolic link.
    Symlink,
    /// A character device.
    Char,
    /// A block device.
    Block,
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
}

impl Kind {
    /// From `i_mode`.
    #[must_use]
    pub const fn of_mode(mode: u16) -> Option<Self> {
        match mode & 0xf000 {
            0x8000 => Some(Self::File),
            0x4000 => Some(Self::Dir),
            0xa000 => Some(Self::Symlink),
            0x2000 => Some(Self::Char),
            0x6000 => Some(Self::Block),
            0x1000 => Some(Self::Fifo),
            0xc000 => Some(Self::Socket),
            _ => None,
        }
    }

    /// From the `file_type` of a directory entry.
    #[must_use]
    pub const fn of_dirent(file_type: u8) -> Option<Self> {
        match file_type {
            1 => Some(Self::File),
            2 => Some(Self::Dir),
            3 => Some(Self::Char),
            4 => Some(Self::Block),
            5 => Some(Self::Fifo),
            6 => Some(Self::Socket),
            7 => Some(Self::Symlink),
            _ => None,
        }
    }

    /// As the `file_type` of a directory entry.
    #[must_use]
    pub const fn to_dirent(self) -> u8 {
        match self {
            Self::File => 1,
            Self::Dir => 2,
            Self::Char => 3,
            Self::Block => 4,
            Self::Fifo => 5,
            Self::Socket => 6,
            Self::Symlink => 7,
        }
    }
}

/// A point in time: seconds since 1970 and nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time {
    /// Seconds since 1970, perhaps before.
    pub seconds: i64,
    /// Nanoseconds behind that.
    pub nanoseconds: u32,
}

impl Time {
    fn of(seconds: u32, extra: u32) -> Self {
        let epoch = i64::from(extra & 3) << 32;
        let seconds = i64::from(seconds.cast_signed()).saturating_add(epoch);
        Self { seconds, nanoseconds: extra >> 2 }
    }
}

/// An inode, its bytes verified.
#[derive(Clone, Debug)]
pub struct Inode {
    ino: InodeNo,
    bytes: Vec<u8>,
}

impl Inode {
    /// Takes the bytes of an inode whose checksum is right.
    ///
    /// # Errors
    /// Where they are too few, or `i_extra_isize` does not fit.
    pub fn parse(ino: InodeNo, bytes: Vec<u8>) -> Result<Self> {
        let part = Part::Inode(ino);
        if bytes.len() < size_of::<layout::Inode>() {
            return Err(Error::broken(part, "is shorter than its record"));
        }
        let this = Self { ino, bytes };
        let room = this.bytes.len().saturating_sub(size_of::<layout::Inode>());
        let extra = this.extra_isize();
        let unused = this.raw().i_mode.get() == 0;
        if !unused && (usize::from(extra) > room || !extra.is_multiple_of(4)) {
            let expected = format!("a multiple of 4 up to {room}");
            return Err(Error::field(part, "i_extra_isize", extra, expected));
        }
        Ok(this)
    }

    /// Takes the bytes of an inode that may be damaged, for those who look for damage.
    pub(crate) const fn unverified(ino: InodeNo, bytes: Vec<u8>) -> Self {
        Self { ino, bytes }
    }

    /// Its number.
    #[must_use]
    pub const fn ino(&self) -> InodeNo {
        self.ino
    }

    /// All its bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Its first 128 bytes.
    #[must_use]
    pub fn raw(&self) -> layout::Inode {
        layout::Inode::read_from_prefix(&self.bytes)
            .map_or_else(|_| layout::Inode::new_zeroed(), |(raw, _)| raw)
    }

    /// What follows, zero where it is not there.
    #[must_use]
    pub fn extra(&self) -> layout::InodeExtra {
        let mut extra = layout::InodeExtra::new_zeroed();
        let there = self.bytes.get(128..).unwrap_or_default();
        for (to, from) in extra.as_mut_bytes().iter_mut().zip(there.iter().take(self.extra_isize().into())) {
            *to = *from;
        }
        extra
    }

    /// `i_extra_isize`; 0 in inodes of 128 bytes.
    #[must_use]
    pub fn extra_isize(&self) -> u16 {
        self.bytes.get(128..).and_then(<[u8]>::first_chunk).map_or(0, |b| u16::from_le_bytes(*b))
    }

    /// The area for attributes, behind the extra fields.
    #[must_use]
    pub fn xattr_area(&self) -> &[u8] {
        let extra = usize::from(self.extra_isize());
        if extra == 0 { &[] } else { self.bytes.get(extra.saturating_add(128)..).unwrap_or_default() }
    }

    /// `i_mode`: kind and permissions.
    #[must_use]
    pub fn mode(&self) -> u16 {
        self.raw().i_mode.get()
    }

    /// What kind of file; `None` for an unused inode and for nonsense.
    #[must_use]
    pub fn kind(&self) -> Option<Kind> {
        Kind::of_mode(self.mode())
    }

    /// The owner.
    #[must_use]
    pub fn uid(&self) -> u32 {
        u32::from(self.raw().i_uid_high.get()) << 16 | u32::from(self.raw().i_uid.get())
    }

    /// The owning group.
    #[must_use]
    pub fn gid(&self) -> u32 {
        u32::from(self.raw().i_gid_high.get()) << 16 | u32::from(self.raw().i_gid.get())
    }

    /// The length of the contents.
    #[must_use]
    pub fn size(&self) -> Len {
        let raw = self.raw();
        let high = match self.kind() {
            Some(Kind::File | Kind::Dir) => raw.i_size_high.get(),
            _ => 0,
        };
        Len::new(u64::from(high) << 32 | u64::from(raw.i_size_lo.get()))
    }

    /// Names that refer to it.
    #[must_use]
    pub fn links(&self) -> u16 {
        self.raw().i_links_count.get()
    }

    /// `i_flags`.
    #[must_use]
    pub fn flags(&self) -> u32 {
        self.raw().i_flags.get()
    }

    /// Whether all these flags are set.
    #[must_use]
    pub fn has(&self, flags: u32) -> bool {
        self.flags() & flags == flags
    }

    /// `i_blocks` with its high half: units of 512 bytes, or blocks with the flag `HUGE_FILE`.
    #[must_use]
    pub fn sectors(&self) -> u64 {
        u64::from(self.raw().i_blocks_high.get()) << 32 | u64::from(self.raw().i_blocks_lo.get())
    }

    /// `i_generation`.
    #[must_use]
    pub fn generation(&self) -> u32 {
        self.raw().i_generation.get()
    }

    /// The block of extended attributes, if there is one.
    #[must_use]
    pub fn xattr_block(&self) -> Option<BlockNo> {
        let raw = self.raw();
        let block = u64::from(raw.i_file_acl_high.get()) << 32 | u64::from(raw.i_file_acl_lo.get());
        (block != 0).then_some(BlockNo(block))
    }

    /// When it was read last.
    #[must_use]
    pub fn atime(&self) -> Time {
        Time::of(self.raw().i_atime.get(), self.extra().i_atime_extra.get())
    }

    /// When the inode was changed last.
    #[must_use]
    pub fn ctime(&self) -> Time {
        Time::of(self.raw().i_ctime.get(), self.extra().i_ctime_extra.get())
    }

    /// When the contents were changed last.
    #[must_use]
    pub fn mtime(&self) -> Time {
        Time::of(self.raw().i_mtime.get(), self.extra().i_mtime_extra.get())
    }

    /// When it was made, where the inode has room for that.
    #[must_use]
    pub fn crtime(&self) -> Option<Time> {
        let extra = self.extra();
        (self.extra_isize() >= 24).then(|| Time::of(extra.i_crtime.get(), extra.i_crtime_extra.get()))
    }

    /// Device numbers (major, minor) of a device file.
    #[must_use]
    pub fn device(&self) -> Option<(u32, u32)> {
        matches!(self.kind(), Some(Kind::Char | Kind::Block)).then_some(())?;
        let word = |at: usize| {
            let raw = self.raw();
            raw.i_block.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |b| u32::from_le_bytes(*b))
        };
        Some(match (word(0), word(4)) {
            (0, new) => (new >> 8 & 0xfff, new & 0xff | new >> 12 & 0xf_ff00),
            (old, _) => (old >> 8 & 0xff, old & 0xff),
        })
    }

    /// The seed of the checksums of its blocks.
    #[must_use]
    pub fn seed(&self, sums: &Sums) -> InodeSeed {
        sums.inode_seed(self.ino, self.generation())
    }

    /// Whether blocks hold its contents: not for inline data, fast symbolic links and special files.
    #[must_use]
    pub fn has_map(&self) -> bool {
        match self.kind() {
            _ if self.has(INLINE_DATA) => false,
            Some(Kind::File | Kind::Dir) => true,
            Some(Kind::Symlink) => self.has(EXTENTS) || self.size().get() >= 60,
            Some(_) => false,
            // Reserved inodes, for example that of bad blocks, have no mode.
            None => true,
        }
    }
}
