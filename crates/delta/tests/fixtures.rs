//! Patches and a signature as they were written once: whoever reads this version of the format takes them.

use crate::support::{OPTIONS, apply, open, patch_by, upon, with_cx};
use delta::{Codec, Options, PublicKey, SecretKey, Signing, compose, prove, signature};
use disk::MemDisk;
use std::fs::{read, read_to_string, write};
use std::io::Write;
use std::path::PathBuf;
use testkit::later::disks;
use testkit::tool::{done, tool};

/// A patch: which of the disks it makes, of which others, and how.
struct Fixture {
    name: &'static str,
    bases: &'static [usize],
    target: usize,
    options: Options,
    codecs: &'static [Codec],
}

const XZ: Options = Options { codec: Codec::Xz, ..OPTIONS };

/// Each is what was made at once; `composed` is of the first two, `signed` the first one again.
const FIXTURES: [Fixture; 7] = [
    Fixture { name: "zstd", bases: &[0], target: 1, options: OPTIONS, codecs: &[Codec::Zstd] },
    Fixture { name: "xz", bases: &[1], target: 2, options: XZ, codecs: &[Codec::Xz] },
    Fixture { name: "two-bases", bases: &[1, 0], target: 2, options: OPTIONS, codecs: &[Codec::Zstd] },
    Fixture {
        name: "windows",
        bases: &[2],
        target: 3,
        options: Options { drop_free: true, ..OPTIONS },
        codecs: &[],
    },
    Fixture { name: "stored", bases: &[], target: 4, options: OPTIONS, codecs: &[] },
    Fixture { name: "composed", bases: &[0], target: 2, options: OPTIONS, codecs: &[Codec::Zstd, Codec::Xz] },
    Fixture { name: "signed", bases: &[0], target: 1, options: OPTIONS, codecs: &[Codec::Zstd] },
];

fn path(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/patches")).join(name)
}

fn made(fixture: &Fixture, disks: &[Vec<u8>]) -> Vec<u8> {
    let bases: Vec<&[u8]> = fixture.bases.iter().map(|base| disks[*base].as_slice()).collect();
    patch_by(fixture.options, &bases, &disks[fixture.target]).0
}

#[test]
fn read_as_ever() {
    let disks = disks();
    for fixture in &FIXTURES {
        let (name, bytes) = (fixture.name, read(path(fixture.name)).unwrap());
        let patch = open(&bytes).unwrap();
        with_cx(|cx| patch.check(cx)).unwrap();
        assert_eq!(patch.codecs().unwrap(), fixture.codecs, "{name}");
        assert_eq!(patch.facts().drop_free, fixture.options.drop_free, "{name}");
        assert_eq!(patch.facts().bases.len(), fixture.bases.len(), "{name}");
        let bases: Vec<&[u8]> = fixture.bases.iter().map(|base| disks[*base].as_slice()).collect();
        assert!(apply(&bases, &bytes).unwrap() == disks[fixture.target], "{name}");
    }
    let key = PublicKey::parse(&read_to_string(path("signed.pub")).unwrap()).unwrap();
    let signed = read(path("signed")).unwrap();
    prove(&MemDisk::from_bytes(&signed), &key).unwrap();
    assert!(prove(&MemDisk::from_bytes(&read(path("zstd")).unwrap()), &key).is_err());
    let (patch, stats) = upon(&[read(path("signature")).unwrap()], &disks[1]).unwrap();
    assert!(apply(&[&disks[0]], &patch).unwrap() == disks[1]);
    assert!(stats.copied > 40_000, "{stats:?}");
}

/// Run by the fixture's recipe.
#[test]
#[ignore = "writes the fixtures"]
fn written() {
    let disks = disks();
    let put = |name: &str, bytes: &[u8]| write(path(name), bytes).unwrap();
    let (_, stats) = patch_by(OPTIONS, &[&disks[0]], &disks[1]);
    assert!([stats.copied, stats.zeros, stats.again, stats.literals].iter().all(|sum| *sum > 0), "{stats:?}");
    let [first, second] = [&FIXTURES[0], &FIXTURES[1]].map(|fixture| made(fixture, &disks));
    for fixture in &FIXTURES[..5] {
        put(fixture.name, &made(fixture, &disks));
    }
    let mut both = Vec::new();
    with_cx(|cx| compose(&open(&first).unwrap(), &open(&second).unwrap(), &mut both, cx)).unwrap();
    put("composed", &both);
    let keys = tempfile::tempdir().unwrap();
    done(tool("minisign").current_dir(keys.path()).args(["-G", "-W", "-p", "public", "-s", "secret"]));
    let text = |name: &str| read_to_string(keys.path().join(name)).unwrap();
    let mut signed = Vec::new();
    let mut signing = Signing::new(&mut signed);
    signing.write_all(&first).unwrap();
    signing.finish(&SecretKey::parse(&text("secret"), None).unwrap(), "a fixture").unwrap();
    put("signed", &signed);
    put("signed.pub", text("public").as_bytes());
    let mut of_disk = Vec::new();
    with_cx(|cx| signature(&MemDisk::from_bytes(&disks[0]), &mut of_disk, cx)).unwrap();
    put("signature", &of_disk);
}
