//! A list of windows: number, value, and instructions of each.

use super::op::{self, Bounds, Op};
use super::varint;
use crate::digest::Leaf;
use ondisk::num::{to_u64, to_usize};
use std::ops::Range;

/// Bytes of a list: another window makes a new one.
pub const FULL: usize = 1 << 20;
/// Bytes of a list, at most: one window that is nothing but short instructions.
pub const MAX: u32 = 16 << 20;

/// A list that is being made.
#[derive(Debug, Default)]
pub struct List {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Number of its first window.
    pub first: u64,
    /// Windows in it.
    pub count: u32,
    /// Where its first window begins to take fresh bytes.
    pub literals: u64,
    /// Number of the window behind its last one.
    next: u64,
}

impl List {
    /// Adds a window, which takes fresh bytes from `literals` on.
    pub fn push(&mut self, index: u64, leaf: &Leaf, ops: &[Op], literals: u64, bases: usize) {
        if self.count == 0 {
            (self.first, self.next, self.literals) = (index, index, literals);
        }
        varint::put(&mut self.bytes, index.saturating_sub(self.next));
        self.bytes.extend(leaf);
        let mut encoded = Vec::new();
        op::encode(ops, index, literals, bases, &mut encoded);
        varint::put(&mut self.bytes, to_u64(encoded.len()));
        self.bytes.extend(encoded);
        self.next = index.saturating_add(1);
        self.count = self.count.saturating_add(1);
    }
}

/// A window as it is listed.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Number of the window.
    pub index: u64,
    /// Its value.
    pub leaf: Leaf,
    /// Where it begins to take fresh bytes.
    pub literals: u64,
    /// Whether it is nothing but zeros.
    pub zeros: bool,
    /// Its instructions in the list.
    ops: Range<usize>,
}

/// A list that was read.
#[derive(Debug)]
pub struct Section {
    bytes: Vec<u8>,
    entries: Vec<Entry>,
    /// Where in the literal stream the next list goes on.
    pub literals: u64,
}

impl Section {
    /// Reads a list of `count` windows below `windows` from number `first` on. All instructions are looked at.
    pub fn read(
        bytes: Vec<u8>,
        (first, count): (u64, u32),
        windows: u64,
        mut literals: u64,
        bounds: &Bounds<'_>,
    ) -> Result<Self, &'static str> {
        let mut rest = bytes.as_slice();
        let (mut entries, mut next) = (Vec::new(), first);
        for _ in 0..count {
            let skip = varint::take(&mut rest).ok_or("ends within a window")?;
            let index = next.checked_add(skip).filter(|index| *index < windows);
            let index = index.ok_or("lists a window behind the end of the disk")?;
            let (leaf, behind) = rest.split_first_chunk().ok_or("ends within a window")?;
            rest = behind;
            let len = to_usize(varint::take(&mut rest).ok_or("ends within a window")?);
            let start = bytes.len().saturating_sub(rest.len());
            let (ops, behind) = rest.split_at_checked(len).ok_or("ends within a window")?;
            rest = behind;
            let (from, mut zeros) = (literals, true);
            op::each(ops, index, &mut literals, bounds, |op| zeros &= matches!(op, Op::Zero(_)))?;
            let ops = start..start.saturating_add(len);
            entries.push(Entry { index, leaf: *leaf, literals: from, zeros, ops });
            next = index.saturating_add(1);
        }
        if !rest.is_empty() {
            return Err("goes on behind its last window");
        }
        Ok(Self { entries, literals, bytes })
    }

    /// Its windows, in order.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// What a window is made of.
    pub fn ops(&self, entry: &Entry, bounds: &Bounds<'_>) -> Result<Vec<Op>, &'static str> {
        let bytes = self.bytes.get(entry.ops.clone()).unwrap_or_default();
        op::decode(bytes, entry.index, &mut entry.literals.clone(), bounds)
    }
}
