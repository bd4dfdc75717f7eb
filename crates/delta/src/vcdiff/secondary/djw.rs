//! Huffman codes, up to eight for each section, as xdelta3 writes them with `-S djw`.
//!
//! ```text
//! 3 bits                        number of codes, less one
//! 5 bits, with several codes    symbols for which one code is used, divided by five, less one
//! 4 bits                        number of lengths that follow, less seven
//! 4 bits each                   lengths of the code for code lengths
//! code lengths                  256 for each code: moved to the front, runs counted
//! 3 bits each, several codes    lengths of the code for choices: one more than there are codes
//! choices                       one for each stretch of symbols: moved to the front, runs counted
//! symbols
//! ```
//!
//! Source: what xdelta3 3.0 reads and writes.

use super::bits::Bits;

/// Symbols of a code.
const SYMBOLS: usize = 256;
/// The longest code.
const LONGEST: usize = 20;
/// Lengths of the code for code lengths: two for runs, one for each length but the first.
const LENGTHS: usize = 22;
/// Lengths that are always told.
const TOLD: u32 = 7;
/// Code lengths in the order in which they are expected.
const EXPECTED: [u8; 21] = [0, 4, 5, 6, 7, 8, 9, 10, 3, 11, 2, 12, 13, 1, 14, 15, 16, 17, 18, 19, 20];

/// A section, which fills `out`.
pub fn unpack(section: &[u8], out: &mut [u8]) -> Result<(), String> {
    let bits = &mut Bits::new(section);
    let count = usize::try_from(bits.number(3)?).unwrap_or_default().saturating_add(1);
    let stretch = if count > 1 { usize::try_from(bits.number(5)?).unwrap_or_default() } else { 0 };
    let stretch = if count > 1 { stretch.saturating_add(1).saturating_mul(5) } else { out.len().max(1) };
    let told = bits.number(4)?.saturating_add(TOLD);
    let mut lengths = told_lengths(bits, told, 4)?;
    lengths.resize(LENGTHS, 0);
    let code = Code::new(&lengths);
    let lengths = values(bits, &code, &mut EXPECTED.to_vec(), SYMBOLS.saturating_mul(count), Some(SYMBOLS))?;
    let codes: Vec<Code> = lengths.chunks(SYMBOLS).map(Code::new).collect();
    let mut choices = vec![0];
    if count > 1 {
        let most = u8::try_from(count).unwrap_or_default();
        let code = Code::new(&told_lengths(bits, u32::from(most).saturating_add(1), 3)?);
        choices = values(bits, &code, &mut (0..most).collect(), out.len().div_ceil(stretch), None)?;
    }
    for (part, choice) in out.chunks_mut(stretch).zip(choices) {
        let code = codes.get(usize::from(choice)).ok_or("chooses an unknown code")?;
        for byte in part {
            *byte = u8::try_from(code.symbol(bits)?).map_err(|_| "has an unknown symbol")?;
        }
    }
    bits.end()
}

fn told_lengths(bits: &mut Bits<'_>, count: u32, each: u32) -> Result<Vec<u8>, String> {
    (0..count).map(|_| Ok(ondisk::num::low8(u64::from(bits.number(each)?)))).collect()
}

/// A canonical code: shorter codes come first, and among those of a length the smaller symbols.
struct Code {
    /// How many codes there are of each length.
    counts: [u32; LONGEST + 1],
    symbols: Vec<u32>,
}

impl Code {
    /// The code with these lengths; 0: a symbol has none.
    fn new(lengths: &[u8]) -> Self {
        let mut counts = [0; LONGEST + 1];
        let mut symbols: Vec<(u8, u32)> =
            lengths.iter().copied().zip(0..).filter(|(len, _)| *len > 0).collect();
        for (len, _) in &symbols {
            if let Some(count) = counts.get_mut(usize::from(*len)) {
                *count = u32::saturating_add(*count, 1);
            }
        }
        symbols.sort_unstable();
        Self { counts, symbols: symbols.into_iter().map(|(_, symbol)| symbol).collect() }
    }

    /// The next symbol.
    fn symbol(&self, bits: &mut Bits<'_>) -> Result<u32, String> {
        let (mut code, mut first, mut passed) = (0_u32, 0_u32, 0_u32);
        for count in self.counts.iter().skip(1) {
            code |= bits.bit()?;
            let within = code.checked_sub(first).filter(|within| within < count);
            if let Some(within) = within {
                let symbol = usize::try_from(passed.saturating_add(within)).ok();
                return symbol
                    .and_then(|at| self.symbols.get(at))
                    .copied()
                    .ok_or("has an unknown code".to_owned());
            }
            passed = passed.saturating_add(*count);
            first = first.saturating_add(*count).wrapping_shl(1);
            code = code.wrapping_shl(1);
        }
        Err("has an unknown code".to_owned())
    }
}

/// Takes `count` values. Symbols 0 and 1 are digits of how often the last value is repeated, others tell how far the
/// value is from the front of the list. What was 0 `skip` values before is 0 and not told.
fn values(
    bits: &mut Bits<'_>,
    code: &Code,
    front: &mut Vec<u8>,
    count: usize,
    skip: Option<usize>,
) -> Result<Vec<u8>, String> {
    let mut values: Vec<u8> = Vec::new();
    let (mut repeat, mut digit, mut told) = (0_u32, 0_u32, None);
    while values.len() < count {
        let before = skip.and_then(|skip| values.get(values.len().checked_sub(skip)?));
        if before == Some(&0) {
            values.push(0);
        } else if repeat > 0 {
            values.push(front.first().copied().unwrap_or_default());
            repeat = repeat.saturating_sub(1);
        } else if let Some(value) = told.take() {
            values.push(value);
        } else {
            let symbol = code.symbol(bits)?;
            if symbol <= 1 {
                repeat = symbol.saturating_add(1).checked_shl(digit).ok_or("repeats a value too often")?;
                digit = digit.saturating_add(1);
            } else {
                digit = 0;
                let at = usize::try_from(symbol).unwrap_or_default().saturating_sub(1);
                if at >= front.len() {
                    return Err("has a value that is none".to_owned());
                }
                let value = front.remove(at);
                front.insert(0, value);
                told = Some(value);
            }
        }
    }
    if repeat > 0 { Err("repeats a value too often".to_owned()) } else { Ok(values) }
}
