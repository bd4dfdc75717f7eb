//! Extended attributes: inside the inode, in a block, and large values in inodes of their own.
//!
//! ```text
//! in the inode   [magic] [entry name pad]… [0 0 0 0] … values, from the end; offsets count from the first entry
//! in a block     [header] [entry name pad]… [0 0 0 0] … values, from the end; offsets count from the block
//! ```

use super::Ext;
use super::inode::{EA_INODE, Inode};
use crate::csum::Object;
use crate::error::{Error, Part, Result};
use crate::layout::xattr::XATTR_MAGIC;
use crate::layout::{XattrEntry, XattrHeader};
use crate::unit::{BlockNo, InodeNo};
use disk::ReadAt;
use ondisk::Len;
use ondisk::num::to_usize;
use zerocopy::FromBytes;

/// The largest value that Linux stores in an inode of its own.
const VALUE_MAX: u32 = 1 << 24;

/// Where a value is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Beside the entry.
    Here(Vec<u8>),
    /// In an inode of its own, so many bytes.
    Inode(InodeNo, Len),
}

/// An attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Xattr {
    /// `e_name_index`: which prefix the name has.
    pub index: u8,
    /// The name behind the prefix.
    pub name: Vec<u8>,
    /// The value, as stored; Linux shows access control lists in another form.
    pub value: Value,
    /// `e_hash`.
    pub hash: u32,
}

impl Xattr {
    /// The name with its prefix, as Linux shows it.
    #[must_use]
    pub fn full_name(&self) -> Vec<u8> {
        let prefix: &[u8] = match self.index {
            1 => b"user.",
            2 => b"system.posix_acl_access",
            3 => b"system.posix_acl_default",
            4 => b"trusted.",
            6 => b"security.",
            7 => b"system.",
            8 => b"system.richacl",
            _ => b"",
        };
        [prefix, &self.name].concat()
    }

    /// Whether it is the rest of a file inside its inode.
    #[must_use]
    pub fn is_inline_data(&self) -> bool {
        self.index == 7 && self.name == b"data"
    }
}

impl<D: ReadAt> Ext<D> {
    /// All attributes of an inode: those inside it, then those in its block. Inline data is not an attribute.
    ///
    /// # Errors
    /// Where they cannot be read, or are damaged.
    pub fn xattrs(&self, inode: &Inode) -> Result<Vec<Xattr>> {
        let mut all = self.xattrs_inside(inode)?;
        all.retain(|attr| !attr.is_inline_data());
        if let Some(block) = inode.xattr_block() {
            all.extend(self.xattrs_of_block(block)?);
        }
        Ok(all)
    }

    /// The attributes inside an inode.
    ///
    /// # Errors
    /// Where they are damaged.
    pub fn xattrs_inside(&self, inode: &Inode) -> Result<Vec<Xattr>> {
        let area = inode.xattr_area();
        match area.split_first_chunk::<4>() {
            Some((magic, rest)) if u32::from_le_bytes(*magic) == XATTR_MAGIC => {
                entries(Part::Xattr(inode.ino()), rest, 0)
            }
            _ => Ok(Vec::new()),
        }
    }

    /// The attributes in a block.
    ///
    /// # Errors
    /// Where it cannot be read, or is damaged.
    pub fn xattrs_of_block(&self, block: BlockNo) -> Result<Vec<Xattr>> {
        let (part, geom) = (Part::XattrBlock(block), self.geom());
        if block.0 == 0 || block < geom.first_data_block {
            return Err(Error::field(part, "i_file_acl", block.0, "a block behind the superblock"));
        }
        let bytes = self.read_block(part, block)?;
        let (head, _) = XattrHeader::ref_from_prefix(&bytes)
            .map_err(|_| Error::broken(part, "is shorter than its header"))?;
        if head.h_magic.get() != XATTR_MAGIC {
            return Err(Error::field(part, "h_magic", head.h_magic.get(), XATTR_MAGIC));
        }
        if head.h_blocks.get() != 1 {
            return Err(Error::field(part, "h_blocks", head.h_blocks.get(), 1));
        }
        self.sb.sums().verify(Object::XattrBlock(block), &bytes).map_err(Error::checksum(part))?;
        entries(part, &bytes, size_of::<XattrHeader>())
    }

    /// The value of an attribute.
    ///
    /// # Errors
    /// Where it lies in an inode of its own that is damaged, or is no such inode.
    pub fn xattr_value(&self, attr: &Xattr) -> Result<Vec<u8>> {
        let (ino, len) = match &attr.value {
            Value::Here(bytes) => return Ok(bytes.clone()),
            Value::Inode(ino, len) => (*ino, *len),
        };
        let inode = self.inode(ino)?;
        if !inode.has(EA_INODE) {
            return Err(Error::broken(Part::Inode(ino), "is not an inode for attribute values"));
        }
        if inode.size() != len {
            return Err(Error::field(Part::Inode(ino), "i_size", inode.size().get(), len));
        }
        self.read_whole(&inode)
    }
}

/// Reads entries from `at` on; value offsets count from the start of `bytes`.
fn entries(part: Part, bytes: &[u8], mut at: usize) -> Result<Vec<Xattr>> {
    let mut all = Vec::new();
    loop {
        let rest = bytes.get(at..).unwrap_or_default();
        match rest.first_chunk::<4>() {
            None => return Err(Error::broken(part, "has no end mark")),
            Some([0, 0, 0, 0]) => return Ok(all),
            Some(_) => {}
        }
        let (raw, rest) = XattrEntry::ref_from_prefix(rest)
            .map_err(|_| Error::broken(part, "has an entry that reaches behind the end"))?;
        let name = rest.get(..usize::from(raw.e_name_len));
        let name = name.ok_or(Error::broken(part, "has a name that reaches behind the end"))?;
        all.push(Xattr {
            index: raw.e_name_index,
            name: name.to_vec(),
            value: value(part, bytes, raw)?,
            hash: raw.e_hash.get(),
        });
        let len = size_of::<XattrEntry>().saturating_add(name.len()).next_multiple_of(4);
        at = at.saturating_add(len);
    }
}

fn value(part: Part, bytes: &[u8], raw: &XattrEntry) -> Result<Value> {
    let size = raw.e_value_size.get();
    if raw.e_value_inum.get() != 0 {
        if size > VALUE_MAX {
            return Err(Error::field(part, "e_value_size", size, format!("at most {VALUE_MAX}")));
        }
        return Ok(Value::Inode(InodeNo(raw.e_value_inum.get()), Len::new(size.into())));
    }
    let start = usize::from(raw.e_value_offs.get());
    let end = start.saturating_add(to_usize(size.into()));
    // An empty value has no place.
    let found = if size == 0 { Some(Default::default()) } else { bytes.get(start..end) };
    match found {
        Some(found) => Ok(Value::Here(found.to_vec())),
        None => Err(Error::field(
            part,
            "e_value_offs",
            raw.e_value_offs.get(),
            format!("room for {size} bytes within {}", bytes.len()),
        )),
    }
}
