//! `digest IMAGE`: BLAKE3 of the virtual disk, the same for the same content in any format.
//!
//! ```text
//! readers, each every nth piece ─► in order ─► BLAKE3, which splits a piece among all threads
//! ```
//!
//! 1. What is known to be zero is not read.
//! 2. Zeros are hashed all the same, a day for each few hundred TiB: what exists only in a header is refused.
//! 3. Buffers go back to their reader: memory is bounded, and pages are touched once.

use crate::args::Digest;
use crate::cx::Session;
use crate::exit::{Exit, Failure, Of, show};
use crate::output::Output;
use crate::sandbox::Needs;
use disk::{Cx, ReadAt, Total};
use ondisk::num::to_u64;
use ondisk::{Len, Span};
use serde_json::json;
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};

/// So much is read at once.
const PIECE: Len = Len::mib(4);

/// Larger disks exist only in headers: 1 PiB.
const DISK_MAX: Len = Len::new(1 << 50);

/// Runs it.
///
/// # Errors
/// Where the image cannot be read.
pub fn run(args: &Digest, session: &Session, out: &mut Output) -> Result<Exit, Failure> {
    let opened = session.open_reading(&args.image, session.globals.format)?;
    session.confine(&Needs::nothing(), out);
    let cx = session.cx();
    let (hash, len) = opened.with_disk(session, out, |disk| {
        if disk.len() > DISK_MAX {
            return Err(too_large(&args.image, disk.len()));
        }
        Ok((of_disk(disk, &cx).of(&args.image)?, disk.len()))
    })?;
    let hex = hash.to_hex();
    out.line(format!("{hex}  {}", show(&args.image)));
    out.document(&json!({
        "algorithm": "blake3",
        "digest": hex.as_str(),
        "virtual-size": len.get(),
    }))?;
    Ok(Exit::Done)
}

fn too_large(image: &Path, len: Len) -> Failure {
    let name = show(image);
    let text = format!("{name}: a digest of {len} bytes would take years; disks up to {DISK_MAX} have one");
    Failure::new(Exit::Refused, "unsupported", text)
        .with_help("`imgtool compare` tells whether two images are the same, and skips what is zero in both")
}

/// A piece of the disk.
enum Piece {
    Bytes(Vec<u8>),
    Zeros(Len),
}

/// A reader as the hasher sees it.
struct Reader {
    pieces: Receiver<disk::Result<Piece>>,
    /// Where its buffers go when they are done with.
    back: Sender<Vec<u8>>,
}

/// The digest of a disk.
fn of_disk(disk: &dyn ReadAt, cx: &Cx<'_>) -> disk::Result<blake3::Hash> {
    // A reader has one piece in hand and one under way, the hasher another.
    let room = cx.limits.memory.get().checked_div(PIECE.get().saturating_mul(4)).unwrap_or(1);
    let readers = ondisk::num::to_usize(to_u64(cx.limits.threads).min(room).max(1));
    let task = cx.progress.task("digest", Total::Bytes(disk.len()));
    let pool = rayon::ThreadPoolBuilder::new().num_threads(cx.limits.threads).build().ok();
    let zeros = vec![0; disk.len().min(PIECE).to_usize()];
    let mut hasher = blake3::Hasher::new();
    std::thread::scope(|scope| {
        let all: Vec<Reader> = (0..readers)
            .map(|first| {
                let (send, pieces) = sync_channel(1);
                let (back, buffers) = channel();
                scope.spawn(move || read(disk, (first, readers), &send, &buffers));
                Reader { pieces, back }
            })
            .collect();
        for reader in all.iter().cycle() {
            cx.cancel.check()?;
            // A reader that has come to the end hangs up; the others have nothing further either.
            let Ok(piece) = reader.pieces.recv() else { return Ok(()) };
            match piece? {
                Piece::Bytes(bytes) => {
                    update(&mut hasher, &bytes, pool.as_ref());
                    task.advance(to_u64(bytes.len()));
                    let _ = reader.back.send(bytes);
                }
                Piece::Zeros(len) => {
                    update(&mut hasher, zeros.get(..len.to_usize()).unwrap_or_default(), pool.as_ref());
                    task.advance(len.get());
                }
            }
        }
        Ok(())
    })
    .map(|()| hasher.finalize())
}

fn update(hasher: &mut blake3::Hasher, bytes: &[u8], pool: Option<&rayon::ThreadPool>) {
    match pool {
        Some(pool) if pool.current_num_threads() > 1 => {
            pool.install(|| hasher.update_rayon(bytes));
        }
        _ => {
            hasher.update(bytes);
        }
    }
}

/// Reads every `step`th piece from piece `first` on.
fn read(
    disk: &dyn ReadAt,
    (first, step): (usize, usize),
    send: &SyncSender<disk::Result<Piece>>,
    buffers: &Receiver<Vec<u8>>,
) {
    for span in Span::whole(disk.len()).chunks(PIECE).skip(first).step_by(step) {
        let piece = read_piece(disk, span, buffers);
        let failed = piece.is_err();
        if send.send(piece).is_err() || failed {
            return;
        }
    }
}

fn read_piece(disk: &dyn ReadAt, span: Span, buffers: &Receiver<Vec<u8>>) -> disk::Result<Piece> {
    let map = disk.extents(span)?;
    if map.all_zero() {
        return Ok(Piece::Zeros(span.len()));
    }
    let mut bytes = buffers.try_recv().unwrap_or_default();
    bytes.resize(span.len().to_usize(), 0);
    for extent in map.iter() {
        let at = extent.span.start().since(span.start()).unwrap_or_default().to_usize();
        let part = bytes.get_mut(at..at.saturating_add(extent.span.len().to_usize())).unwrap_or_default();
        if extent.kind.reads_zero() {
            part.fill(0);
        } else {
            disk.read_at(extent.span.start(), part)?;
        }
    }
    Ok(Piece::Bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use disk::{Cancel, Disk, Error, Limits, MemDisk, Quiet};
    use ondisk::Offset;

    fn digest(disk: &MemDisk, threads: usize, cancel: &Cancel) -> disk::Result<blake3::Hash> {
        let limits = Limits { threads, ..Limits::default() };
        of_disk(disk, &Cx { progress: &Quiet, cancel, limits, now: 0 })
    }

    #[test]
    fn pieces_in_any_number_of_hands_give_the_digest_of_the_whole() {
        for len in [0, 1, 4 << 20, (21 << 20) + 513] {
            let bytes = testkit::images::noise(len, len.try_into().unwrap());
            for threads in [1, 2, 7] {
                let hash = digest(&MemDisk::from_bytes(&bytes), threads, &Cancel::new()).unwrap();
                assert_eq!(hash, blake3::hash(&bytes), "{len} bytes, {threads} threads");
            }
        }
    }

    #[test]
    fn holes_count_as_zeros_although_buffers_are_used_again() {
        let mut disk = MemDisk::from_bytes(&[]);
        disk.resize(Len::mib(40)).unwrap();
        for at in [0, (9 << 20) - 5, (33 << 20) + 100] {
            disk.write_at(Offset::new(at), &testkit::images::noise(at, 70_000)).unwrap();
        }
        let hash = digest(&disk, 2, &Cancel::new()).unwrap();
        assert_eq!(hash, blake3::hash(&disk.to_vec()));
    }

    #[test]
    fn the_operator_can_stop_it() {
        let cancel = Cancel::new();
        cancel.cancel();
        let stopped = digest(&MemDisk::from_bytes(&[1; 1 << 20]), 2, &cancel);
        assert!(matches!(stopped, Err(Error::Cancelled)));
    }
}
