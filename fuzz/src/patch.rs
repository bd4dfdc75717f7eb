//! Patches and signatures of disks in our own format.
//!
//! Offsets are those of docs/delta-format.md.

use crate::base::{Base, Place, Seal, sealing, span};
use delta::{
    Codec, Leaves, Options, Patch, PublicKey, SecretKey, Signing, compose, create, signature, survey,
};
use disk::{Cancel, MemDisk, ReadAt};
use ondisk::{Len, Offset, Span};
use std::sync::{Arc, LazyLock};
use testkit::later::disks;
use testkit::tool::{done, tool};

/// Bytes of the end, and of a seal behind it.
const END: u64 = 48;
/// Frames and sections in the trailer: bytes of each, and where it has the digest of the record.
const FRAME: (u64, u64) = (64, 32);
const SECTION: (u64, u64) = (72, 40);

/// What patches are made from, with the values of their windows.
pub static DISKS: LazyLock<Vec<(MemDisk, Leaves)>> = LazyLock::new(|| {
    let cancel = Cancel::new();
    let surveyed = |bytes: Vec<u8>| {
        let disk = MemDisk::from_bytes(&bytes);
        let leaves = survey(&disk, "disk", &crate::cx(&cancel)).expect("a disk in memory");
        (disk, leaves)
    };
    disks().map(surveyed).into()
});

/// A patch that leads from some of the disks to one of them.
#[must_use]
pub fn made(from: &[usize], to: usize, codec: Codec) -> Vec<u8> {
    let bases: Vec<&dyn ReadAt> = from.iter().map(|base| &DISKS[*base].0 as &dyn ReadAt).collect();
    let (mut out, cancel) = (Vec::new(), Cancel::new());
    let options = Options { codec, level: 1, drop_free: false };
    create(&bases, &DISKS[to].0, options, &mut out, &crate::cx(&cancel)).expect("a patch");
    out
}

/// Two patches in a row.
fn composed() -> Vec<u8> {
    let open = |bytes: &[u8]| Patch::open(MemDisk::from_bytes(bytes), &crate::LIMITS).expect("a sound patch");
    let (first, second) = (open(&made(&[0], 1, Codec::Zstd)), open(&made(&[1], 2, Codec::Xz)));
    let (mut out, cancel) = (Vec::new(), Cancel::new());
    compose(&first, &second, &mut out, &crate::cx(&cancel)).expect("they are in a row");
    out
}

/// A key for the run, and the text of the public half.
static KEYS: LazyLock<(SecretKey, String)> = LazyLock::new(|| {
    let dir = tempfile::tempdir().expect("a temporary folder");
    done(tool("minisign").current_dir(dir.path()).args(["-G", "-W", "-p", "public", "-s", "secret"]));
    let text = |name: &str| std::fs::read_to_string(dir.path().join(name)).expect("a key");
    (SecretKey::parse(&text("secret"), None).expect("a key of minisign"), text("public"))
});

/// The key by which the signed patch is signed.
#[must_use]
pub fn public() -> PublicKey {
    PublicKey::parse(&KEYS.1).expect("a key of minisign")
}

fn signed() -> Vec<u8> {
    let mut out = Vec::new();
    let mut signing = Signing::new(&mut out);
    std::io::Write::write_all(&mut signing, &made(&[0], 1, Codec::Zstd)).expect("memory");
    signing.finish(&KEYS.0, "a comment").expect("memory");
    out
}

/// Patches of each kind, and a signature of a disk.
#[must_use]
pub fn bases() -> Vec<Base> {
    let mut of_disk = Vec::new();
    signature(&DISKS[0].0, &mut of_disk, &crate::cx(&Cancel::new())).expect("a signature");
    vec![
        patch("zstd", &made(&[0], 1, Codec::Zstd)),
        patch("xz", &made(&[1], 2, Codec::Xz)),
        patch("two bases", &made(&[1, 0], 2, Codec::Zstd)),
        patch("from nothing", &made(&[], 2, Codec::Zstd)),
        patch("several windows", &made(&[2], 3, Codec::Zstd)),
        patch("composed", &composed()),
        patch("signed", &signed()),
        of_a_disk(&of_disk),
    ]
}

/// Where the parts of a patch are.
struct Parts {
    /// Header and bases.
    head: Span,
    frames: Vec<Record>,
    sections: Vec<Record>,
    trailer: Span,
    end: Span,
    /// The text of a signature, and its seal.
    signature: Span,
}

/// A record, and the entry of the trailer that leads to it.
struct Record {
    at: Span,
    entry: Span,
    digest: Offset,
}

fn number<const N: usize>(bytes: &[u8], at: u64) -> u64 {
    let mut field = [0; 8];
    field[..N].copy_from_slice(&bytes[at as usize..][..N]);
    u64::from_le_bytes(field)
}

impl Parts {
    fn of(patch: &[u8]) -> Self {
        let len = patch.len() as u64;
        let text = if patch.ends_with(b"imgdelts") { END + number::<8>(patch, len - END) } else { 0 };
        let end = len - text - END;
        let trailer = number::<8>(patch, end);
        let (frames, sections) = (number::<4>(patch, trailer + 32), number::<4>(patch, trailer + 36));
        let record = |at: u64, (len, digest): (u64, u64)| Record {
            at: span(number::<8>(patch, at), number::<4>(patch, at + 8)),
            entry: span(at, len),
            digest: Offset::new(at + digest),
        };
        let behind = trailer + 40 + frames * FRAME.0;
        Self {
            head: span(0, 32 + 40 * number::<4>(patch, 12)),
            frames: (0..frames).map(|n| record(trailer + 40 + n * FRAME.0, FRAME)).collect(),
            sections: (0..sections).map(|n| record(behind + n * SECTION.0, SECTION)).collect(),
            trailer: span(trailer, end - trailer),
            end: span(end, END),
            signature: span(end + END, text),
        }
    }

    /// Makes all digests right.
    fn seal(&self) -> Seal {
        let records = self.frames.iter().chain(&self.sections);
        let records: Vec<(Span, Offset)> = records.map(|record| (record.at, record.digest)).collect();
        let (head, trailer, end) = (self.head, self.trailer, self.end);
        let signature = self.signature;
        Arc::new(move |disk| {
            let digest = |disk: &dyn ReadAt, parts: &[Span]| {
                let mut hasher = blake3::Hasher::new();
                for part in parts {
                    let mut bytes = vec![0; part.len().to_usize()];
                    disk.read_at(part.start(), &mut bytes).expect("a part of the base");
                    hasher.update(&bytes);
                }
                *hasher.finalize().as_bytes()
            };
            for (record, at) in &records {
                let sum = digest(disk, &[*record]);
                disk.write_at(*at, &sum).expect("a part of the base");
            }
            let sum = digest(disk, &[head, trailer]);
            disk.write_at(end.start().checked_add(Len::new(8)).expect("a small disk"), &sum)
                .expect("a part of the base");
            if let Some(len) = signature.len().checked_sub(Len::new(END)) {
                let text = span(signature.start().get(), len.get());
                let sum = digest(disk, &[text]);
                let at = text.end().checked_add(Len::new(8)).expect("a small disk");
                disk.write_at(at, &sum).expect("a part of the base");
            }
        })
    }
}

/// A frame of zstd that has bytes as they are: what is changed of them is read.
fn loose(bytes: &[u8]) -> Vec<u8> {
    let (len, block) = (bytes.len() as u32, (bytes.len() as u32) << 3 | 1);
    [&[0x28, 0xb5, 0x2f, 0xfd, 0xa0], &len.to_le_bytes()[..], &block.to_le_bytes()[..3], bytes].concat()
}

/// The same patch with lists that are not compressed.
fn loosened(patch: &[u8]) -> Vec<u8> {
    let parts = Parts::of(patch);
    let bytes = |span: Span| &patch[span.start().get() as usize..span.end().get() as usize];
    let mut out = patch[..parts.trailer.start().get() as usize].to_vec();
    let mut trailer = bytes(parts.trailer).to_vec();
    for section in &parts.sections {
        let entry = (section.entry.start().get() - parts.trailer.start().get()) as usize;
        let list = zstd::bulk::decompress(bytes(section.at), 1 << 20).expect("a list");
        let record = loose(&list);
        trailer[entry..][..8].copy_from_slice(&(out.len() as u64).to_le_bytes());
        trailer[entry + 8..][..4].copy_from_slice(&(record.len() as u32).to_le_bytes());
        out.extend(record);
    }
    let mut end = bytes(parts.end).to_vec();
    end[..8].copy_from_slice(&(out.len() as u64).to_le_bytes());
    let mut disk = MemDisk::from_bytes(&[out, trailer, end].concat());
    Parts::of(&disk.to_vec()).seal()(&mut disk);
    disk.to_vec()
}

/// The end; the header; the tables; lists; the heads and the ends of frames; a signature.
fn patch(name: &str, bytes: &[u8]) -> Base {
    let loosened = if bytes.ends_with(b"imgdelt.") { loosened(bytes) } else { bytes.to_vec() };
    let (parts, disk) = (Parts::of(&loosened), MemDisk::from_bytes(&loosened));
    let sound = Patch::open(&disk, &crate::LIMITS).expect("a sound patch");
    sound.check(&crate::cx(&Cancel::new())).expect("a sound patch");
    sound.codecs().expect("a sound patch");
    let sealed = |span: Span| Place::on(&disk, span, Some(parts.seal()));
    let entries = parts.frames.iter().chain(&parts.sections).map(|record| sealed(record.entry));
    let head = |record: &Record| sealed(span(record.at.start().get(), record.at.len().get().min(100)));
    let tail = |record: &Record| {
        let len = record.at.len().get().min(200);
        sealed(span(record.at.end().get() - len, len))
    };
    let kinds = vec![
        vec![sealed(parts.end)],
        vec![sealed(parts.head)],
        [sealed(span(parts.trailer.start().get(), 40))].into_iter().chain(entries).collect(),
        parts.sections.iter().map(|section| sealed(section.at)).collect(),
        parts.frames.iter().map(head).collect(),
        parts.frames.iter().map(tail).collect(),
        vec![sealed(parts.signature)],
    ];
    Base::new(name, disk.bytes().clone(), kinds)
}

/// Header, blocks, values, runs and the end. What the end says of a disk of one window follows from its value.
fn of_a_disk(bytes: &[u8]) -> Base {
    let disk = MemDisk::from_bytes(bytes);
    let len = disk.len().get();
    let [blocks, runs] = [len - 88, len - 80].map(|at| number::<8>(bytes, at));
    let (values, end) = (32 + 16 * blocks, len - 88);
    assert_eq!(values + 32 + 16 * runs, end, "one window");
    let sealed = |at: u64, len: u64| {
        let seal = sealing(Span::whole(disk.len()), move |bytes| {
            let end = end as usize;
            bytes.copy_within(values as usize..values as usize + 32, end + 16);
            let sum = *blake3::hash(&bytes[..end + 48]).as_bytes();
            bytes[end + 48..][..32].copy_from_slice(&sum);
        });
        Place::on(&disk, span(at, len), seal)
    };
    let each = |start: u64, len: u64, count: u64| (0..count).map(|n| sealed(start + n * len, len)).collect();
    let kinds = vec![
        vec![sealed(end, 88)],
        vec![sealed(0, 32)],
        each(32, 16, blocks),
        vec![sealed(values, 32)],
        each(values + 32, 16, runs),
    ];
    Base::new("signature", disk.bytes().clone(), kinds)
}
