//! Sizes as people write them: `10G`, `+10GiB`, `10GB`, `4096s`, `+50%`, `max`.

use crate::unit::Len;
use std::fmt;
use std::str::FromStr;

/// A size as typed, not yet related to anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SizeSpec {
    /// A total.
    Total(Len),
    /// So much more.
    Plus(Len),
    /// So much less.
    Minus(Len),
    /// More by a percentage of the present size.
    PlusPercent(u32),
    /// More by a percentage of the free space.
    PlusPercentFree(u32),
    /// As much as there is.
    Max,
    /// As little as possible.
    Min,
}

/// Why a text is not a size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BadSize {
    /// Not of the form of a size.
    Form,
    /// A bare number below 1 MiB: most likely a unit was forgotten.
    NoUnit(u64),
    /// More than 2⁶⁴ bytes.
    TooLarge,
}

impl fmt::Display for BadSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Form => f.write_str("not a size; write 10G, +512M, 4096s, +50%, max or a number of bytes"),
            Self::NoUnit(n) => write!(f, "{n} bytes is less than 1 MiB; for {n} GiB write {n}G"),
            Self::TooLarge => f.write_str("the size is beyond 2^64 bytes"),
        }
    }
}

impl std::error::Error for BadSize {}

impl FromStr for SizeSpec {
    type Err = BadSize;

    fn from_str(text: &str) -> Result<Self, BadSize> {
        match text {
            "max" => return Ok(Self::Max),
            "min" => return Ok(Self::Min),
            _ => {}
        }
        if let Some(percent) = text.strip_prefix('+').and_then(|rest| rest.strip_suffix("%FREE")) {
            return Ok(Self::PlusPercentFree(whole(percent)?));
        }
        if let Some(percent) = text.strip_prefix('+').and_then(|rest| rest.strip_suffix('%')) {
            return Ok(Self::PlusPercent(whole(percent)?));
        }
        if let Some(rest) = text.strip_prefix('+') {
            parse_len(rest).map(Self::Plus)
        } else if let Some(rest) = text.strip_prefix('-') {
            parse_len(rest).map(Self::Minus)
        } else {
            parse_len(text).map(Self::Total)
        }
    }
}

/// Reads an absolute size: a decimal number, with an optional fraction, and a unit.
///
/// # Errors
/// Where the text is no size, has no unit and is below 1 MiB, or is too large.
pub fn parse_len(text: &str) -> Result<Len, BadSize> {
    let len = parse_bytes(text)?;
    let plain = text.bytes().all(|byte| byte.is_ascii_digit());
    if plain && len.get() < 1 << 20 { Err(BadSize::NoUnit(len.get())) } else { Ok(len) }
}

/// As [`parse_len`], where few bytes without a unit are meant as such: a position, a part.
///
/// # Errors
/// Where the text is no size, or is too large.
pub fn parse_bytes(text: &str) -> Result<Len, BadSize> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(digits).ok_or(BadSize::Form)?;
    let factor = unit_bytes(unit)?;
    let (int, fraction) = number.split_once('.').unwrap_or((number, ""));
    if int.is_empty() || number.ends_with('.') || (factor == 1 && !fraction.is_empty()) {
        return Err(BadSize::Form);
    }
    let int: u64 = whole(int)?;
    let bytes = int.checked_mul(factor).ok_or(BadSize::TooLarge)?;
    let bytes = bytes.checked_add(fraction_of(fraction, factor)?).ok_or(BadSize::TooLarge)?;
    Ok(Len::new(bytes))
}

fn whole<T: FromStr>(digits: &str) -> Result<T, BadSize> {
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(BadSize::Form);
    }
    digits.parse().map_err(|_| BadSize::TooLarge)
}

/// `0.digits * factor`, rounded down; digits beyond the ninth do not matter.
fn fraction_of(digits: &str, factor: u64) -> Result<u64, BadSize> {
    if digits.is_empty() {
        return Ok(0);
    }
    let digits = digits.get(..digits.len().min(9)).ok_or(BadSize::Form)?;
    let numerator: u64 = whole(digits)?;
    let denominator = digits.bytes().fold(1_u128, |power, _| power.saturating_mul(10));
    let product = u128::from(numerator).saturating_mul(u128::from(factor));
    u64::try_from(product.checked_div(denominator).ok_or(BadSize::Form)?).map_err(|_| BadSize::TooLarge)
}

fn unit_bytes(unit: &str) -> Result<u64, BadSize> {
    let lower = unit.to_ascii_lowercase();
    Ok(match lower.as_str() {
        "" | "b" => 1,
        "s" => 512,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        "t" | "tib" => 1 << 40,
        "p" | "pib" => 1 << 50,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000,
        _ => return Err(BadSize::Form),
    })
}

/// A size for people: the largest binary unit that leaves at least 1, with one decimal where it is not whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Human(pub Len);

impl fmt::Display for Human {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.0.get();
        for (shift, unit) in [(50, "PiB"), (40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")] {
            if bytes >> shift > 0 {
                let tenths = (u128::from(bytes) * 10) >> shift;
                let (int, tenth) = (tenths / 10, tenths % 10);
                return if tenth == 0 {
                    write!(f, "{int} {unit}")
                } else {
                    write!(f, "{int}.{tenth} {unit}")
                };
            }
        }
        write!(f, "{bytes} B")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn total(text: &str) -> u64 {
        match text.parse::<SizeSpec>().unwrap() {
            SizeSpec::Total(len) => len.get(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn units() {
        assert_eq!(total("10G"), 10 << 30);
        assert_eq!(total("10gib"), 10 << 30);
        assert_eq!(total("10GB"), 10_000_000_000);
        assert_eq!(total("1.5T"), 3 << 39);
        assert_eq!(total("4096s"), 4096 * 512);
        assert_eq!(total("1048576"), 1 << 20);
        assert_eq!("+10G".parse(), Ok(SizeSpec::Plus(Len::gib(10))));
        assert_eq!("-2G".parse(), Ok(SizeSpec::Minus(Len::gib(2))));
        assert_eq!("+50%".parse(), Ok(SizeSpec::PlusPercent(50)));
        assert_eq!("+100%FREE".parse(), Ok(SizeSpec::PlusPercentFree(100)));
        assert_eq!("max".parse(), Ok(SizeSpec::Max));
    }

    #[test]
    fn refusals() {
        for text in ["", "G", "+", "1..5G", "1.G", "10X", "1.5", "ten", "++1G", "+-1G", "-", "0x10M"] {
            assert_eq!(text.parse::<SizeSpec>(), Err(BadSize::Form), "{text}");
        }
        assert_eq!("10".parse::<SizeSpec>(), Err(BadSize::NoUnit(10)));
        assert_eq!("99999999T".parse::<SizeSpec>(), Err(BadSize::TooLarge));
        assert_eq!("99999999999999999999".parse::<SizeSpec>(), Err(BadSize::TooLarge));
    }

    #[test]
    fn for_people() {
        assert_eq!(Human(Len::new(1536)).to_string(), "1.5 KiB");
        assert_eq!(Human(Len::gib(10)).to_string(), "10 GiB");
        assert_eq!(Human(Len::new(5)).to_string(), "5 B");
    }
}
