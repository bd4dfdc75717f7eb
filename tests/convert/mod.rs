//! `convert`: the same disk in every format, as the tools of others see it.

mod places;
mod space;
mod streams;

use crate::kit::{code, imgtool, json, noisy, text};
use crate::memory::peak;
use ondisk::SectorSize;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use testkit::images::noise;
use testkit::oracle::{Loop, Mount, assert_qemu_check, qemu_convert, qemu_same};
use testkit::tool::{output, run, said};

/// No multiple of a cluster, of a block, or of a cylinder.
const LEN: u64 = (21 << 20) + 5 * 512;

/// What every target is told, and qemu's name of the format.
const TARGETS: &[(&str, &str)] = &[
    ("-O raw", "raw"),
    ("-O vhd", "vpc"),
    ("-O vhd-fixed", "vpc"),
    ("-O qcow2", "qcow2"),
    ("-O qcow2 --compat 0.10", "qcow2"),
    ("-O qcow2 --cluster-size 512", "qcow2"),
    ("-O qcow2 --cluster-size 2M", "qcow2"),
    ("-O qcow2 --extended-l2", "qcow2"),
    ("-O qcow2 --compress zstd", "qcow2"),
    ("-O qcow2 --compress deflate --cluster-size 4K", "qcow2"),
    ("-O qcow2 --compress zlib --compat v2", "qcow2"),
    ("-O qcow2 --compress zstd --cluster-size 512", "qcow2"),
    ("-O qcow2 --compress zstd --cluster-size 2M --extended-l2", "qcow2"),
];

/// Data that compresses and data that does not, holes, written zeros, and bytes at the very end.
fn raw(dir: &Path) -> PathBuf {
    let places = [(0, 5000), (3 << 20, 1 << 20), ((9 << 20) + 512, 70_000), (LEN - 512, 512)];
    let path = noisy(dir, LEN, &places);
    let file = File::options().write(true).open(&path).unwrap();
    file.write_all_at(&b"all work and no play ".repeat(60_000), (13 << 20) + 77).unwrap();
    file.write_all_at(&vec![0; 1 << 20], 17 << 20).unwrap();
    path
}

fn convert(from: &Path, to: &Path, line: &str) {
    let mut args = vec!["convert", "-q", text(from), text(to)];
    args.extend(line.split_whitespace());
    code(0, &args);
}

fn digest(image: &Path, format: &str) -> String {
    json(&["digest", "--json", "-f", format, text(image)])["digest"].as_str().unwrap().to_owned()
}

/// Judges an image by programs that we did not write.
fn judge(image: &Path, qemu: &str, raw: &Path) {
    assert!(qemu_same(raw, "raw", image, qemu), "{}", image.display());
    match qemu {
        "qcow2" => assert_qemu_check(image, "qcow2"),
        "vpc" => {
            let out = output("vhdiinfo", [image]);
            assert!(out.status.success() && said(&out).contains("Media size"), "{}", said(&out));
        }
        _ => {}
    }
    let ours = if qemu == "vpc" { "vhd" } else { qemu };
    code(0, &["check", "-f", ours, text(image)]);
    assert_eq!(digest(image, ours), digest(raw, "raw"), "{}", image.display());
}

#[test]
fn every_pair_of_formats() {
    let dir = tempfile::tempdir().unwrap();
    let raw = raw(dir.path());
    let source = |name: &str, format: &str, options: &[&str]| {
        let path = dir.path().join(name);
        qemu_convert(&raw, "raw", &path, format, options);
        path
    };
    let sources = [
        (raw.clone(), "raw"),
        (source("a.qcow2", "qcow2", &[]), "qcow2"),
        (source("small.qcow2", "qcow2", &["compat=0.10", "cluster_size=512"]), "qcow2"),
        (source("extended.qcow2", "qcow2", &["extended_l2=on"]), "qcow2"),
        (source("dynamic.vhd", "vpc", &["force_size=on"]), "vhd"),
        (source("fixed.vhd", "vpc", &["force_size=on", "subformat=fixed"]), "vhd"),
    ];
    for (source, format) in &sources {
        for (line, qemu) in TARGETS {
            let image = dir.path().join("new");
            convert(source, &image, &format!("-f {format} {line}"));
            judge(&image, qemu, &raw);
            let from_raw = *format == "raw" && !line.contains("vhd");
            if from_raw {
                let again = dir.path().join("again");
                convert(source, &again, &format!("-f raw -j 4 {line}"));
                let once = dir.path().join("once");
                convert(source, &once, &format!("-f raw -j 1 {line}"));
                assert!(fs::read(&again).unwrap() == fs::read(&once).unwrap(), "{line}: bytes follow -j");
                [again, once].into_iter().for_each(|path| fs::remove_file(path).unwrap());
            }
            fs::remove_file(image).unwrap();
        }
    }
}

/// What is compressed by us is a source as well, and not larger than when others do it.
#[test]
fn compressed_images_are_sources_and_small() {
    let dir = tempfile::tempdir().unwrap();
    let raw = raw(dir.path());
    for (how, theirs) in [("zstd", "zstd"), ("deflate", "zlib")] {
        let packed = dir.path().join(format!("{how}.qcow2"));
        convert(&raw, &packed, &format!("--compress {how}"));
        let back = dir.path().join(format!("{how}.raw"));
        convert(&packed, &back, "");
        assert!(fs::read(&back).unwrap() == fs::read(&raw).unwrap());
        let other = dir.path().join(format!("{how}-qemu.qcow2"));
        let option = format!("compression_type={theirs}");
        run(
            "qemu-img",
            ["convert", "-c", "-f", "raw", "-O", "qcow2", "-o", &option, text(&raw), text(&other)],
        );
        let (ours, others) = (packed.metadata().unwrap(), other.metadata().unwrap());
        assert!(
            ours.blocks() * 100 <= others.blocks() * 102,
            "{how}: {} > {}",
            ours.blocks(),
            others.blocks()
        );
    }
}

/// No more is stored than others store, give or take two per cent, wherever the zeros are known from.
#[test]
fn results_are_sparse() {
    let dir = tempfile::tempdir().unwrap();
    let raw = raw(dir.path());
    let full = dir.path().join("full.raw");
    fs::write(&full, fs::read(&raw).unwrap()).unwrap();
    for (line, qemu) in &TARGETS[..4] {
        for source in [&raw, &full] {
            let (ours, theirs) = (dir.path().join("ours"), dir.path().join("theirs"));
            convert(source, &ours, &format!("-f raw {line}"));
            let options: &[&str] = match *line {
                "-O vhd" => &["force_size=on"],
                "-O vhd-fixed" => &["force_size=on", "subformat=fixed"],
                _ => &[],
            };
            qemu_convert(source, "raw", &theirs, qemu, options);
            run("sync", [&ours, &theirs]);
            let [a, b] = [&ours, &theirs].map(|path| path.metadata().unwrap().blocks());
            assert!(a * 100 <= b * 102, "{line}: {a} blocks, qemu-img has {b}");
            [ours, theirs].into_iter().for_each(|path| fs::remove_file(path).unwrap());
        }
    }
}

#[test]
fn odd_sizes() {
    let dir = tempfile::tempdir().unwrap();
    let [source, image] = ["disk.raw", "new"].map(|name| dir.path().join(name));
    for len in [0, 1, 511, 512, 513, 4095, 65_536, 65_537, (2 << 20) - 1, (2 << 20) + 512] {
        let mut bytes = noise(len, usize::try_from(len).unwrap());
        fs::write(&source, &bytes).unwrap();
        bytes.resize(bytes.len().next_multiple_of(512), 0);
        for (line, qemu) in TARGETS {
            let mut args = vec!["convert", "-f", "raw", text(&source), text(&image)];
            args.extend(line.split_whitespace());
            let out = imgtool(&args);
            if len == 0 && *qemu == "vpc" {
                assert_eq!(out.status.code(), Some(2), "a VHD without a sector: {}", said(&out));
                assert_eq!(fs::read_dir(&dir).unwrap().count(), 1);
                continue;
            }
            assert_eq!(out.status.code(), Some(0), "{len} {line}: {}", said(&out));
            let told = said(&out).contains("no whole sectors");
            assert_eq!(told, len % 512 != 0, "{len} {line}: {}", said(&out));
            let back = dir.path().join("back");
            qemu_convert(&image, qemu, &back, "raw", &[]);
            assert!(fs::read(&back).unwrap() == bytes, "{len} {line}");
            if *qemu == "qcow2" {
                assert_qemu_check(&image, "qcow2");
            }
            [&image, &back].into_iter().for_each(|path| fs::remove_file(path).unwrap());
        }
    }
}

#[test]
fn what_a_format_cannot_hold_is_refused_before_anything_is_made() {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("large.qcow2");
    code(0, &["create", "-q", text(&source), "3T"]);
    let image = dir.path().join("new");
    for line in ["-O vhd", "-O vhd-fixed", "-O qcow2 --cluster-size 512"] {
        let mut args = vec!["convert", text(&source), text(&image)];
        args.extend(line.split_whitespace());
        code(3, &args);
    }
    for line in [
        "-O raw --compress zstd",
        "-O vhd --cluster-size 4K",
        "-O qcow2 --compat 0.10 --compress zstd",
        "-O qcow2 --compat 0.10 --extended-l2",
        "-O qcow2 --extended-l2 --cluster-size 4K",
        "-O qcow2 --cluster-size 3000",
    ] {
        let mut args = vec!["convert", text(&source), text(&image)];
        args.extend(line.split_whitespace());
        code(2, &args);
    }
    fs::write(&image, "somebody's").unwrap();
    code(3, &["convert", text(&source), text(&image)]);
    assert_eq!(fs::read(&image).unwrap(), b"somebody's");
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 2);
}

#[test]
fn a_dry_run_makes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let raw = raw(dir.path());
    let image = dir.path().join("new.qcow2");
    let told = json(&["convert", "-n", "--json", text(&raw), text(&image)]);
    assert_eq!((&told["changed"], &told["virtual-size"]), (&false.into(), &LEN.into()));
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 1);
    let done = json(&["convert", "--json", text(&raw), text(&image)]);
    assert_eq!(done["file-size"], image.metadata().unwrap().len());
    assert!(told["file-size"].as_u64() >= done["file-size"].as_u64());
}

/// A base and two children, each with its own data, zeros over data of the one below, and parts of a cluster.
fn qcow2_chain(dir: &Path) -> [PathBuf; 3] {
    let raw = raw(dir);
    let chain = ["base.qcow2", "middle.qcow2", "top.qcow2"].map(|name| dir.join(name));
    qemu_convert(&raw, "raw", &chain[0], "qcow2", &[]);
    for (child, base) in [(&chain[1], "base.qcow2"), (&chain[2], "middle.qcow2")] {
        run("qemu-img", ["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", base, text(child)]);
    }
    let write =
        |image: &Path, command: &str| drop(run("qemu-io", ["-f", "qcow2", "-c", command, text(image)]));
    write(&chain[1], "write -P 7 1M 300k");
    write(&chain[1], "write -z 3M 256k");
    write(&chain[2], "write -P 9 1100k 5k");
    write(&chain[2], "write -z 13M 128k");
    write(&chain[2], "write -P 3 20M 64k");
    chain
}

#[test]
fn chains_are_flattened_or_kept() {
    let dir = tempfile::tempdir().unwrap();
    let chain = qcow2_chain(dir.path());
    let wanted = ["base", "middle", "top"].map(|name| dir.path().join(format!("{name}.wanted")));
    for (image, raw) in chain.iter().zip(&wanted) {
        qemu_convert(image, "qcow2", raw, "raw", &[]);
    }
    let flat = dir.path().join("flat.vhd");
    convert(&chain[2], &flat, "");
    judge(&flat, "vpc", &wanted[2]);

    let mut source = chain[2].clone();
    for (round, line) in [
        ("vhds", "-O vhd"),
        ("v3", "-O qcow2"),
        ("v2", "-O qcow2 --compat 0.10 --cluster-size 4K"),
        ("parts", "-O qcow2 --extended-l2"),
        ("packed", "-O qcow2 --compress zstd"),
        ("again", "-O vhd"),
    ] {
        let folder = dir.path().join(round);
        fs::create_dir(&folder).unwrap();
        let ending = if line.contains("vhd") { "vhd" } else { "qcow2" };
        let names = ["base", "middle", "top"].map(|name| folder.join(format!("{name}.{ending}")));
        convert(&source, &names[2], &format!("--keep-chain {line}"));
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 3);
        for (name, raw) in names.iter().zip(&wanted) {
            assert_eq!(digest(name, ending), digest(raw, "raw"), "{}", name.display());
            if ending == "qcow2" {
                assert_qemu_check(name, "qcow2");
                assert!(qemu_same(raw, "raw", name, "qcow2"), "{}", name.display());
            }
            code(0, &["check", text(name)]);
        }
        for pair in names.windows(2).filter(|_| ending == "vhd") {
            // Microsoft's programs refuse any other time than the one when the parent was last written to.
            let header = fs::read(&pair[1]).unwrap();
            let named = u32::from_be_bytes(header[512 + 56..][..4].try_into().unwrap());
            let written = pair[0].metadata().unwrap().mtime();
            assert_eq!(i64::from(named) + 946_684_800, written, "{}", pair[1].display());
        }
        let stored = names.each_ref().map(|name| name.metadata().unwrap().blocks());
        assert!(
            stored[1] * 2 < stored[0] && stored[2] * 2 < stored[0],
            "{round}: children hold too much: {stored:?}"
        );
        let info = json(&["info", "--json", text(&names[2])]).to_string();
        assert!(info.contains(&format!("middle.{ending}")), "{info}");
        source.clone_from(&names[2]);
    }
    let out = imgtool(["convert", "--keep-chain", text(&source), text(&dir.path().join("x.raw"))]);
    assert_eq!(out.status.code(), Some(2), "{}", said(&out));
    let taken = dir.path().join("vhds/other.vhd");
    let out = imgtool(["convert", "--keep-chain", text(&source), text(&taken)]);
    assert_eq!(out.status.code(), Some(3), "base.vhd is there already: {}", said(&out));
    assert!(!taken.exists());
}

/// A parent that would be needed and is not there is not made up.
#[test]
fn a_child_is_never_read_as_if_it_stood_alone() {
    let dir = tempfile::tempdir().unwrap();
    let chain = qcow2_chain(dir.path());
    fs::remove_file(&chain[0]).unwrap();
    let image = dir.path().join("new.raw");
    code(3, &["convert", text(&chain[2]), text(&image)]);
    assert!(!image.exists());
}

/// Nothing follows the size of the disk: neither time nor memory.
#[test]
fn disks_of_terabytes() {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("large.qcow2");
    code(0, &["create", "-q", text(&source), "64T"]);
    run("qemu-io", ["-f", "qcow2", "-c", "write -P 5 63T 1M", text(&source)]);
    for line in ["-O qcow2", "-O qcow2 --compress zstd --cluster-size 2M"] {
        let image = dir.path().join("new.qcow2");
        let line = format!("convert @ {} {line}", text(&image));
        let begun = std::time::Instant::now();
        let peak = peak(&source, &line, &[0]);
        assert!(begun.elapsed().as_secs() < 20, "{line}: {:?}", begun.elapsed());
        assert!(peak < 64 << 20, "{line}: {peak} bytes");
        assert_qemu_check(&image, "qcow2");
        run("qemu-io", ["-f", "qcow2", "-c", "read -P 5 63T 1M", text(&image)]);
        fs::remove_file(&image).unwrap();
    }
}

#[test]
fn memory_is_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("disk.raw");
    fs::write(&source, noise(2, 96 << 20)).unwrap();
    for line in ["-O raw", "-O vhd", "-O qcow2 --cluster-size 2M --compress zstd"] {
        let image = dir.path().join("new");
        for (options, most) in [("-j 64", 256), ("-j 64 --memory 32M", 80)] {
            let peak = peak(&source, &format!("convert -f raw @ {} {line} {options}", text(&image)), &[0]);
            assert!(peak < most << 20, "{line} {options}: {peak} bytes");
            fs::remove_file(&image).unwrap();
        }
    }
}

/// `measure` as qemu-img has it, and true of what `convert` makes.
#[test]
fn measures() {
    let dir = tempfile::tempdir().unwrap();
    let raw = raw(dir.path());
    for (line, qemu) in TARGETS.iter().filter(|(line, _)| !line.contains("compress")) {
        let with = |rest: &[&str]| {
            let mut args = vec!["measure", "--json"];
            args.extend(rest.iter().copied().chain(line.split_whitespace()));
            let told = json(&args);
            [told["required"].as_u64().unwrap(), told["fully-allocated"].as_u64().unwrap()]
        };
        let [required, full] = with(&["-f", "raw", text(&raw)]);
        let image = dir.path().join("new");
        convert(&raw, &image, &format!("-f raw {line}"));
        assert!(image.metadata().unwrap().len() <= required && required <= full, "{line}");
        fs::remove_file(&image).unwrap();
        if *qemu == "vpc" {
            continue;
        }
        let size = format!("{}", LEN);
        let mut args = vec!["measure", "--output=json", "-O", qemu, "--size", &size];
        let options = qemu_options(line);
        if !options.is_empty() {
            args.extend(["-o", &options]);
        }
        let theirs: serde_json::Value = serde_json::from_str(&run("qemu-img", &args)).unwrap();
        let theirs = ["required", "fully-allocated"].map(|name| theirs[name].as_u64().unwrap());
        assert_eq!(with(&["--size", &size]), theirs, "{line}");
        let whole = dir.path().join("whole.raw");
        fs::write(&whole, noise(6, usize::try_from(LEN).unwrap())).unwrap();
        convert(&whole, &image, &format!("-f raw {line}"));
        assert!(image.metadata().unwrap().len() <= full, "{line}: a full disk takes more");
        fs::remove_file(&image).unwrap();
    }
}

fn qemu_options(line: &str) -> String {
    let mut words = line.split_whitespace();
    let mut options = Vec::new();
    while let Some(word) = words.next() {
        match word {
            "--compat" => options.push(format!("compat={}", words.next().unwrap())),
            "--cluster-size" => options.push(format!("cluster_size={}", words.next().unwrap())),
            "--extended-l2" => options.push("extended_l2=on".to_owned()),
            _ => {}
        }
    }
    options.join(",")
}

/// `create` lays a qcow2 image out as it is told.
#[test]
fn created_as_told() {
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("new.qcow2");
    for (line, cluster, compat, extended) in [
        ("--cluster-size 2M", 2 << 20, "1.1", false),
        ("--compat v2 --cluster-size 512", 512, "0.10", false),
        ("--extended-l2", 65536, "1.1", true),
    ] {
        let mut args = vec!["create", "-q", text(&image), "64M"];
        args.extend(line.split_whitespace());
        code(0, &args);
        let told = run("qemu-img", ["info", "--output=json", text(&image)]);
        let told: serde_json::Value = serde_json::from_str(&told).unwrap();
        let data = &told["format-specific"]["data"];
        assert_eq!((&told["cluster-size"], &data["compat"]), (&cluster.into(), &compat.into()), "{line}");
        assert_eq!(data["extended-l2"].as_bool().unwrap_or_default(), extended, "{line}");
        assert_qemu_check(&image, "qcow2");
        fs::remove_file(&image).unwrap();
    }
    code(2, &["create", text(&dir.path().join("new.raw")), "64M", "--cluster-size", "4K"]);
}
