//! Chains of VHDs, as a second reader of the format sees them.

use super::*;
use testkit::vhd::{Block, Image, content, sector_bytes};

/// A chain of VHDs, built byte by byte: the parent with two blocks, the child with sectors here and there.
fn vhds(dir: &Path, creator: [u8; 4], hidden: bool) -> (PathBuf, PathBuf) {
    let utf16 = |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
    let tap = &creator == b"tap\0";
    let base = |len| if tap { Image::tap(len) } else { Image::dynamic(creator, len) };
    let parent = Image {
        uuid: *b"p the grand base",
        blocks: vec![Block::whole(0), Block { index: 2, sectors: vec![5..600, 4000..4096] }],
        ..base(10 << 20)
    };
    let names = vec![
        (*b"MacX", b"file://./base.vhd".to_vec()),
        (*b"W2ku", utf16(r".\base.vhd")),
        (*b"W2ru", utf16(r".\base.vhd")),
    ];
    let child = Image {
        kind: 4,
        uuid: *b"c a child of it.",
        parent: Some((parent.uuid, names)),
        blocks: vec![
            Block { index: 0, sectors: vec![0..8, 77..78, 4090..4096] },
            Block { index: 2, sectors: vec![100..900, 1000..1001] },
            Block::whole(4),
        ],
        ..base(10 << 20)
    };
    let mut bytes = parent.build();
    if hidden {
        let end = bytes.len() - 512;
        for at in [0, end] {
            bytes[at + 85] = 1;
            testkit::vhd::seal(&mut bytes[at..at + 512], 64);
        }
    }
    let paths = (dir.join("base.vhd"), dir.join("top.vhd"));
    std::fs::write(&paths.0, bytes).unwrap();
    std::fs::write(&paths.1, child.build()).unwrap();
    paths
}

fn two(base: &Path, top: &Path) -> Vec<u8> {
    let (base, top) = (std::fs::read(base).unwrap(), std::fs::read(top).unwrap());
    content(&top, Some(&content(&base, None)))
}

#[test]
fn vhd_chains_by_a_second_reader() {
    for (creator, hidden) in [(*b"win ", false), (*b"tap\0", true), (*b"vbox", false)] {
        let dir = tempfile::tempdir().unwrap();
        let (base, top) = vhds(dir.path(), creator, hidden);
        let want = two(&base, &top);
        assert_eq!(&want[..512], sector_bytes(b'c', 0));
        // A snapshot on top, and the middle goes into the base.
        let leaf = dir.path().join("leaf.vhd");
        ends(0, &top, &format!("chain snapshot @ {}", leaf.display()));
        let listed = document(&leaf, "chain list @");
        assert_eq!((&listed["whole"], listed["chain"].as_array().unwrap().len()), (&true.into(), 3));
        assert_eq!(listed["chain"][1]["parent-named-by"][2], "W2ru", "{listed}");
        assert_eq!(
            (&listed["chain"][2]["hidden"], &listed["chain"][1]["matches"]),
            (&hidden.into(), &true.into())
        );
        let digests = digest(&leaf);
        ends(0, &top, "chain coalesce @ --check");
        let merged = std::fs::read(&base).unwrap();
        assert!(content(&merged, None) == want, "{creator:?}");
        assert_eq!(merged[85], u8::from(hidden));
        assert!(two(&base, &top) == want);
        assert_eq!(digest(&leaf), digests);
        let listed = document(&leaf, "chain list @");
        assert_eq!(listed["chain"].as_array().unwrap().len(), 2, "{listed}");
        ends(0, &leaf, "check @");
        ends(0, &base, "check @");
        run("vhdiinfo", [&leaf]);
        // Flattened, the child is a dynamic image with everything.
        let dir = tempfile::tempdir().unwrap();
        let (base, top) = vhds(dir.path(), creator, hidden);
        ends(0, &top, "chain flatten @ --check");
        assert!(content(&std::fs::read(&top).unwrap(), None) == want, "{creator:?}");
        ends(0, &top, "check @");
        std::fs::remove_file(&base).unwrap();
        run("vhdiinfo", [&top]);
        // Onto another base and back: the identity of each is written, and checked.
        let (base, top) = vhds(dir.path(), creator, hidden);
        let other = Image {
            uuid: *b"o another parent",
            blocks: vec![Block::whole(1)],
            ..Image::dynamic(*b"win ", 9 << 20)
        };
        let path = dir.path().join("a longer name than before.vhd");
        std::fs::write(&path, other.build()).unwrap();
        let line = |to: &Path| {
            vec![
                "chain".to_owned(),
                "rebase".into(),
                top.to_str().unwrap().into(),
                to.to_str().unwrap().into(),
                "--check".into(),
            ]
        };
        let out = crate::kit::imgtool(line(&path));
        assert_eq!(out.status.code(), Some(0), "{}", said(&out));
        assert!(two(&path, &top) == want, "{creator:?}");
        ends(0, &top, "check @");
        std::fs::rename(&path, dir.path().join("gone")).unwrap();
        std::fs::copy(&base, &path).unwrap();
        assert_eq!(on(&top, "digest @").status.code(), Some(4), "another identity under the same name");
        assert_eq!(document_of(1, &top, "chain list @")["whole"], false);
    }
}

fn document_of(code: i32, image: &Path, line: &str) -> serde_json::Value {
    serde_json::from_str(&ends(code, image, &format!("{line} --json"))).unwrap()
}
