//! `delta apply --as-child`: the result as a child of the patch's first base.
//!
//! 1. The child holds what is not as in the base at the same place, in units of 4 KiB; the rest stays the base's.
//! 2. Before it gets its name, it is read back over the base, and compared with the patch.

use crate::args::{Layout, OutFormat};
use crate::cmd::convert::{Begin, Made, fill};
use crate::cmd::create::{Base, stands};
use crate::cmd::make;
use crate::cx::Session;
use crate::exit::{Failure, Of, show};
use crate::open::Opened;
use crate::output::Output;
use container::write::Layer;
use container::{BlockStatus, Container, Mapped};
use delta::{Against, Patched, WINDOW};
use disk::{ExtentMap, FileDev, ReadAt};
use ondisk::{Len, Offset, Span};
use stack::chain::Nothing;
use std::path::Path;

/// The result, as its child over the first base sees it.
struct Child<'a> {
    made: &'a Patched<FileDev, &'a dyn ReadAt>,
}

impl ReadAt for Child<'_> {
    fn len(&self) -> Len {
        self.made.len()
    }
    fn read_at(&self, at: Offset, buf: &mut [u8]) -> disk::Result<()> {
        self.made.read_at(at, buf)
    }
    fn extents(&self, within: Span) -> disk::Result<ExtentMap> {
        self.made.extents(within)
    }
}

impl Mapped for Child<'_> {
    fn status(&self, range: Span) -> container::Result<Vec<BlockStatus>> {
        let parts = self.made.against_first(range).map_err(disk::Error::from)?;
        let run = |(span, what)| BlockStatus {
            span,
            present: true,
            zero: what == Against::Zero,
            data: what != Against::Zero,
            offset: None,
            depth: u32::from(what == Against::Same),
        };
        Ok(parts.into_iter().map(run).collect())
    }
}

/// A new image over the base that it will be read over.
struct Over<'a> {
    child: Container<FileDev>,
    base: &'a dyn ReadAt,
}

impl Over<'_> {
    /// Reads what the child does not hold from the base; behind its end there are zeros.
    fn read_base(&self, span: Span, buf: &mut [u8]) -> disk::Result<()> {
        let there = span.intersect(Span::whole(self.base.len())).unwrap_or_default();
        let (stored, behind) = buf.split_at_mut(there.len().to_usize().min(buf.len()));
        behind.fill(0);
        if stored.is_empty() { Ok(()) } else { self.base.read_at(there.start(), stored) }
    }
}

impl ReadAt for Over<'_> {
    fn len(&self) -> Len {
        self.child.len()
    }
    fn read_at(&self, at: Offset, buf: &mut [u8]) -> disk::Result<()> {
        let span = disk::traits::bounded(at, buf.len(), self.len())?;
        let mut rest = buf;
        for run in self.child.status(span)? {
            let (part, behind) = std::mem::take(&mut rest).split_at_mut(run.span.len().to_usize());
            rest = behind;
            if run.present && run.depth == 0 {
                self.child.read_at(run.span.start(), part)?;
            } else {
                self.read_base(run.span, part)?;
            }
        }
        Ok(())
    }
    fn extents(&self, within: Span) -> disk::Result<ExtentMap> {
        Ok(ExtentMap::single(within, disk::ExtentKind::Data))
    }
}

/// Makes the child, and says on what it stands; `base` is the patch's first one, as an image and as a disk.
pub(super) fn make(
    made: &Patched<FileDev, &dyn ReadAt>,
    base: (&Opened<'_>, &dyn ReadAt),
    (format, output): (OutFormat, &Path),
    session: &Session,
    out: &Output,
) -> Result<(Made, String), Failure> {
    let (opened, disk) = base;
    if matches!(format, OutFormat::Raw | OutFormat::VhdFixed) {
        return Err(make::no_parent(format));
    }
    if !made.len().is_aligned(512) {
        let why = format!("{} bytes are no whole sectors, which a child has", made.len());
        return Err(make::refused(output, why).with_help("leave --as-child away, and make it -O raw"));
    }
    if format == OutFormat::Vhd && made.len() < disk.len() {
        let why = format!(
            "its {} bytes are less than the {} of {}, which a VHD's child may not have",
            made.len(),
            disk.len(),
            show(opened.path)
        );
        return Err(make::refused(output, why).with_help("make the child -O qcow2"));
    }
    let base = Base::of(opened, session, out)?;
    let stands = stands(output, format, &base)?;
    let spec = make::spec(format, made.len(), (Layout::default(), None), stands, session)?;
    let child = Child { made };
    let image =
        fill(Begin::Replacing(output), Layer::own(&child).made_in(WINDOW), &spec, false, None, session)?;
    if let Some(file) = image.file()? {
        let mut child = Container::open(file, spec.format(), &session.limits).of(output)?;
        let id = child.parent_ref().and_then(|parent| parent.id);
        child.set_parent(Box::new(Nothing(disk.len())), id).of(output)?;
        made.refuse_other(&Over { child, base: disk }, &session.cx()).of(output)?;
    }
    Ok((image, format!("{} stands on {}", show(output), show(opened.path))))
}
