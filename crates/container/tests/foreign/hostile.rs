//! Numbers that no file backs: refused or answered at once, with little memory.

use crate::kit::{limits, put};
use container::{Container, Format, probe};
use disk::{Disk, Limits, MemDisk, ReadAt};
use ondisk::{Class, Classified, Len, Offset, Span};
use std::time::{Duration, Instant};

fn sparse(len: Len, pieces: &[(u64, &[u8])]) -> MemDisk {
    let mut disk = MemDisk::new(len);
    for (at, bytes) in pieces {
        disk.write_at(Offset::new(*at), bytes).unwrap();
    }
    disk
}

/// Whatever comes of it, it comes soon.
fn soon(disk: &MemDisk, format: Format) {
    let start = Instant::now();
    let small = Limits { memory: Len::mib(16), ..limits() };
    match Container::open(disk, format, &small) {
        Err(error) => assert_ne!(error.class(), Class::Io, "{error}"),
        Ok(image) => {
            let head = Span::whole(image.len().min(Len::gib(64)));
            let _ = (image.extents(head), image.map().take(1000).count(), image.facts());
            let mut bytes = vec![0; image.len().min(Len::mib(4)).to_usize()];
            let _ = image.read_at(Offset::ZERO, &mut bytes);
            let end =
                Span::between(image.len().saturating_sub(Len::kib(4)).end(), image.len().end()).unwrap();
            let _ = image.read_at(end.start(), &mut bytes[..end.len().to_usize()]);
        }
    }
    assert!(start.elapsed() < Duration::from_secs(5), "{format}: {:?}", start.elapsed());
}

#[test]
fn large_disks_in_small_files() {
    let le = |words: &[u32]| words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<_>>();
    let mut vmdk = b"KDMV".to_vec();
    vmdk.extend(le(&[1, 3, 0, 0x20, 128, 0, 0, 0, 0, 0, 512, 8, 0, 8, 0, 16, 0]));
    vmdk.resize(512, 0);
    soon(&sparse(Len::kib(64), &[(0, &vmdk)]), Format::Vmdk);
    // The same, with a directory that is there: half a gigabyte of nothing.
    soon(&sparse(Len::gib(2), &[(0, &vmdk)]), Format::Vmdk);
    let mut vdi = vec![0; 512];
    put(&mut vdi, 64, &le(&[0xbeda_107f, 0x1_0001, 0x180, 1]));
    put(&mut vdi, 340, &le(&[512, 1 << 30]));
    put(&mut vdi, 368, &(u64::from(u32::MAX) << 20).to_le_bytes());
    put(&mut vdi, 376, &le(&[1 << 20, 0, u32::MAX]));
    soon(&sparse(Len::kib(64), &[(0, &vdi)]), Format::Vdi);
    soon(&sparse(Len::gib(20), &[(0, &vdi)]), Format::Vdi);
    let mut parallels = b"WithouFreSpacExt".to_vec();
    parallels.extend(le(&[2, 16, 1, 2048, u32::MAX, 0, 0x10_0000, 0, 0, 0, 0, 0]));
    soon(&sparse(Len::kib(64), &[(0, &parallels)]), Format::Parallels);
    soon(&sparse(Len::gib(20), &[(0, &parallels)]), Format::Parallels);
    let mut qed = b"QED\0".to_vec();
    qed.extend(le(&[64 << 20, 16, 1, 0, 0, 0, 0, 0, 0, 64 << 20, 0, 0, 0x4000_0000, 0, 0]));
    soon(&sparse(Len::kib(64), &[(0, &qed)]), Format::Qed);
    soon(&sparse(Len::gib(4), &[(0, &qed)]), Format::Qed);
}

#[test]
fn signatures_alone_prove_nothing() {
    for (magic, at) in [
        (&b"vhdxfile"[..], 0),
        (b"KDMV", 0),
        (b"COWD", 0),
        (b"# Disk DescriptorFile", 0),
        (b"\x7f\x10\xda\xbe", 64),
        (b"WithoutFreeSpace", 0),
        (b"QED\0", 0),
        (b"ova.xml\0", 0),
    ] {
        let disk = sparse(Len::mib(4), &[(at, magic)]);
        let error = probe::probe(&disk, None).unwrap_err();
        assert!(matches!(error.class(), Class::Refused | Class::Unsupported), "{magic:?}: {error}");
        assert!(probe::for_writing(&disk, Some("disk.img"), None).is_err());
        assert_eq!(probe::for_writing(&disk, None, Some(Format::Raw)).unwrap(), Format::Raw);
        assert_eq!(probe::for_reading(&disk, Some("disk.raw"), None).unwrap(), Format::Raw, "named");
    }
}
