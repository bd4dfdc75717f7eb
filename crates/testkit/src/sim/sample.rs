//! A small image, a change of it, and the journal of that.

use super::{Op, Rng, cx, image, world_of};
use disk::{Cancel, Change, Data, Sparse, Write};
use ondisk::{Len, Offset, Span};

/// A range of bytes.
#[must_use]
pub fn span(start: u64, len: u64) -> Span {
    Span::new(Offset::new(start), Len::new(len)).unwrap()
}

/// Bytes that look like data: none of them is zero.
#[must_use]
pub fn bytes(seed: u64, len: u64) -> Vec<u8> {
    let mut rng = Rng::new(seed);
    (0..len).map(|_| rng.draw() as u8 | 1).collect()
}

/// A write of such bytes.
#[must_use]
pub fn write(seed: u64, start: u64, len: u64) -> Write {
    Write { at: Offset::new(start), data: Data::Bytes(bytes(seed, len)) }
}

/// 64 KiB of data with a hole in the middle.
#[must_use]
pub fn base() -> Sparse {
    let mut base = Sparse::new(Len::kib(64));
    base.put(Offset::ZERO, &bytes(99, 65536));
    base.clear(span(16384, 16384));
    base
}

/// A change of [`base`] with a bit of everything.
#[must_use]
pub fn change() -> Change {
    Change {
        old_len: Len::kib(64),
        new_len: Len::kib(128),
        fresh: vec![write(1, 20480, 2048), write(2, 65536, 4096), write(3, 130_048, 1024)],
        home: vec![
            write(4, 0, 512),
            write(5, 4096, 4096),
            Write { at: Offset::new(40960), data: Data::Zero(Len::new(1536)) },
        ],
        ..Change::default()
    }
}

/// The journal of a change, as it lies there before the image is touched.
#[must_use]
pub fn journal(base: &Sparse, change: &Change) -> Vec<u8> {
    let world = world_of(base);
    let cancel = Cancel::new();
    image(&world).commit_with(change, None, None, "a \u{1b}command", &cx(&cancel)).unwrap();
    let mut journal = Vec::new();
    for op in &world.lock().unwrap().log {
        if let Op::Write { file: 1, at, data, .. } = op {
            assert_eq!(at.get(), journal.len() as u64);
            journal.extend_from_slice(data);
        }
    }
    journal
}
