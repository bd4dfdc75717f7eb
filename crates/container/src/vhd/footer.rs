//! Finding the footer, of which a dynamic image has two.
//!
//! 1. A footer counts only with its cookie, its checksum, its version and a type that is known.
//! 2. The end of the file decides, except where it has no footer; the copy at byte 0 exists for that case.
//! 3. A fixed image has no copy: whatever its first sector holds belongs to the guest. Where the first sector is the
//!    head of a whole dynamic image nevertheless, nobody can say which of the two it is.
//! 4. Where both footers are right and name different images, the file is damaged.

use super::layout::{self, DIFFERENCING, DYNAMIC, FIXED, Footer};
use crate::{Error, Format, Result};
use disk::ReadAt;
use ondisk::num::{round_up, to_u64};
use ondisk::text::Printable;
use ondisk::{Len, Offset, Sealed, Span};
use zerocopy::{FromBytes, IntoBytes};

pub const FOOTER_LEN: Len = Len::new(512);
const WHAT: &str = "VHD footer";
/// How far before the end of what is stored a misplaced footer is looked for.
const SEARCHED: Len = Len::mib(1);
/// More than this behind a footer is somebody's data.
const GARBAGE_MAX: Len = Len::kib(64);

/// The state of one of the two footers of an image that is open by the other one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Twin {
    /// Equal to the other.
    Equal,
    /// Right by itself, but different.
    Differs,
    /// No footer.
    Bad(String),
}

/// The footer by which an image is opened.
#[derive(Clone, Debug)]
pub struct Footers {
    /// As it was read, zero-extended where the file has 511 bytes of it.
    pub footer: Footer,
    /// Where the end footer is, or would be.
    pub end: Span,
    /// The end footer, where the copy was taken.
    pub end_state: Twin,
    /// The copy at byte 0; a fixed image has none.
    pub copy_state: Twin,
}

/// The last 512 bytes, or 511 where the file's size says that the last byte was never written.
pub fn end_span(file_len: Len) -> Option<Span> {
    let len = if file_len.get() % 512 == 511 { Len::new(511) } else { FOOTER_LEN };
    Span::between(file_len.checked_sub(len)?.end(), file_len.end())
}

/// Reads the footer at `span`; the inner error says why there is none.
fn read(file: &dyn ReadAt, span: Span) -> Result<std::result::Result<Footer, String>> {
    let mut bytes = [0_u8; 512];
    let there = bytes.get_mut(..span.len().to_usize()).unwrap_or_default();
    file.read_at(span.start(), there)?;
    let Ok(footer) = Footer::read_from_bytes(&bytes) else { return Ok(Err("it is too short".to_owned())) };
    if footer.cookie == layout::POISON_COOKIE {
        return Err(Error::refused(
            "the VHD is in the middle of an operation of tapdisk (its footer says 'v_poison')",
            Some("let tapdisk or vhd-util replay or revert its journal first"),
        ));
    }
    Ok(validate(&footer).map(|()| footer))
}

fn validate(footer: &Footer) -> std::result::Result<(), String> {
    if footer.cookie != layout::FOOTER_COOKIE {
        return Err(format!("the cookie is '{}', expected 'conectix'", Printable(&footer.cookie)));
    }
    if let Err(mismatch) = verify_hidden(footer) {
        return Err(mismatch.to_string());
    }
    if footer.file_format_version.get() >> 16 != layout::VERSION >> 16 {
        return Err(format!("the version is {:#x}, expected 0x10000", footer.file_format_version.get()));
    }
    if !matches!(footer.disk_type.get(), FIXED | DYNAMIC | DIFFERENCING) {
        return Err(format!("the type is {}, expected 2, 3 or 4", footer.disk_type.get()));
    }
    Ok(())
}

/// The earliest tapdisk set `hidden` without a new checksum.
fn verify_hidden(footer: &Footer) -> std::result::Result<(), ondisk::Mismatch> {
    footer.verify(&()).or_else(|mismatch| {
        let early = matches!(footer.creator_version.get(), 0x0000_0001 | 0x0001_0001);
        let visible = Footer { hidden: 0, ..*footer };
        if early && &footer.creator_application == b"tap\0" && visible.verify(&()).is_ok() {
            Ok(())
        } else {
            Err(mismatch)
        }
    })
}

/// Finds the footer by which the image is to be opened.
pub fn find(file: &dyn ReadAt) -> Result<Footers> {
    let Some(end) = end_span(file.len()) else {
        return Err(Error::corrupt(
            WHAT,
            Offset::ZERO,
            format!("the file has {} bytes, a footer alone has 512", file.len()),
        ));
    };
    let at_end = read(file, end)?;
    let head = Span::whole(FOOTER_LEN.min(file.len()));
    // The first sector of a fixed image is the guest's, who may write "v_poison" there as well.
    let at_head = match (&at_end, read(file, head)) {
        (Ok(footer), Err(Error::Refused { .. })) if footer.disk_type.get() == FIXED => {
            Err("the first sector is the guest's".to_owned())
        }
        (_, read) => read?.and_then(|footer| match footer.disk_type.get() {
            FIXED => Err("it is the footer of a fixed image, which has no copy".to_owned()),
            _ => Ok(footer),
        }),
    };
    match (at_end, at_head) {
        (Ok(footer), at_head) if footer.disk_type.get() == FIXED => fixed(file, end, footer, at_head.is_ok()),
        (Ok(footer), Ok(copy)) => twins(end, footer, &copy),
        (Ok(footer), Err(why)) => {
            Ok(Footers { footer, end, end_state: Twin::Equal, copy_state: Twin::Bad(why) })
        }
        (Err(why), Ok(footer)) => {
            Ok(Footers { footer, end, end_state: Twin::Bad(why), copy_state: Twin::Equal })
        }
        (Err(why), Err(_)) => Err(Error::corrupt(WHAT, end.start(), why)),
    }
}

fn fixed(file: &dyn ReadAt, end: Span, footer: Footer, dynamic_head: bool) -> Result<Footers> {
    if dynamic_head && super::header::read_any(file).is_ok() {
        return Err(Error::Ambiguous {
            why: "the file begins as a dynamic VHD and ends as a fixed one".to_owned(),
            choices: vec![Format::Raw],
        });
    }
    let room = end.start().get();
    if footer.current_size.get() > room {
        return Err(Error::corrupt(
            WHAT,
            end.start(),
            format!("the disk has {} bytes, the file has room for {room}", footer.current_size.get()),
        ));
    }
    Ok(Footers { footer, end, end_state: Twin::Equal, copy_state: Twin::Equal })
}

fn twins(end: Span, footer: Footer, copy: &Footer) -> Result<Footers> {
    let same_image = footer.disk_type == copy.disk_type
        && footer.data_offset == copy.data_offset
        && footer.unique_id == copy.unique_id;
    if !same_image {
        return Err(Error::corrupt(
            WHAT,
            end.start(),
            "it and the copy at byte 0 are those of different images",
        ));
    }
    let bytes = end.len().to_usize();
    let equal = footer.as_bytes().get(..bytes) == copy.as_bytes().get(..bytes);
    let copy_state = if equal { Twin::Equal } else { Twin::Differs };
    Ok(Footers { footer, end, end_state: Twin::Equal, copy_state })
}

/// A footer of a fixed image that is not the last thing in its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Misplaced {
    /// Where it is.
    pub footer: Span,
    /// The length that the file should have.
    pub len: Len,
}

/// Finds the footer of a fixed image before the end of the file: it must lie directly behind the disk that it describes,
/// be the only one, and have nothing behind it but zeros or a little garbage.
pub fn misplaced(file: &dyn ReadAt) -> Result<Option<Misplaced>> {
    let stored = last_byte(file)?;
    let end = round_up(stored.get(), 512).unwrap_or_default().min(file.len().get());
    let start = end.saturating_sub(SEARCHED.get()).next_multiple_of(512);
    let Some(window) = Span::between(Offset::new(start), Offset::new(end)) else { return Ok(None) };
    let mut bytes = vec![0; window.len().to_usize()];
    file.read_at(window.start(), &mut bytes)?;
    let mut found = None;
    for (sector, at) in bytes.chunks_exact(512).zip((start..).step_by(512)) {
        let Ok(footer) = Footer::read_from_bytes(sector) else { continue };
        let fits = footer.disk_type.get() == FIXED && footer.current_size.get() == at;
        if fits && validate(&footer).is_ok() && found.replace(at).is_some() {
            return Ok(None);
        }
    }
    let footer = found.and_then(|at| Span::new(Offset::new(at), FOOTER_LEN));
    let Some(footer) = footer else { return Ok(None) };
    let behind = footer.end().since(window.start()).unwrap_or_default().to_usize();
    let garbage = bytes.get(behind..).unwrap_or_default();
    let little = Len::of(garbage) <= GARBAGE_MAX || garbage.iter().all(|&byte| byte == 0);
    Ok(little.then_some(Misplaced { footer, len: Len::new(footer.end().get()) }))
}

/// Behind the last byte that is not zero.
fn last_byte(file: &dyn ReadAt) -> Result<Offset> {
    for extent in file.extents(Span::whole(file.len()))?.iter().rev().filter(|one| !one.kind.reads_zero()) {
        let mut end = extent.span.end();
        while end > extent.span.start() {
            let start = end.checked_sub(SEARCHED).unwrap_or_default().max(extent.span.start());
            let mut bytes = vec![0; end.since(start).unwrap_or_default().to_usize()];
            file.read_at(start, &mut bytes)?;
            if let Some(last) = bytes.iter().rposition(|&byte| byte != 0) {
                return Ok(Offset::new(start.get().saturating_add(to_u64(last)).saturating_add(1)));
            }
            end = start;
        }
    }
    Ok(Offset::ZERO)
}

/// Whether the file ends in the footer of a fixed image that fits the file exactly: what a probe may believe.
pub fn ends_fixed(file: &dyn ReadAt) -> Result<bool> {
    let Some(end) = end_span(file.len()) else { return Ok(false) };
    let fits =
        |footer: Footer| footer.disk_type.get() == FIXED && footer.current_size.get() == end.start().get();
    Ok(read(file, end)?.is_ok_and(fits))
}

/// Whether a right footer of an image with tables stands at byte 0.
pub fn begins_sparse(file: &dyn ReadAt) -> Result<bool> {
    if file.len() < FOOTER_LEN {
        return Ok(false);
    }
    Ok(read(file, Span::whole(FOOTER_LEN))?.is_ok_and(|footer| footer.disk_type.get() != FIXED))
}

/// Whether the file ends in the footer of an image with tables, whose header is where it says.
pub fn ends_sparse(file: &dyn ReadAt) -> Result<bool> {
    let Some(end) = end_span(file.len()) else { return Ok(false) };
    let has_header = |footer: Footer| {
        footer.disk_type.get() != FIXED && super::header::Header::read(file, &footer).is_ok()
    };
    Ok(read(file, end)?.is_ok_and(has_header))
}
