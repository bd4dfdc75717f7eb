//! Deciding what a replay writes, and writing it.

use super::fast;
use super::log::Log;
use super::scan::{self, Source};
use crate::Ext;
use crate::error::{Error, Part, Result};
use crate::feature::{Compat, Incompat};
use crate::geom::Geometry;
use crate::layout;
use crate::layout::superblock::STATE_ERROR;
use crate::sb::{SUPER_OFFSET, Superblock};
use crate::settle::settle;
use crate::unit::{BlockCount, BlockNo, BlockSize, GroupNo};
use disk::{Cx, Disk, Limits, ReadAt};
use ondisk::num::to_usize;
use std::collections::BTreeMap;
use std::ops::Range;
use zerocopy::{FromBytes, IntoBytes};

/// The fields of the superblock that tell of errors: they are written past the journal.
const ERRORS: Range<usize> = 0x194..0x200;

/// A copy that goes to its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Copy {
    /// Where its last content is: a block of the journal, as the filesystem counts.
    pub from: BlockNo,
    /// Its first four bytes are the magic number instead of what the journal has.
    pub escaped: bool,
}

/// Everything that a replay will do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplayPlan {
    /// Transactions that count.
    pub transactions: u32,
    /// What goes to each block.
    pub copies: BTreeMap<BlockNo, Copy>,
    /// Whether the journal has records although the filesystem says that it was left in order: they are dropped.
    pub dropped: bool,
    /// Whether the journal has an error recorded, which the superblock takes over.
    pub failed: bool,
    block_size: BlockSize,
    /// The journal's superblock afterwards, and its block; `None` where nothing changes.
    emptied: Option<(BlockNo, Vec<u8>)>,
    /// The fields that tell of errors, and whether the state does.
    errors: (Vec<u8>, bool),
}

impl ReplayPlan {
    /// Whether there is nothing to do.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.emptied.is_none()
    }

    /// The plan for people.
    #[must_use]
    pub fn sentences(&self) -> Vec<String> {
        let mut said = Vec::new();
        if self.is_empty() {
            return said;
        }
        if self.dropped {
            said.push(
                "the journal has records that the filesystem no longer needs: they are dropped".to_owned(),
            );
        } else {
            let (n, blocks) = (self.transactions, self.copies.len());
            said.push(format!("the journal is replayed: transactions {n}, blocks {blocks}"));
        }
        if self.failed {
            said.push(
                "the journal has an error recorded: the filesystem is marked for a full check".to_owned(),
            );
        }
        said
    }

    /// Carries it out on the disk that it was planned for. Open the filesystem anew afterwards.
    ///
    /// # Errors
    /// Where the disk cannot be read or written, or work is cancelled.
    pub fn apply(self, disk: &mut (impl Disk + ?Sized), cx: &Cx<'_>) -> Result<()> {
        let Some((place, bytes)) = &self.emptied else { return Ok(()) };
        let size = self.block_size;
        let beyond = || Error::broken(Part::Journal, "has blocks beyond the end of all numbers");
        for (&to, copy) in &self.copies {
            cx.cancel.check()?;
            let from = size.span_of(copy.from, BlockCount(1)).ok_or_else(beyond)?;
            let to = size.offset_of(to).ok_or_else(beyond)?;
            disk.copy(from, to)?;
            if copy.escaped {
                disk.write_at(to, &layout::jbd2::MAGIC.to_be_bytes())?;
            }
        }
        disk.write_at(size.offset_of(*place).ok_or_else(beyond)?, bytes)?;
        settle(disk, cx, |raw| {
            let incompat = Incompat(raw.s_feature_incompat.get());
            raw.s_feature_incompat.set(incompat.without(Incompat::RECOVER).0);
            let (errors, marked) = &self.errors;
            if let Some(place) = raw.as_mut_bytes().get_mut(ERRORS) {
                place.copy_from_slice(errors);
            }
            if self.failed || *marked {
                raw.s_state.set(raw.s_state.get() | STATE_ERROR);
            }
        })
    }
}

/// Reads the journal and decides what goes where.
///
/// # Errors
/// Where the journal is damaged, lies on another device, or holds fast commits.
pub fn plan_replay<D: ReadAt>(fs: &Ext<D>, limits: &Limits) -> Result<ReplayPlan> {
    let sb = fs.sb();
    let errors = sb.raw().as_bytes().get(ERRORS).unwrap_or_default().to_vec();
    let mut plan = ReplayPlan {
        transactions: 0,
        copies: BTreeMap::new(),
        dropped: false,
        failed: false,
        block_size: fs.geom().block_size,
        emptied: None,
        errors: (errors, sb.has_errors()),
    };
    let Some(ino) = sb.journal_inode() else {
        return match (sb.needs_recovery(), sb.compat().has(Compat::HAS_JOURNAL)) {
            (false, _) => Ok(plan),
            (true, true) => {
                Err(Error::Unsupported { part: Part::Journal, what: "a journal on another device" })
            }
            (true, false) => Err(Error::broken(Part::Journal, "is missing, and needs_recovery is set")),
        };
    };
    let log = Log::open(fs, ino)?;
    sb.writable()?;
    let dirty = log.raw.s_start.get() != 0;
    plan.failed = log.raw.s_errno.get() != 0;
    plan.dropped = dirty && !sb.needs_recovery();
    if !dirty && !plan.failed && !sb.needs_recovery() {
        return Ok(plan);
    }
    let mut end = log.raw.s_sequence.get();
    if dirty {
        end = scan::end(&log)?;
    }
    if dirty && !plan.dropped {
        if fast::any(&log, end)? {
            return Err(Error::Unsupported { part: Part::Journal, what: "a journal with fast commits" });
        }
        plan.transactions = end.wrapping_sub(log.raw.s_sequence.get());
        let revoked = scan::revokes(&log, end, limits)?;
        let copies = scan::copies(&log, end, &revoked, limits)?;
        check(&log, &copies)?;
        for (block, source) in copies {
            plan.copies.insert(block, Copy { from: log.place(source.at)?, escaped: source.escaped });
        }
    }
    plan.emptied = Some((log.place(0)?, log.emptied(end).as_bytes().to_vec()));
    Ok(plan)
}

/// Every target must be a block that a filesystem may change, in the filesystem as it will be.
fn check<D: ReadAt>(log: &Log<'_, D>, copies: &BTreeMap<BlockNo, Source>) -> Result<()> {
    let new = new_superblock(log, copies)?;
    let geom: &Geometry = new.as_ref().map_or(log.fs.geom(), Superblock::geom);
    for (&block, source) in copies {
        let part = Part::JournalBlock(source.at);
        if !geom.holds(block, BlockCount(1)) {
            let last = geom.blocks.0.saturating_sub(1);
            let expected = format!("a block from {} to {last}", geom.first_data_block);
            return Err(Error::field(part, "t_blocknr", block.0, expected));
        }
        if log.owns(block) {
            return Err(Error::field(part, "t_blocknr", block.0, "a block outside the journal"));
        }
    }
    Ok(())
}

/// The superblock that the journal holds, validated; a guest may have grown its filesystem.
fn new_superblock<D: ReadAt>(
    log: &Log<'_, D>,
    copies: &BTreeMap<BlockNo, Source>,
) -> Result<Option<Superblock>> {
    let size = log.fs.geom().block_size;
    let at = BlockNo(SUPER_OFFSET.get() >> size.bits());
    let Some(source) = copies.get(&at) else { return Ok(None) };
    let mut block = log.read(source.at)?;
    if let Some(start) = block.first_chunk_mut::<4>().filter(|_| source.escaped) {
        *start = layout::jbd2::MAGIC.to_be_bytes();
    }
    let within = to_usize(SUPER_OFFSET.get().saturating_sub(at.0.saturating_mul(size.bytes())));
    let (raw, _) = layout::Superblock::read_from_prefix(block.get(within..).unwrap_or_default())
        .map_err(|_| Error::broken(Part::JournalBlock(source.at), "is shorter than a superblock"))?;
    let new = Superblock::parse(raw, GroupNo(0))?;
    let part = Part::Superblock(GroupNo(0));
    let there = size.blocks_in(log.fs.disk().len());
    if new.geom().block_size != size {
        let found = new.geom().block_size.bytes();
        return Err(Error::field(part, "the block size in the journal", found, size.bytes()));
    }
    if new.geom().blocks > there {
        let expected = format!("at most {there}, which is what the disk holds");
        return Err(Error::field(part, "s_blocks_count in the journal", new.geom().blocks.0, expected));
    }
    Ok(Some(new))
}
