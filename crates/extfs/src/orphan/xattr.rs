//! Giving up the attributes of a deleted file.
//!
//! A block of attributes, and an inode that holds one value, serve several files: each counts who refers to it.

use super::edit::Edit;
use crate::csum::Object;
use crate::error::{Error, Part, Result};
use crate::layout::XattrHeader;
use crate::read::inode::{EA_INODE, Inode};
use crate::read::xattr::{Value, Xattr};
use crate::unit::{BlockNo, InodeNo};
use disk::ReadAt;
use ondisk::num::low32;
use zerocopy::FromBytes;

/// Gives up all attributes. Returns the inodes of values that nobody refers to any more; they have no links now.
pub(super) fn release<D: ReadAt>(edit: &mut Edit<'_, D>, inode: &Inode) -> Result<Vec<InodeNo>> {
    let mut unused = values(edit, edit.fs.xattrs_inside(inode)?)?;
    if let Some(block) = inode.xattr_block() {
        unused.extend(release_block(edit, block)?);
    }
    Ok(unused)
}

fn release_block<D: ReadAt>(edit: &mut Edit<'_, D>, block: BlockNo) -> Result<Vec<InodeNo>> {
    let part = Part::XattrBlock(block);
    let attributes = edit.fs.xattrs_of_block(block)?;
    let mut bytes = edit.block(part, block)?;
    let (head, _) = XattrHeader::mut_from_prefix(&mut bytes)
        .map_err(|_| Error::broken(part, "is shorter than its header"))?;
    let users = head.h_refcount.get();
    if users > 1 {
        head.h_refcount.set(users.saturating_sub(1));
        edit.fs.sb().sums().seal(Object::XattrBlock(block), &mut bytes);
        edit.put_block(block, bytes)?;
        return Ok(Vec::new());
    }
    edit.free(part, block, block)?;
    values(edit, attributes)
}

fn values<D: ReadAt>(edit: &mut Edit<'_, D>, attributes: Vec<Xattr>) -> Result<Vec<InodeNo>> {
    let mut unused = Vec::new();
    for attribute in attributes {
        if let Value::Inode(ino, _) = attribute.value
            && forget(edit, ino)?
        {
            unused.push(ino);
        }
    }
    Ok(unused)
}

/// Takes one reference away from an inode that holds a value; whether that was the last. The count stands where other
/// inodes have the time of their change, high, and their version, low.
fn forget<D: ReadAt>(edit: &mut Edit<'_, D>, ino: InodeNo) -> Result<bool> {
    let part = Part::Inode(ino);
    if ino < edit.fs.sb().first_inode() || !edit.inode_in_use(ino)? {
        return Err(Error::broken(part, "holds an attribute, and is not in use"));
    }
    let inode = edit.inode(ino)?;
    if !inode.has(EA_INODE) {
        return Err(Error::broken(part, "is not an inode for attribute values"));
    }
    let raw = inode.raw();
    let users = u64::from(raw.i_ctime.get()) << 32 | u64::from(raw.i_version.get());
    let Some(left) = users.checked_sub(1) else {
        return Err(Error::broken(part, "holds an attribute that nobody refers to"));
    };
    edit.change(&inode, |raw| {
        raw.i_ctime.set(low32(left >> 32));
        raw.i_version.set(low32(left));
        if left == 0 {
            raw.i_links_count.set(0);
        }
    })?;
    Ok(left == 0)
}
