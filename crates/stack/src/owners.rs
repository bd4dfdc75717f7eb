//! What the bytes of a disk are for: whose a few of them are, out of many.
//!
//! ```text
//! volume by volume: tables, free blocks, then file by file ─► what else a filesystem has ─► the rest lies outside
//! ```
//!
//! 1. A byte counts once, for the first that claims it: whatever a damaged filesystem claims, the sum is that of the parts.
//! 2. Of files only the largest are remembered, and only their names are looked for.
//! 3. What cannot be read is no error: its bytes are told as something else has them, or nobody.

mod ext;
mod names;

use crate::content::Content;
use crate::layout::{Layout, Volume};
use crate::region::Located;
use crate::{Error, Result, view};
use delta::Literal;
use disk::{Cx, ReadAt};
use ondisk::{Offset, Span, SpanSet};
use std::collections::BTreeMap;

/// What bytes are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Use {
    /// Contents of files, of links as well.
    Files,
    /// Folders.
    Directories,
    /// Tables of inodes.
    Inodes,
    /// Bitmaps of blocks and inodes.
    Bitmaps,
    /// The journal.
    Journal,
    /// Anything else that a filesystem keeps for itself.
    Metadata,
    /// Blocks that a filesystem calls free.
    Free,
    /// Swap.
    Swap,
    /// Outside of filesystems that can be read.
    Outside,
}

impl Use {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Files,
        Self::Directories,
        Self::Inodes,
        Self::Bitmaps,
        Self::Journal,
        Self::Metadata,
        Self::Free,
        Self::Swap,
        Self::Outside,
    ];

    /// What it is called.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Files => "file data",
            Self::Directories => "directories",
            Self::Inodes => "inode tables",
            Self::Bitmaps => "bitmaps",
            Self::Journal => "journal",
            Self::Metadata => "other metadata",
            Self::Free => "free blocks",
            Self::Swap => "swap",
            Self::Outside => "outside filesystems",
        }
    }
}

/// Literal bytes, and what they take in the patch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Amount {
    /// In the patch.
    pub packed: u64,
    /// On the disk.
    pub literal: u64,
}

impl Amount {
    /// Adds another one.
    pub const fn add(&mut self, other: Self) {
        self.packed = self.packed.saturating_add(other.packed);
        self.literal = self.literal.saturating_add(other.literal);
    }
}

/// A file, and how much of the parts it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OfFile {
    /// The volume of its filesystem.
    pub volume: String,
    /// Its number there.
    pub inode: u32,
    /// One of its paths, bytes of the image; none where it has no name, or none was found in reasonable time.
    pub path: Option<Vec<u8>>,
    /// How much that is.
    pub amount: Amount,
}

/// Whose the parts are.
#[derive(Clone, Debug, Default)]
pub struct Owners {
    /// By use, those that have none left out.
    pub uses: BTreeMap<Use, Amount>,
    /// The files that have most of them in the patch, the largest first.
    pub files: Vec<OfFile>,
    /// What could not be read, and why.
    pub notes: Vec<String>,
}

/// Finds out whose `parts` of a disk are, which are in order and apart; names so many of the largest files.
///
/// # Errors
/// Where the disk cannot be read, memory does not suffice, or the operator interrupts.
pub fn find(
    disk: &dyn ReadAt,
    layout: &Layout,
    parts: &[Literal],
    files: usize,
    cx: &Cx<'_>,
) -> Result<Owners> {
    let mut left = SpanSet::new();
    parts.iter().for_each(|part| left.insert(part.span));
    let mut ledger = Ledger { parts, left, owners: Owners::default() };
    let mut read = false;
    for volume in &layout.volumes {
        match volume.content {
            Content::Ext => read |= ledger.filesystem(disk, volume, files, cx)?,
            Content::Swap { .. } => {
                let place = Located::of(disk, &volume.region)?;
                ledger.claim(&place, Span::whole(volume.region.len()), Use::Swap)?;
            }
            Content::Foreign(_) => ledger.note(volume, "is not read"),
            _ => {}
        }
    }
    if !read {
        ledger.owners.notes.push("there is no filesystem that can be read".to_owned());
    }
    let rest: Vec<Span> = ledger.left.iter().collect();
    rest.into_iter().for_each(|span| ledger.add(Use::Outside, span));
    let mut owners = ledger.owners;
    owners.files.sort_by(|a, b| b.amount.cmp(&a.amount).then_with(|| a.inode.cmp(&b.inode)));
    owners.files.truncate(files);
    Ok(owners)
}

/// Parts that nobody has claimed yet, and whose the others are.
struct Ledger<'a> {
    parts: &'a [Literal],
    left: SpanSet,
    owners: Owners,
}

impl Ledger<'_> {
    /// Gives what is left of a volume's bytes to that use; how much it was.
    fn claim(&mut self, place: &Located<'_>, span: Span, what: Use) -> disk::Result<Amount> {
        let mut amount = Amount::default();
        for span in place.spans(span)? {
            let taken: Vec<Span> = self.left.intersect(span).collect();
            for span in taken {
                self.left.remove(span);
                amount.add(self.weigh(span));
                self.add(what, span);
            }
        }
        Ok(amount)
    }

    fn add(&mut self, what: Use, span: Span) {
        let amount = self.weigh(span);
        self.owners.uses.entry(what).or_default().add(amount);
    }

    /// What these bytes, all of them of parts, take. The shares of a part's bytes add up to the whole.
    fn weigh(&self, span: Span) -> Amount {
        let mut amount = Amount::default();
        let first = self.parts.partition_point(|part| part.span.end() <= span.start());
        for part in self.parts.iter().skip(first).take_while(|part| part.span.start() < span.end()) {
            let Some(inside) = part.span.intersect(span) else { continue };
            let up_to = |at: Offset, sum: u64| {
                let len = at.since(part.span.start()).unwrap_or_default();
                let share = u128::from(sum).saturating_mul(len.get().into());
                let share = share.checked_div(part.span.len().get().into()).unwrap_or_default();
                u64::try_from(share).unwrap_or(u64::MAX)
            };
            let share = |sum: u64| up_to(inside.end(), sum).saturating_sub(up_to(inside.start(), sum));
            amount.add(Amount { packed: share(part.packed), literal: share(part.len) });
        }
        amount
    }

    fn note(&mut self, volume: &Volume, why: impl std::fmt::Display) {
        self.owners.notes.push(format!("{} ({}): {why}", volume.id, volume.content));
    }

    /// Gives a filesystem what it has; whether it could be read.
    fn filesystem(&mut self, disk: &dyn ReadAt, volume: &Volume, most: usize, cx: &Cx<'_>) -> Result<bool> {
        let place = Located::of(disk, &volume.region)?;
        let seen = view::with_filesystem(disk, volume, cx, |fs| {
            ext::Claims { fs, place: &place, ledger: self, cx }.all(most)
        });
        let found = match seen {
            Err(error @ (Error::Ext { .. } | Error::Replay { .. })) => {
                self.note(volume, error);
                return Ok(false);
            }
            other => other??,
        };
        if found.damaged > 0 {
            let why = format!(
                "{} parts of it are damaged; what they have is told as other metadata",
                found.damaged
            );
            self.note(volume, why);
        }
        let file = |(amount, inode, path)| OfFile { volume: volume.id.to_string(), inode, path, amount };
        self.owners.files.extend(found.files.into_iter().map(file));
        Ok(true)
    }
}
