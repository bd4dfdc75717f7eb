//! A disk and what became of it: what patches are made from, in tests that must find the same bytes each time.

use crate::images::noise;

/// A disk; the same a while later, and once more; one that has the last in its middle; and one that nothing compresses.
///
/// These stay as they are: checked-in patches stand on them.
#[must_use]
pub fn disks() -> [Vec<u8>; 5] {
    let text: String = (0..2000).map(|line| format!("line {line} of a log\n")).collect();
    let old = [&noise(1, 20_000), text.as_bytes()].concat();
    let changed = text.replace("7 of", "7 as of").into_bytes();
    let new =
        [&old[7000..], &noise(2, 900), &changed, &[0; 9000], &noise(2, 900), &old[..5000], b"end"].concat();
    let last = [&new[..30_000], &noise(3, 700), &code(), &new[50_000..], &noise(2, 400)].concat();
    let mut large = vec![0; 9 << 20];
    large[5 << 20..][..last.len()].copy_from_slice(&last);
    [old, new, last, large, noise(4, 900)]
}

/// Code of x86 that calls a few functions from many places.
#[must_use]
pub fn code() -> Vec<u8> {
    let call = |at: u32| {
        let [a, b, c, d] = (4096 * (at % 61)).wrapping_sub(at * 13).to_le_bytes();
        [0xe8, a, b, c, if d < 128 { 0 } else { 255 }, 0x48, 0x89, (at % 7) as u8, 0xc3]
    };
    (0..2000).flat_map(call).collect()
}
