//! Making compressed clusters.
//!
//! Deflate streams look back as far as RFC 1951 lets them, 32 KiB: further than QEMU's own, which look back 4 KiB, and as
//! readable.

use super::header::Compression;
use crate::{Error, Result};
use libdeflater::{CompressionLvl, Compressor as Deflate};
use zstd::bulk::Compressor as Zstd;
use zstd::zstd_safe::CParameter;

/// Smaller than zlib's level 6, in a third of its time.
const DEFLATE_LEVEL: i32 = 5;
/// As QEMU compresses.
const ZSTD_LEVEL: i32 = 3;
/// With clusters of 64 KiB, larger tables than the level has by itself cost nothing.
const ZSTD_TABLE_LOG: u32 = 16;

/// What compresses one cluster after the other.
pub enum Packer {
    Deflate(Box<Deflate>),
    Zstd(Box<Zstd<'static>>),
}

impl Packer {
    /// For streams of that kind, and clusters of so many bytes.
    pub fn new(how: Compression, cluster_bits: u32) -> Result<Self> {
        Ok(match how {
            Compression::Deflate => {
                let level = CompressionLvl::new(DEFLATE_LEVEL).unwrap_or_default();
                Self::Deflate(Box::new(Deflate::new(level)))
            }
            Compression::Zstd => {
                let mut zstd = Zstd::new(ZSTD_LEVEL).map_err(failed)?;
                if cluster_bits == ZSTD_TABLE_LOG {
                    for table in [CParameter::HashLog, CParameter::ChainLog] {
                        zstd.set_parameter(table(ZSTD_TABLE_LOG)).map_err(failed)?;
                    }
                }
                Self::Zstd(Box::new(zstd))
            }
        })
    }

    /// Puts the stream of `cluster` behind what `out` holds, if it is shorter than the cluster. Yields its length.
    pub fn pack(&mut self, cluster: &[u8], out: &mut Vec<u8>) -> Option<usize> {
        let before = out.len();
        let end = before.saturating_add(cluster.len()).saturating_sub(1);
        out.resize(end, 0);
        let room = out.get_mut(before..).unwrap_or_default();
        // Too little room is the only way to fail.
        let len = match self {
            Self::Deflate(stream) => stream.deflate_compress(cluster, room).ok(),
            Self::Zstd(stream) => stream.compress_to_buffer(cluster, room).ok(),
        };
        out.truncate(before.saturating_add(len.unwrap_or_default()));
        len
    }
}

fn failed(source: std::io::Error) -> Error {
    Error::Disk(disk::Error::Io { op: "compression", span: ondisk::Span::default(), source })
}

#[cfg(test)]
mod tests {
    use super::super::unpack::unpack;
    use super::*;

    #[test]
    fn what_is_packed_can_be_unpacked() {
        let text: Vec<u8> =
            (0..65536_u32).flat_map(|n| (n / 7 * n % 251).to_le_bytes()).take(65536).collect();
        let noise = testkit::images::noise(3, 65536);
        for how in [Compression::Deflate, Compression::Zstd] {
            let mut packer = Packer::new(how, 16).unwrap();
            let mut out = vec![1, 2, 3];
            assert_eq!(packer.pack(&noise, &mut out), None, "noise does not get shorter");
            assert_eq!(out, [1, 2, 3]);
            for cluster in [&text[..], &text[..512], &[0x55; 4096][..]] {
                out.truncate(3);
                let len = packer.pack(cluster, &mut out).unwrap();
                assert_eq!(out.len(), 3 + len);
                let mut back = vec![0; cluster.len()];
                unpack(how, &out[3..], &mut back).unwrap();
                assert!(back == cluster, "{how:?}");
            }
        }
    }
}
