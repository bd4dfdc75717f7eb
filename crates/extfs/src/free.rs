//! Blocks that nothing has.

use crate::error::Result;
use crate::unit::{BlockCount, BlockNo};
use crate::{Ext, recovery};
use disk::{Cx, Disk, ReadAt};

impl<D: ReadAt> Ext<D> {
    /// Calls `each` with every run of blocks that the bitmaps call free, ascending, those that go on in the next group
    /// joined. They are what they say only in a filesystem that a full check has found clean.
    ///
    /// # Errors
    /// Where a bitmap is damaged or cannot be read, and what `each` returns.
    pub fn each_free(
        &self,
        cx: &Cx<'_>,
        mut each: impl FnMut(BlockNo, BlockCount) -> disk::Result<()>,
    ) -> Result<()> {
        let geom = self.geom();
        let mut open = BlockNo(0)..BlockNo(0);
        for group in geom.all_groups() {
            cx.cancel.check()?;
            let bitmap = self.block_bitmap(group)?;
            for run in bitmap.runs(false) {
                let first = geom.block_of_bit(group, run.start);
                // The last cluster may be cut by the end.
                let end = geom.block_of_bit(group, run.end).min(geom.end_block(group));
                if open.end == first {
                    open.end = end;
                } else {
                    let done = std::mem::replace(&mut open, first..end);
                    each(done.start, BlockCount(done.end.0.saturating_sub(done.start.0)))?;
                }
            }
        }
        Ok(each(open.start, BlockCount(open.end.0.saturating_sub(open.start.0)))?)
    }
}

/// Replays the journal of the filesystem on `disk` and leaves its orphans alone: a block is given up for good only when
/// no file that waits to be deleted needs it any more to find its other blocks.
///
/// # Errors
/// As [`crate::recovered`].
pub fn replayed(disk: &mut dyn Disk, cx: &Cx<'_>) -> Result<()> {
    recovery::replay(disk, cx).map(drop)
}
