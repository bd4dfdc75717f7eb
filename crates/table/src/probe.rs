//! Whether a filesystem or volume begins at a place: only to tell an MBR from a boot sector, and sectors of 512 bytes
//! from sectors of 4096. Nothing is read beyond what decides that.

use disk::{ReadAt, Result};
use ondisk::{Offset, Span};

/// How far a signature may lie from the start: Btrfs's superblock at 64 KiB.
const SIGNATURES: &[(usize, &[u8])] = &[
    (0, b"XFSB"),
    (0, b"LUKS\xba\xbe"),
    (3, b"NTFS    "),
    (3, b"EXFAT   "),
    (512, b"LABELONE"),
    (1080, b"\x53\xef"),
    (4086, b"SWAPSPACE2"),
    (65600, b"_BHRfS_M"),
];

/// Whether something that takes a whole disk or partition begins at `at`.
pub fn holds_something(disk: &dyn ReadAt, at: Offset) -> Result<bool> {
    for &(distance, magic) in SIGNATURES {
        if read_prefix(disk, at, distance, magic.len())?.as_deref() == Some(magic) {
            return Ok(true);
        }
    }
    Ok(read_prefix(disk, at, 0, 32)?.is_some_and(|boot| is_fat(&boot)))
}

/// Whether a sector at `at` ends as an EBR does.
pub fn is_boot_record(disk: &dyn ReadAt, at: Offset) -> Result<bool> {
    Ok(read_prefix(disk, at, 510, 2)?.as_deref() == Some(&[0x55, 0xaa]))
}

fn read_prefix(disk: &dyn ReadAt, at: Offset, distance: usize, len: usize) -> Result<Option<Vec<u8>>> {
    let start = at.checked_add(ondisk::Len::new(ondisk::num::to_u64(distance)));
    let span = start.and_then(|start| Span::new(start, ondisk::Len::new(ondisk::num::to_u64(len))));
    match span.filter(|&span| Span::whole(disk.len()).contains(span)) {
        Some(span) => {
            let mut buf = vec![0; len];
            disk.read_at(span.start(), &mut buf)?;
            Ok(Some(buf))
        }
        None => Ok(None),
    }
}

/// A boot sector with the parameters of a FAT filesystem.
fn is_fat(boot: &[u8]) -> bool {
    let byte = |at: usize| boot.get(at).copied().unwrap_or_default();
    let word = |at: usize| u16::from_le_bytes([byte(at), byte(at.saturating_add(1))]);
    matches!(byte(0), 0xeb | 0xe9)
        && matches!(word(11), 512 | 1024 | 2048 | 4096)
        && byte(13).is_power_of_two()
        && word(14) != 0
        && matches!(byte(16), 1 | 2)
        && (byte(21) == 0xf0 || byte(21) >= 0xf8)
}
