//! What a patch says: its header, and those of its windows.

use super::layout::{self, MAGIC};
use super::secondary::Secondary;
use super::{adler, code, number};
use crate::error::{Error, Result};
use disk::{Budget, Limits, ReadAt};
use ondisk::num::{to_u64, to_usize};
use ondisk::{Len, Offset, Span};

/// A window is made in memory: the largest that is taken. xdelta3 3.0 makes up to 16 MiB, its successors 64 MiB.
pub const LARGEST: Len = Len::mib(64);
/// Text for programs: so much is kept.
const TEXT: u64 = 4096;
/// Bytes of the file that are looked at together.
const STEP: u64 = 4096;
/// Instructions and addresses for each byte that a window makes, at most, and for the window.
const EACH: u64 = 4;
const FEW: u64 = 64;

/// What the header of a window says.
#[derive(Clone, Debug)]
pub struct Window {
    /// Where it stands in the patch.
    pub at: Offset,
    /// What it makes.
    pub target: Span,
    /// The segment of the base that it copies from.
    pub source: Option<Span>,
    /// Adler-32 of what it makes.
    pub checksum: Option<u32>,
    /// Which sections are compressed.
    pub packed: u8,
    /// Where the sections begin, one behind the other.
    pub sections: Offset,
    /// Their lengths: data, instructions, addresses.
    pub lens: [u64; 3],
    /// Whether it makes nothing but zeros.
    pub zeros: bool,
}

impl Window {
    /// Bytes that a section may have, uncompressed: data, or others.
    pub fn most(&self, which: usize) -> u64 {
        let len = self.target.len().get();
        if which == 0 { len } else { len.saturating_mul(EACH).saturating_add(FEW) }
    }
}

/// What a patch says about itself.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Bytes of the patch.
    pub len: Len,
    /// Bytes of the target.
    pub target: Len,
    /// Bytes that the base has at least; none where there is nothing copied from one.
    pub base: Option<Len>,
    /// Number of windows.
    pub windows: u64,
    /// Number of windows without a checksum.
    pub unchecked: u64,
    /// What sections are compressed with.
    pub secondary: Option<Secondary>,
    /// Text for programs: what xdelta3 was called with.
    pub text: Vec<u8>,
}

/// A patch.
pub struct Vcdiff<D> {
    file: D,
    facts: Facts,
    windows: Vec<Window>,
}

/// Whether a file begins as a VCDIFF does.
///
/// # Errors
/// Where it cannot be read.
pub fn is_vcdiff(file: &dyn ReadAt) -> disk::Result<bool> {
    let mut head = [0; 3];
    if file.len() < Len::of(&head) {
        return Ok(false);
    }
    file.read_at(Offset::ZERO, &mut head)?;
    Ok(MAGIC.starts_with(&head))
}

impl<D: ReadAt> Vcdiff<D> {
    /// Reads the headers.
    ///
    /// # Errors
    /// Where that is no VCDIFF, a damaged one, or one that needs what is not known here.
    pub fn open(file: D, limits: &Limits) -> Result<Self> {
        let mut input = Input { file: &file, at: 0, start: 0, buffer: Vec::new() };
        let (secondary, text) = head(&mut input)?;
        let budget = limits.budget("the list of windows");
        let mut facts = Facts {
            len: file.len(),
            target: Len::ZERO,
            base: None,
            windows: 0,
            unchecked: 0,
            secondary,
            text,
        };
        let mut windows = Vec::new();
        while input.at < file.len().get() {
            let mut window = window(&mut input, facts.target, secondary)?;
            window.zeros = zeros(&window, &mut input)?;
            note(&mut facts, &window, &budget)?;
            input.at = window.lens.iter().fold(window.sections.get(), |at, len| at.saturating_add(*len));
            windows.push(window);
        }
        Ok(Self { file, facts, windows })
    }

    /// What the patch says about itself.
    pub const fn facts(&self) -> &Facts {
        &self.facts
    }

    /// The windows, in order.
    pub fn windows(&self) -> &[Window] {
        &self.windows
    }

    /// The sections of a window, as they are stored.
    pub fn sections(&self, window: &Window, limits: &Limits) -> Result<[Vec<u8>; 3]> {
        let mut at = window.sections;
        let mut sections = [Vec::new(), Vec::new(), Vec::new()];
        for (section, len) in sections.iter_mut().zip(window.lens) {
            let span = Span::new(at, Len::new(len)).unwrap_or_default();
            *section = limits.buffer("a section", span.len())?;
            self.file.read_at(at, section)?;
            at = span.end();
        }
        Ok(sections)
    }
}

/// Takes the header of the patch: what sections are compressed with, and text for programs.
fn head<D: ReadAt>(input: &mut Input<'_, D>) -> Result<(Option<Secondary>, Vec<u8>)> {
    if !is_vcdiff(input.file)? {
        return Err(Error::NoPatch { why: "it does not begin with 'imgdelta', nor as a VCDIFF does" });
    }
    for known in MAGIC {
        if input.byte("the header")? != known {
            return Err(Error::Unsupported {
                what: "a VCDIFF of another version than that of RFC 3284".to_owned(),
            });
        }
    }
    let flags = input.byte("the header")?;
    if flags & !layout::header::ALL != 0 {
        return Err(Error::Unsupported {
            what: format!("a VCDIFF whose header has unknown flags ({flags:#x})"),
        });
    }
    let mut secondary = None;
    if flags & layout::header::SECONDARY != 0 {
        let id = input.byte("the header")?;
        let unknown = || Error::Unsupported { what: format!("a VCDIFF with secondary compressor {id}") };
        secondary = Some(Secondary::of(id).ok_or_else(unknown)?);
    }
    if flags & layout::header::CODE_TABLE != 0 {
        return Err(Error::Unsupported { what: "a VCDIFF with a code table of its own".to_owned() });
    }
    let mut text = Vec::new();
    if flags & layout::header::APPLICATION != 0 {
        let len = input.number("the header")?;
        let end = input.at.checked_add(len).filter(|end| *end <= input.file.len().get());
        let end =
            end.ok_or_else(|| input.damaged("the header", "has a text that passes the end of the file"))?;
        text.resize(to_usize(len.min(TEXT)), 0);
        input.file.read_at(Offset::new(input.at), &mut text)?;
        input.at = end;
    }
    Ok((secondary, text))
}

/// Takes the header of a window, which makes what lies behind `made`.
fn window<D: ReadAt>(input: &mut Input<'_, D>, made: Len, secondary: Option<Secondary>) -> Result<Window> {
    const WHAT: &str = "the window";
    let at = Offset::new(input.at);
    let wrong = |why: &str| Error::damaged(WHAT, at, why);
    let flags = input.byte(WHAT)?;
    if flags & !layout::window::ALL != 0 {
        return Err(wrong("has unknown flags"));
    }
    if flags & layout::window::TARGET != 0 {
        let what = "a VCDIFF that copies from windows before (VCD_TARGET)".to_owned();
        return Err(Error::Unsupported { what });
    }
    let mut source = None;
    if flags & layout::window::SOURCE != 0 {
        let (len, start) = (input.number(WHAT)?, input.number(WHAT)?);
        let span = Span::new(Offset::new(start), Len::new(len));
        source = Some(span.ok_or_else(|| wrong("copies from behind what a disk can have"))?);
    }
    let encoded = input.number(WHAT)?;
    let end = input.at.checked_add(encoded).filter(|end| *end <= input.file.len().get());
    let end = end.ok_or_else(|| wrong("passes the end of the file"))?;
    let len = Len::new(input.number(WHAT)?);
    if len > LARGEST {
        return Err(Error::TooLarge { what: "a window of the patch", len, limit: LARGEST });
    }
    let target = Span::new(Offset::new(made.get()), len);
    let packed = input.byte(WHAT)?;
    if packed & !layout::packed::ALL != 0 || (packed != 0 && secondary.is_none()) {
        return Err(wrong("has compressed sections of an unknown kind"));
    }
    let lens = [input.number(WHAT)?, input.number(WHAT)?, input.number(WHAT)?];
    let has_sum = flags & layout::window::ADLER32 != 0;
    let checksum = has_sum.then(|| input.word(WHAT)).transpose()?;
    let sections = Offset::new(input.at);
    let behind = lens.iter().try_fold(sections.get(), |at, len| at.checked_add(*len));
    if behind != Some(end) {
        return Err(wrong("has sections that do not fill it"));
    }
    let target = target.ok_or_else(|| wrong("lies behind what a disk can have"))?;
    let window = Window { at, target, source, checksum, packed, sections, lens, zeros: false };
    let raw = (0..3).zip(lens).zip(layout::packed::EACH).filter(|(_, flag)| packed & flag == 0);
    if raw.into_iter().any(|((which, len), _)| len > window.most(which)) {
        return Err(wrong("has larger sections than make sense"));
    }
    Ok(window)
}

/// Whether a window has no data but one zero, and copies nothing: it makes zeros. As nobody reads those, its
/// instructions and its checksum are looked at here.
fn zeros<D: ReadAt>(window: &Window, input: &mut Input<'_, D>) -> Result<bool> {
    let [data, instructions, addresses] = window.lens;
    if window.packed != 0 || data != 1 || addresses != 0 || instructions > STEP {
        return Ok(false);
    }
    if input.byte("the window")? != 0 {
        return Ok(false);
    }
    let bytes = input.bytes(instructions)?;
    let mut rest = bytes.as_slice();
    let (mut made, mut runs) = (0_u64, 0_u64);
    while let Some((byte, behind)) = rest.split_first() {
        rest = behind;
        for half in code::both(*byte) {
            match half.kind {
                code::Kind::Nothing => continue,
                code::Kind::Run => {}
                code::Kind::Add | code::Kind::Copy(_) => return Ok(false),
            }
            let size = if half.size == 0 { number::take(&mut rest) } else { Some(u64::from(half.size)) };
            made = size.and_then(|size| made.checked_add(size)).unwrap_or(u64::MAX);
            runs = runs.saturating_add(1);
        }
    }
    let len = window.target.len().get();
    let sum = adler::zeros(adler::of(&[]), len);
    // Whatever is wrong with it is found when it is made.
    Ok(runs == 1 && made == len && window.checksum.is_none_or(|told| told == sum))
}

/// Adds a window up.
fn note(facts: &mut Facts, window: &Window, budget: &Budget) -> Result<()> {
    budget.take(Len::new(to_u64(size_of::<Window>())))?;
    facts.target = Len::new(window.target.end().get());
    facts.windows = facts.windows.saturating_add(1);
    if window.checksum.is_none() {
        facts.unchecked = facts.unchecked.saturating_add(1);
    }
    if let Some(source) = window.source {
        let end = Len::new(source.end().get());
        facts.base = Some(facts.base.map_or(end, |base| base.max(end)));
    }
    Ok(())
}

/// A file that is read from its beginning on.
struct Input<'a, D> {
    file: &'a D,
    at: u64,
    /// What was read, and where it lies.
    start: u64,
    buffer: Vec<u8>,
}

impl<D: ReadAt> Input<'_, D> {
    fn damaged(&self, what: &'static str, why: &str) -> Error {
        Error::damaged(what, Offset::new(self.at), why)
    }

    fn byte(&mut self, what: &'static str) -> Result<u8> {
        let within = self.at.checked_sub(self.start).map(to_usize);
        if within.is_none_or(|within| within >= self.buffer.len()) {
            let len = self.file.len().get().saturating_sub(self.at).min(STEP);
            self.buffer.resize(to_usize(len), 0);
            self.start = self.at;
            self.file.read_at(Offset::new(self.at), &mut self.buffer)?;
        }
        let within = to_usize(self.at.saturating_sub(self.start));
        let byte = self.buffer.get(within).copied().ok_or_else(|| self.damaged(what, "is cut off"))?;
        self.at = self.at.saturating_add(1);
        Ok(byte)
    }

    fn bytes(&mut self, len: u64) -> Result<Vec<u8>> {
        (0..len).map(|_| self.byte("the window")).collect()
    }

    fn word(&mut self, what: &'static str) -> Result<u32> {
        let mut word = [0; 4];
        for byte in &mut word {
            *byte = self.byte(what)?;
        }
        Ok(u32::from_be_bytes(word))
    }

    fn number(&mut self, what: &'static str) -> Result<u64> {
        let mut bytes = Vec::new();
        loop {
            let byte = self.byte(what)?;
            bytes.push(byte);
            if byte & 0x80 == 0 || bytes.len() > 10 {
                let number = number::take(&mut bytes.as_slice());
                return number.ok_or_else(|| self.damaged(what, "has a number of more than 64 bits"));
            }
        }
    }
}
