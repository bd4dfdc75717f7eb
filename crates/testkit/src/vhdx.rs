//! Logs of VHDX images, by hand: qemu leaves none behind.

use ondisk::sum::crc32c;

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    bytes[at..at + value.len()].copy_from_slice(value);
}

fn le32(bytes: &[u8], at: usize) -> u32 {
    bytes[at..at + 4].iter().rev().fold(0, |sum, byte| sum << 8 | u32::from(*byte))
}

fn le64(bytes: &[u8], at: usize) -> u64 {
    u64::from(le32(bytes, at)) | u64::from(le32(bytes, at + 4)) << 32
}

/// Where the headers are.
pub const HEADERS: [usize; 2] = [64 << 10, 128 << 10];
/// Where the region tables are.
pub const REGIONS: [usize; 2] = [192 << 10, 256 << 10];

/// Makes the checksum of a structure right.
pub fn seal(image: &mut [u8], at: usize, len: usize) {
    put(image, at + 4, &[0; 4]);
    let crc = !crc32c(!0, &image[at..at + len]);
    put(image, at + 4, &crc.to_le_bytes());
}

/// A log entry of data sectors and zeros.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// Its number.
    pub number: u64,
    /// Where in the log its sequence begins.
    pub tail: u32,
    /// Sectors of 4 KiB and where in the file they go.
    pub data: &'a [(u64, &'a [u8])],
    /// Where in the file there are zeros, and how many.
    pub zeros: &'a [(u64, u64)],
    /// How long the file was, and how long it shall be.
    pub len: (u64, u64),
}

/// The identity of the log.
const LOG: [u8; 16] = *b"a log of a test!";

impl Entry<'_> {
    /// Its bytes, sealed.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let count = self.data.len() + self.zeros.len();
        let head = (64 + 32 * count).next_multiple_of(4096);
        let mut bytes = b"loge\0\0\0\0".to_vec();
        bytes.extend(((head + 4096 * self.data.len()) as u32).to_le_bytes());
        bytes.extend(self.tail.to_le_bytes());
        bytes.extend(self.number.to_le_bytes());
        bytes.extend((count as u32).to_le_bytes());
        bytes.extend([0; 4]);
        bytes.extend(LOG);
        bytes.extend(self.len.0.to_le_bytes());
        bytes.extend(self.len.1.to_le_bytes());
        for (at, len) in self.zeros {
            bytes.extend(b"zero\0\0\0\0");
            [*len, *at, self.number].iter().for_each(|word| bytes.extend(word.to_le_bytes()));
        }
        for (at, sector) in self.data {
            bytes.extend(b"desc");
            bytes.extend(&sector[4092..]);
            bytes.extend(&sector[..8]);
            [*at, self.number].iter().for_each(|word| bytes.extend(word.to_le_bytes()));
        }
        bytes.resize(head, 0);
        for (_, sector) in self.data {
            bytes.extend(b"data");
            bytes.extend(((self.number >> 32) as u32).to_le_bytes());
            bytes.extend(&sector[8..4092]);
            bytes.extend((self.number as u32).to_le_bytes());
        }
        let len = bytes.len();
        seal(&mut bytes, 0, len);
        bytes
    }
}

/// Puts entries into the log of an image, each at its byte of the circle, and says that it is to be replayed.
#[must_use]
pub fn with_log(image: &[u8], entries: &[(usize, Vec<u8>)]) -> Vec<u8> {
    let mut image = image.to_vec();
    let newest =
        if le64(&image, HEADERS[0] + 8) > le64(&image, HEADERS[1] + 8) { HEADERS[0] } else { HEADERS[1] };
    put(&mut image, newest + 48, &LOG);
    seal(&mut image, newest, 4096);
    let (len, at) = (le32(&image, newest + 68) as usize, le64(&image, newest + 72) as usize);
    image[at..at + len].fill(0);
    for (start, entry) in entries {
        for (i, sector) in entry.chunks(4096).enumerate() {
            put(&mut image, at + (start + i * 4096) % len, sector);
        }
    }
    image
}
