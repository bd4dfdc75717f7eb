//! What an attacker writes into an image opens no file, stops no machine and steers no terminal.

use std::fs;
use std::os::unix::fs::{FileExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ondisk::Len;
use testkit::images::{Fill, flavor, make};
use testkit::tool::{output, run, said};

use crate::disks::sfdisk;
use crate::kit::{IMGTOOL, assert_printable, beside, each, ends, imgtool, on, seen, words};

const READING: [&str; 8] = [
    "info @",
    "info @ --json",
    "check @",
    "map @",
    "digest @",
    "fs ls @ /",
    "fs tar-out @ / -o /dev/null",
    "compare @ @",
];

fn patch(image: &Path, at: u64, bytes: &[u8]) {
    fs::File::options().write(true).open(image).unwrap().write_all_at(bytes, at).unwrap();
}

fn qcow2(image: &Path) {
    run("qemu-img", ["create", "-q", "-f", "qcow2", image.to_str().unwrap(), "10M"]);
}

/// Gives a qcow2 a backing file by patching its header: qemu-img would refuse to make some of these.
fn with_backing(image: &Path, name: &[u8], format: &[u8]) {
    qcow2(image);
    patch(image, 1024, name);
    let mut place = 1024_u64.to_be_bytes().to_vec();
    place.extend(u32::try_from(name.len()).unwrap().to_be_bytes());
    patch(image, 8, &place);
    let header = u32::from_be_bytes(fs::read(image).unwrap()[100..104].try_into().unwrap());
    let mut extension = 0xe279_2aca_u32.to_be_bytes().to_vec();
    extension.extend(u32::try_from(format.len()).unwrap().to_be_bytes());
    extension.extend(format);
    extension.resize(extension.len().next_multiple_of(8) + 8, 0);
    patch(image, header.into(), &extension);
}

/// The files that a command opens, as strace has them.
fn opened(image: &Path, line: &str) -> String {
    let log = image.with_extension("strace");
    let options =
        ["-f", "--seccomp-bpf", "-e", "trace=open,openat,openat2,connect", "-o", log.to_str().unwrap()]
            .map(str::to_owned);
    output("strace", options.into_iter().chain([IMGTOOL.to_owned()]).chain(words(image, line)));
    let text = fs::read_to_string(&log).unwrap();
    fs::remove_file(log).unwrap();
    text
}

#[test]
fn names_in_an_image_open_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let outside = tempfile::tempdir().unwrap();
    let canary = outside.path().join("canary");
    fs::write(&canary, b"a secret of the host".repeat(5000)).unwrap();
    symlink(&canary, dir.path().join("link")).unwrap();
    run("mkfifo", [dir.path().join("fifo")]);
    let absolute = canary.to_str().unwrap();
    let up = format!("../{}/canary", outside.path().file_name().unwrap().to_str().unwrap());
    let names = [
        absolute.to_owned(),
        up,
        format!("file:{absolute}"),
        format!("json:{{\"driver\":\"file\",\"filename\":\"{absolute}\"}}"),
        format!("json:{{\"file.filename\":\"{absolute}\"}}"),
        "nbd://elsewhere/disk".to_owned(),
        "/dev/zero".to_owned(),
        "/proc/self/fd/0".to_owned(),
        "link".to_owned(),
        "fifo".to_owned(),
        ".".to_owned(),
        "self.qcow2".to_owned(),
        "\u{1b}]0;x\u{7}\u{9b}\u{202e}\n.raw".to_owned(),
    ];
    for (i, name) in names.iter().enumerate() {
        for format in [b"raw".as_slice(), b"qcow2"] {
            let image = dir.path().join(if name.starts_with("self") {
                "self.qcow2".into()
            } else {
                format!("{i}.qcow2")
            });
            with_backing(&image, name.as_bytes(), format);
            // The same bytes in a raw disk: a guest wrote them.
            let raw = dir.path().join("guest.raw");
            fs::write(&raw, [fs::read(&image).unwrap(), vec![0; 4 << 20]].concat()).unwrap();
            let both = [&image, &raw];
            for image in if format == b"raw" { &both[..] } else { &both[..1] } {
                let before = seen(image);
                for line in READING.iter().chain(&["grow @ +64M"]) {
                    let out = bounded(image, line);
                    assert!(!said(&out).contains("secret"), "{name:?} {line}");
                }
                assert_eq!(seen(image), before, "{name:?}");
            }
            for line in ["info @", "grow @ +64M"] {
                let calls = opened(&image, line);
                let bad = calls.lines().find(|call| {
                    ["canary\"", "/dev/zero", "self/fd/0", "connect("].iter().any(|word| call.contains(word))
                });
                assert_eq!(bad, None, "{name:?} {line}");
            }
        }
    }
}

/// Runs a command, which must end soon and orderly.
fn bounded(image: &Path, line: &str) -> std::process::Output {
    let start = Instant::now();
    let mut all = vec!["20".to_owned(), IMGTOOL.to_owned()];
    all.extend(words(image, line));
    let out = output("timeout", all);
    let what = format!("{} {line}: {}", image.display(), said(&out));
    assert!(matches!(out.status.code(), Some(0..=7)), "{:?} {what}", out.status);
    assert!(!said(&out).contains("internal error"), "{what}");
    assert!(start.elapsed() < Duration::from_secs(15), "{what}");
    assert_printable(&out);
    out
}

fn hostile(image: &Path, refused: bool) {
    let before = seen(image);
    for line in READING {
        bounded(image, line);
    }
    assert_eq!(seen(image), before, "{}", image.display());
    let out = bounded(image, "grow @ +64M");
    if refused || !out.status.success() {
        assert!(matches!(out.status.code(), Some(3 | 4)), "{}: {}", image.display(), said(&out));
        assert_eq!(seen(image), before, "{}", image.display());
    }
}

#[test]
fn headers_of_containers() {
    let dir = tempfile::tempdir().unwrap();
    let be = |value: u64| value.to_be_bytes().to_vec();
    let word = |value: u32| value.to_be_bytes().to_vec();
    let of_qcow2 = [
        (4, word(99)),
        (20, word(40)),
        (20, word(0)),
        (24, be(1 << 63)),
        (32, word(1)),
        (36, word(u32::MAX)),
        (40, be(1 << 60)),
        (40, be(7)),
        (48, be(0)),
        (56, word(u32::MAX)),
        (60, word(u32::MAX)),
        (72, be(1 << 40)),
        (72, be(4)),
        (96, word(63)),
        (100, word(0xffff_fff0)),
    ];
    each(of_qcow2.len(), |i| {
        let image = dir.path().join(format!("{i}.qcow2"));
        qcow2(&image);
        patch(&image, of_qcow2[i].0, &of_qcow2[i].1);
        hostile(&image, true);
    });
    let of_vhd = [
        (16, be(u64::MAX - 511), 0, vec![]),
        (48, be(1 << 62), 0, vec![]),
        (48, be(0), 0, vec![]),
        (60, word(4), 576, [b"W2ku".to_vec(), word(512), word(20), word(0), be(1536)].concat()),
        (60, word(9), 0, vec![]),
        (0, vec![], 16, be(0)),
        (0, vec![], 16, be(1 << 62)),
        (0, vec![], 28, word(u32::MAX)),
        (0, vec![], 32, word(0)),
        (0, vec![], 32, word(1 << 31)),
    ];
    each(of_vhd.len(), |i| {
        let image = dir.path().join(format!("{i}.vhd"));
        run("qemu-img", ["create", "-q", "-f", "vpc", image.to_str().unwrap(), "10M"]);
        let mut bytes = fs::read(&image).unwrap();
        let (footer_at, footer, header_at, header) = &of_vhd[i];
        bytes[*footer_at..footer_at + footer.len()].copy_from_slice(footer);
        bytes[512 + header_at..512 + header_at + header.len()].copy_from_slice(header);
        testkit::vhd::seal(&mut bytes[..512], 64);
        testkit::vhd::seal(&mut bytes[512..1536], 36);
        let (copy, end) = (bytes[..512].to_vec(), bytes.len() - 512);
        bytes[end..].copy_from_slice(&copy);
        fs::write(&image, bytes).unwrap();
        // A disk of no bytes at all is odd, and nothing is lost by growing it.
        let is_empty = *footer_at == 48 && *footer == be(0);
        hostile(&image, !is_empty);
    });
}

#[test]
fn chains_end() {
    let dir = tempfile::tempdir().unwrap();
    let name = |i: usize| dir.path().join(format!("{i}.qcow2"));
    qcow2(&name(0));
    for i in 1..100 {
        with_backing(&name(i), format!("{}.qcow2", i - 1).as_bytes(), b"qcow2");
    }
    ends(0, &name(20), "digest @");
    hostile(&name(99), true);
    with_backing(&name(0), b"5.qcow2", b"qcow2");
    hostile(&name(5), true);
}

#[test]
fn tables_and_filesystems() {
    let dir = tempfile::tempdir().unwrap();
    let mut images: Vec<PathBuf> = Vec::new();
    let mut add = |image: PathBuf| images.push(image);
    // Extended boot records that lead back.
    for (i, next) in [0_u32, 5000].into_iter().enumerate() {
        let image = dir.path().join(format!("ebr{i}.raw"));
        let mut disk = vec![0; 64 << 20];
        let mut put = |at: usize, slots: &[(u8, u32, u32)]| {
            for (slot, (kind, start, count)) in slots.iter().enumerate() {
                let entry = &mut disk[at + 446 + slot * 16..at + 462 + slot * 16];
                entry[4] = *kind;
                entry[8..12].copy_from_slice(&start.to_le_bytes());
                entry[12..].copy_from_slice(&count.to_le_bytes());
            }
            disk[at + 510..at + 512].copy_from_slice(&[0x55, 0xaa]);
        };
        put(0, &[(5, 2048, 100_000)]);
        put(2048 * 512, &[(0x83, 63, 1000), (5, next, 2000)]);
        put((2048 + 5000) * 512, &[(0x83, 63, 1000), (5, next, 2000)]);
        fs::write(&image, disk).unwrap();
        add(image);
    }
    let whole = dir.path().join("whole.raw");
    make(flavor("ext4-1k"), Len::mib(32), Fill::Tree, &whole);
    for (i, (at, bytes)) in [
        (24, 0xffff_ffff_u32),
        (4, 0xffff_ffff),
        (0, 0xffff_ffff),
        (32, 0),
        (40, 0),
        (88, 0xffff_ffff),
        (96, 0xffff_ffff),
        (0xe0, 2),
        (0xe8, 12),
    ]
    .into_iter()
    .enumerate()
    {
        let image = dir.path().join(format!("ext{i}.raw"));
        fs::copy(&whole, &image).unwrap();
        patch(&image, 1024 + at, &bytes.to_le_bytes());
        add(image);
    }
    each(images.len(), |i| hostile(&images[i], false));
}

/// Names that a guest chooses are escaped wherever they come up.
#[test]
fn names_do_not_reach_the_terminal() {
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("named.raw");
    fs::File::create(&image).unwrap().set_len(64 << 20).unwrap();
    sfdisk(&image, "label: gpt\n1: start=2048, size=65536, name=\"a\u{1b}[31m\u{202e}b\"\n");
    let tree = tempfile::tempdir().unwrap();
    fs::create_dir(tree.path().join("etc")).unwrap();
    fs::write(tree.path().join("etc/os-release"), "PRETTY_NAME=\"\u{1b}]0;x\u{7}evil\"\n").unwrap();
    fs::write(tree.path().join("\u{1b}[2J\u{9b}name"), "x").unwrap();
    symlink("\u{1b}[2J", tree.path().join("link")).unwrap();
    let options = ["-q", "-F", "-L", "\u{1b}]0;x\u{7}y", "-E", "offset=1048576", "-d"];
    let rest = [tree.path().to_str().unwrap(), image.to_str().unwrap(), "32M"];
    run("mke2fs", options.iter().chain(&rest));
    for line in READING.iter().chain(&[
        "fs ls @ / -l",
        "fs find @ /",
        "fs stat @ /link",
        "grow @ +64M -n",
        "grow @ +64M -p 7",
        "grow @ +64M",
    ]) {
        bounded(&image, line);
    }
    let told = ends(0, &image, "info @");
    assert!(told.contains("\\x1b]0;x\\x07"), "{told}");
}

/// Symbolic links of a guest lead nowhere on the host.
#[test]
fn links_stay_in_the_guest() {
    let dir = tempfile::tempdir().unwrap();
    let [image, tree, out, host] = ["guest.raw", "tree", "out", "host"].map(|name| dir.path().join(name));
    for folder in [&tree, &out, &host] {
        fs::create_dir(folder).unwrap();
    }
    fs::write(host.join("secret"), "a secret of the host").unwrap();
    fs::create_dir(tree.join("data")).unwrap();
    fs::write(tree.join("data/file"), "of the guest").unwrap();
    symlink(&host, tree.join("absolute")).unwrap();
    symlink("../../../../../../../../../../../../".to_owned() + host.to_str().unwrap(), tree.join("upwards"))
        .unwrap();
    testkit::images::format(flavor("ext4-1k"), Len::mib(16), Some(&tree), &image);
    for name in ["absolute", "upwards"] {
        for path in [format!("/{name}/secret"), format!("{name}/secret")] {
            let said = said(&imgtool(["fs", "cat", image.to_str().unwrap(), &path]));
            assert!(!said.contains("of the host") && said.contains("error"), "{said}");
        }
    }
    let before = seen(&host.join("secret"));
    let all = out.join("all");
    ends(0, &image, &format!("fs copy-out @ / {}", all.display()));
    let copied = run("find", [all.to_str().unwrap(), "-type", "f"]);
    assert!(copied.contains("data/file") && !copied.contains("secret"), "{copied}");
    assert_eq!(seen(&host.join("secret")), before);
    assert_eq!(beside(&host.join("secret")), [host.join("secret")]);
    drop(on(&image, "info @"));
}
