//! The default code table: what an instruction's byte stands for.
//!
//! Source: RFC 3284, section 5.6.

use super::cache::MODES;
use super::number;
use std::sync::LazyLock;

/// What an instruction does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Nothing.
    Nothing,
    /// Takes the next bytes of the data.
    Add,
    /// Repeats the next byte of the data.
    Run,
    /// Copies; how the address is told.
    Copy(u8),
}

/// One of the two instructions that a byte stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Half {
    /// What it does.
    pub kind: Kind,
    /// To how many bytes; 0: the number follows.
    pub size: u8,
}

const NOTHING: Half = Half { kind: Kind::Nothing, size: 0 };

/// The table.
static TABLE: LazyLock<Vec<[Half; 2]>> = LazyLock::new(|| {
    let add = |size| Half { kind: Kind::Add, size };
    let copy = |mode, size| Half { kind: Kind::Copy(mode), size };
    let mut table = vec![[Half { kind: Kind::Run, size: 0 }, NOTHING]];
    table.extend((0..=17).map(|size| [add(size), NOTHING]));
    for mode in 0..MODES {
        table.extend([0].into_iter().chain(4..=18).map(|size| [copy(mode, size), NOTHING]));
    }
    for mode in 0..MODES {
        let longest = if mode < 6 { 6 } else { 4 };
        for first in 1..=4 {
            table.extend((4..=longest).map(|size| [add(first), copy(mode, size)]));
        }
    }
    table.extend((0..MODES).map(|mode| [copy(mode, 4), add(1)]));
    table
});

/// What a byte stands for.
pub fn both(byte: u8) -> [Half; 2] {
    TABLE.get(usize::from(byte)).copied().unwrap_or([NOTHING; 2])
}

/// Appends one instruction.
pub fn put(out: &mut Vec<u8>, kind: Kind, size: u64) {
    let alone = |size: u8| {
        let found = TABLE.iter().position(|both| *both == [Half { kind, size }, NOTHING]);
        found.and_then(|found| u8::try_from(found).ok())
    };
    let short = u8::try_from(size).ok().filter(|size| (1..=18).contains(size)).and_then(alone);
    out.push(short.or_else(|| alone(0)).unwrap_or_default());
    if short.is_none() {
        number::put(out, size);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_that_of_the_rfc() {
        assert_eq!(TABLE.len(), 256);
        let copy = |mode, size| Half { kind: Kind::Copy(mode), size };
        let add = |size| Half { kind: Kind::Add, size };
        let known = [
            (0, [Half { kind: Kind::Run, size: 0 }, NOTHING]),
            (1, [add(0), NOTHING]),
            (18, [add(17), NOTHING]),
            (19, [copy(0, 0), NOTHING]),
            (34, [copy(0, 18), NOTHING]),
            (162, [copy(8, 18), NOTHING]),
            (163, [add(1), copy(0, 4)]),
            (234, [add(4), copy(5, 6)]),
            (235, [add(1), copy(6, 4)]),
            (246, [add(4), copy(8, 4)]),
            (247, [copy(0, 4), add(1)]),
            (255, [copy(8, 4), add(1)]),
        ];
        for (byte, meaning) in known {
            assert_eq!(both(byte), meaning, "{byte}");
        }
        let mut out = Vec::new();
        for (kind, size) in
            [(Kind::Add, 17), (Kind::Add, 18), (Kind::Run, 5), (Kind::Copy(8), 18), (Kind::Copy(1), 3)]
        {
            put(&mut out, kind, size);
        }
        assert_eq!(out, [18, 1, 18, 0, 5, 162, 35, 3]);
    }
}
