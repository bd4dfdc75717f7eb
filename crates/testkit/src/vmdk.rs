//! Streams of VMware's, by hand: qemu writes none that ends with a footer.

use flate2::{Compression, write::ZlibEncoder};
use std::io::Write;

/// The bytes of a grain.
pub const GRAIN: usize = 65_536;

/// A sector or more.
fn padded(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

struct Head {
    version: u32,
    flags: u32,
    capacity: u64,
    descriptor: (u64, u64),
    directories: [u64; 2],
    compression: u16,
}

impl Head {
    fn bytes(&self) -> Vec<u8> {
        let mut bytes = b"KDMV".to_vec();
        bytes.extend(self.version.to_le_bytes());
        bytes.extend(self.flags.to_le_bytes());
        for word in [self.capacity, (GRAIN / 512) as u64, self.descriptor.0, self.descriptor.1] {
            bytes.extend(word.to_le_bytes());
        }
        bytes.extend(512_u32.to_le_bytes());
        for word in [self.directories[0], self.directories[1], 128] {
            bytes.extend(word.to_le_bytes());
        }
        bytes.extend(b"\0\n \r\n");
        bytes.extend(self.compression.to_le_bytes());
        padded(&bytes)
    }
}

fn marker(sectors: u64, kind: u32) -> Vec<u8> {
    padded(&[&sectors.to_le_bytes()[..], &[0; 4], &kind.to_le_bytes()].concat())
}

/// Compressed with deflate, in the frame of zlib.
#[must_use]
pub fn deflate(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).expect("memory");
    encoder.finish().expect("memory")
}

/// A stream as VMware and VirtualBox write it: each table behind its grains, the directory behind all, a footer that
/// alone knows where it is; and `padding` behind that.
#[must_use]
pub fn stream(content: &[u8], padding: usize) -> Vec<u8> {
    let text = b"# Disk DescriptorFile\nversion=1\nCID=1234abcd\nparentCID=ffffffff\ncreateType=\"streamOptimized\"\n\
        \n# Extent description\nRDONLY 1 SPARSE \"../../etc/passwd\"\n";
    let head = |directory: u64| Head {
        version: 3,
        flags: 0x3_0001,
        capacity: (content.len() / 512) as u64,
        descriptor: (1, 2),
        directories: [0, directory],
        compression: 1,
    };
    let mut file = head(u64::MAX).bytes();
    file.extend(padded(text));
    file.resize(1536, 0);
    let (mut table, mut directory) = (vec![0_u32; 512], Vec::new());
    for (index, grain) in content.chunks(GRAIN).enumerate() {
        if grain.iter().any(|byte| *byte != 0) {
            table[index % 512] = (file.len() / 512) as u32;
            // The last grain is as short as the disk leaves it.
            let packed = deflate(grain);
            let lba = (index * GRAIN / 512) as u64;
            file.extend(padded(
                &[&lba.to_le_bytes()[..], &(packed.len() as u32).to_le_bytes(), &packed].concat(),
            ));
        }
        if index % 512 == 511 || (index + 1) * GRAIN >= content.len() {
            file.extend(marker(4, 1));
            directory.push((file.len() / 512) as u32);
            file.extend(table.iter().flat_map(|entry| entry.to_le_bytes()));
            table.fill(0);
        }
    }
    file.extend(marker(1, 2));
    let at = (file.len() / 512) as u64;
    file.extend(padded(&directory.iter().flat_map(|entry| entry.to_le_bytes()).collect::<Vec<_>>()));
    file.extend(marker(1, 3));
    file.extend(head(at).bytes());
    file.extend(marker(0, 0));
    file.resize(file.len() + padding, 0);
    file
}
