//! Containers: everything that a command could ask of one, and growing it.

use super::{applied, blames_the_image, states_of};
use crate::{Case, LIMITS};
use container::{Container, Format, Severity, probe};
use disk::{Disk, MemDisk, Overlay, ReadAt};
use ondisk::{Len, Offset, Span};

/// So much of a disk is read.
const READ: Len = Len::mib(2);

/// Opens, reads and checks a VHD.
pub fn vhd(case: Case<'_>) {
    look(&case.disk, Format::Vhd);
}

/// Opens, reads and checks a qcow2 image.
pub fn qcow2(case: Case<'_>) {
    look(&case.disk, Format::Qcow2);
}

/// Opens, reads and checks an image of a format that is only read; its base says which.
pub fn foreign(case: Case<'_>) {
    let format = case.base.name.split(' ').next().and_then(|name| name.parse().ok());
    look(&case.disk, format.expect("bases are named by their format"));
}

/// Tells what a file is, under whichever name, and opens it as that.
pub fn probe(case: Case<'_>) {
    let names = [None, Some("disk.vhd"), Some("disk.qcow2"), Some("disk"), Some("disk.raw")];
    let name = names[usize::from(case.knob) % names.len()];
    match (probe::for_reading(&case.disk, name, None), probe::for_writing(&case.disk, name, None)) {
        (Ok(read), Ok(write)) => assert_eq!(read, write),
        (Ok(_), Err(error)) => blames_the_image(&error),
        (Err(error), Err(_)) => blames_the_image(&error),
        (Err(error), Ok(format)) => panic!("{format} may be written and not read: {error}"),
    }
    if let Ok(found) = probe::probe(&case.disk, None)
        && found.format != Format::Raw
    {
        Container::open(&case.disk, found.format, &LIMITS).map(drop).expect("what is proven opens");
    }
}

fn look(disk: &MemDisk, format: Format) {
    let container = match Container::open(disk, format, &LIMITS) {
        Ok(container) => container,
        Err(error) => return blames_the_image(&error),
    };
    let _ = (container.facts(), container.uuid(), container.parent_ref());
    let len = container.len();
    let result = read(&container);
    let _ = container.extents(Span::whole(len.min(Len::gib(1))));
    if len <= Len::gib(1) {
        let mut end = Offset::ZERO;
        for run in container.map().map_while(Result::ok) {
            assert_eq!(run.span.start(), end, "the map has a gap");
            end = run.span.end();
        }
    }
    let sound = container.check().is_ok_and(|findings| findings.count(Severity::Damage) == 0);
    // Deflate and zstd know of damage that no table of qcow2 shows; a parent or a part of the disk is not there.
    if let Err(error) = result
        && format != Format::Qcow2
        && container.parent_ref().is_none()
        && container.parts().is_empty()
    {
        assert!(!sound, "sound and cannot be read: {error}");
    }
}

/// Both ends of the virtual disk.
fn read(disk: &dyn ReadAt) -> disk::Result<Vec<u8>> {
    let head = READ.min(disk.len());
    let tail = Len::kib(64).min(disk.len());
    let mut bytes = vec![0; head.to_usize() + tail.to_usize()];
    let (first, last) = bytes.split_at_mut(head.to_usize());
    disk.read_at(Offset::ZERO, first)?;
    disk.read_at(disk.len().saturating_sub(tail).end(), last)?;
    Ok(bytes)
}

/// Grows a container. It is sound afterwards, holds what it held, and takes more; with only the fresh bytes written it
/// is the old one.
pub fn grow(case: Case<'_>) {
    let format = if case.base.name.contains('=') { Format::Qcow2 } else { Format::Vhd };
    let Ok(old) = Container::open(&case.disk, format, &LIMITS) else { return };
    let more = [512, 4096, 1 << 20, 70 << 20, 3 << 30, 600 << 30, 3 << 40, 1 << 60];
    let want = old.len().get().saturating_add(more[usize::from(case.knob) % more.len()]);
    let plan = match old.plan_grow(Len::new(want)) {
        Ok(plan) => plan,
        Err(error) => return blames_the_image(&error),
    };
    assert!(plan.new_len() >= Len::new(want));
    let (new_len, _) = (plan.new_len(), plan.sentences());
    let mut overlay = Overlay::new(&case.disk, &LIMITS);
    if applied(plan.apply(&mut overlay)).is_none() {
        return;
    }
    let Some((half, new)) = states_of(&case.disk, overlay) else { return };
    let half = Container::open(half, format, &LIMITS).expect("fresh bytes leave the old image");
    let mut new = Container::open(new, format, &LIMITS).expect("a grown image opens");
    assert_eq!((half.len(), new.len()), (old.len(), new_len));
    assert_sound(&new, "grown");
    let head = Span::whole(old.len().min(READ));
    let [was, still, is] = [&old as &dyn ReadAt, &half, &new].map(|disk| content(disk, head));
    assert!(was == still, "fresh bytes have changed the content");
    assert!(was == is, "growing has changed the content");
    let end = new.len().saturating_sub(Len::new(1024)).end();
    if new.parent_ref().is_none() && new.write_at(end, &[7; 1024]).is_ok() {
        assert_sound(&new, "written to");
        let mut bytes = [0; 1024];
        new.read_at(end, &mut bytes).expect("what was written can be read");
        assert_eq!(bytes, [7; 1024]);
    }
}

/// Bytes, where they can be read.
fn content(disk: &dyn ReadAt, span: Span) -> Vec<Option<Vec<u8>>> {
    let part = |part: Span| {
        let mut bytes = vec![0; part.len().to_usize()];
        disk.read_at(part.start(), &mut bytes).ok().map(|()| bytes)
    };
    span.chunks(Len::kib(64)).map(part).collect()
}

fn assert_sound<D: ReadAt>(image: &Container<D>, when: &str) {
    let Ok(findings) = image.check() else { return };
    let damage = findings.iter().find(|finding| finding.severity == Severity::Damage);
    assert!(damage.is_none(), "{when}: {}", damage.map(|damage| damage.text.as_str()).unwrap_or_default());
}
