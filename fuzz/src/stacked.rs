//! Whole disks: a filesystem in a table in a container, with the metadata of all three.

use crate::base::{Base, Place, Seal, span};
use crate::{containers, ext, tables};
use container::{Container, Format};
use disk::{Disk, ExtentMap, Limits, ReadAt, Sparse};
use ondisk::{Len, Offset, Span};
use std::path::Path;
use std::sync::Arc;
use testkit::tool::run;

const MIB: u64 = 1 << 20;
const MBR: &str = "label: dos\nlabel-id: 0x12345678\n2048,2048,82\n4096,,83,*\n";
const LOGICAL: &str = "label: dos\n2048,2048,82\n4096,,5\n6144,,83\n";
const GPT: &str = "label: gpt\n2048,2048,S\nstart=4096,type=L,name=\"root\"\n";

/// Format, options of qemu-img, table, flavour.
const DISKS: &[(Format, &str, &str, &str)] = &[
    (Format::Raw, "", GPT, "ext4"),
    (Format::Raw, "", MBR, "ext3"),
    (Format::Raw, "", LOGICAL, "plain4"),
    (Format::Raw, "", "", "bigalloc"),
    (Format::Raw, "", "", "reserve"),
    (Format::Raw, "", MBR, "meta_bg"),
    (Format::Vhd, "subformat=dynamic", GPT, "ext4"),
    (Format::Vhd, "subformat=fixed", MBR, "uninit"),
    (Format::Qcow2, "cluster_size=64k", GPT, "ext4"),
    (Format::Qcow2, "cluster_size=4k", MBR, "sparse2"),
];

/// The format of a base; it is not probed.
#[must_use]
pub fn format_of(base: &Base) -> Format {
    base.name.split(' ').next().and_then(|name| name.parse().ok()).unwrap_or(Format::Raw)
}

/// Disks in all containers.
#[must_use]
pub fn bases() -> Vec<Base> {
    let dir = tempfile::tempdir().expect("a temporary folder");
    DISKS.iter().map(|one| base(*one, dir.path())).collect()
}

fn base((format, options, script, flavor): (Format, &str, &str, &str), dir: &Path) -> Base {
    let fs = ext::named(flavor, dir);
    let (raw, file) = (dir.join("raw"), dir.join("file"));
    let mut at = 0;
    if script.is_empty() {
        testkit::tool::copy_sparse(&dir.join(flavor), &raw);
    } else {
        at = if script == LOGICAL { 3 * MIB } else { 2 * MIB };
        tables::partitioned(&raw, script, (at + fs.len().get() + 2 * MIB).next_multiple_of(MIB));
        testkit::images::place(&dir.join(flavor), &raw, Offset::new(at));
    }
    let disk = ext::load(&raw);
    let volume = span(at, fs.len().get());
    let mut inner: Vec<Vec<Place>> = if script.is_empty() { vec![] } else { tables::places(&disk) };
    let places = ext::places(&fs);
    inner.extend(places.into_iter().map(|kind| kind.iter().map(|place| place.within(volume)).collect()));
    let name = format!("{format} {options} {flavor}");
    if format == Format::Raw {
        return Base::new(&name, disk, inner);
    }
    let their = if format == Format::Vhd { "vpc" } else { "qcow2" };
    let options = if format == Format::Vhd { format!("{options},force_size=on") } else { options.to_owned() };
    let paths = [raw.to_str(), file.to_str()].map(|path| path.expect("a plain name"));
    run("qemu-img", ["convert", "-f", "raw", "-O", their, "-o", &options, paths[0], paths[1]]);
    let file = ext::load(&file);
    let mut kinds =
        if format == Format::Vhd { containers::vhd_places(&file) } else { containers::qcow2_places(&file) };
    let runs: Arc<[(Span, Offset)]> = runs(&file, format).into();
    kinds.extend(
        inner.into_iter().map(|kind| kind.iter().filter_map(|place| through(place, &runs)).collect()),
    );
    Base::new(&name, file, kinds)
}

/// Where the runs of the virtual disk lie in the file.
fn runs(file: &Sparse, format: Format) -> Vec<(Span, Offset)> {
    let container = Container::open(file, format, &Limits::default()).expect("a sound container");
    let all = container.map().map(|run| run.expect("a sound container"));
    all.filter_map(|run| Some((run.span, run.offset?))).collect()
}

/// A place of the virtual disk as one of the file; cut where its run ends.
fn through(place: &Place, runs: &Arc<[(Span, Offset)]>) -> Option<Place> {
    let want = Span::new(place.at, Len::of(&place.bytes))?;
    let (run, at) = runs.iter().find(|(run, _)| run.contains(span(place.at.get(), 1)))?;
    let there = want.intersect(*run)?;
    let at = at.checked_add(there.start().since(run.start())?)?;
    let runs = Arc::clone(runs);
    let seal = place
        .seal
        .clone()
        .map(|seal| -> Seal { Arc::new(move |disk| seal(&mut Through { disk, runs: &runs })) });
    Some(Place { at, bytes: place.bytes[..there.len().to_usize()].to_vec(), seal })
}

/// A virtual disk as its runs lie in the file, whatever its tables say meanwhile. What has no run reads as zero.
struct Through<'a> {
    disk: &'a mut dyn Disk,
    runs: &'a [(Span, Offset)],
}

impl Through<'_> {
    /// The parts of a range that are there: where in the range, and where in the file.
    fn parts(&self, want: Span) -> Vec<(usize, Span)> {
        let part = |(run, at): &(Span, Offset)| {
            let there = run.intersect(want).filter(|there| !there.is_empty())?;
            let file = at.checked_add(there.start().since(run.start())?)?;
            Some((there.start().since(want.start())?.to_usize(), Span::new(file, there.len())?))
        };
        self.runs.iter().filter_map(part).collect()
    }
}

impl ReadAt for Through<'_> {
    fn len(&self) -> Len {
        self.runs.last().map_or(Len::ZERO, |(run, _)| Len::new(run.end().get()))
    }
    fn read_at(&self, at: Offset, buf: &mut [u8]) -> disk::Result<()> {
        let want = disk::traits::bounded(at, buf.len(), self.len())?;
        buf.fill(0);
        for (within, file) in self.parts(want) {
            self.disk.read_at(file.start(), &mut buf[within..within + file.len().to_usize()])?;
        }
        Ok(())
    }
    fn extents(&self, within: Span) -> disk::Result<ExtentMap> {
        Ok(ExtentMap::single(within, disk::ExtentKind::Data))
    }
}

/// Only what seals need.
impl Disk for Through<'_> {
    fn write_at(&mut self, at: Offset, buf: &[u8]) -> disk::Result<()> {
        let want = disk::traits::bounded(at, buf.len(), self.len())?;
        for (within, file) in self.parts(want) {
            self.disk.write_at(file.start(), &buf[within..within + file.len().to_usize()])?;
        }
        Ok(())
    }
    fn zero(&mut self, _: Span) -> disk::Result<()> {
        unreachable!("seals write bytes")
    }
    fn discard(&mut self, _: Span) -> disk::Result<()> {
        unreachable!("seals write bytes")
    }
    fn copy(&mut self, _: Span, _: Offset) -> disk::Result<()> {
        unreachable!("seals write bytes")
    }
    fn resize(&mut self, _: Len) -> disk::Result<()> {
        unreachable!("seals write bytes")
    }
    fn mark_fresh(&mut self, _: Span) -> disk::Result<()> {
        unreachable!("seals write bytes")
    }
}
