//! Sizes as asked for, related to what is there.

use crate::{Error, Result};
use ondisk::Len;
use ondisk::num::round_up;
use ondisk::size::{Human, SizeSpec};

/// How long a disk of `present` bytes shall become; `None` where it keeps its length and only what lies on it grows.
///
/// # Errors
/// Where the size is below the present one, overflows, or has no meaning for a disk that grows.
pub fn disk_len(spec: SizeSpec, present: Len) -> Result<Option<Len>> {
    let too_large =
        || Error::Size { what: format!("{} and so much more is beyond 2^64 bytes", Human(present)) };
    let want = match spec {
        SizeSpec::Max => return Ok(None),
        SizeSpec::Total(len) if len < present => return Err(Error::smaller(len, present)),
        SizeSpec::Total(len) => len,
        SizeSpec::Plus(more) => present.checked_add(more).ok_or_else(too_large)?,
        SizeSpec::PlusPercent(percent) => {
            let more = u128::from(present.get()).saturating_mul(u128::from(percent)).div_ceil(100);
            let more = u64::try_from(more).map_err(|_| too_large())?;
            present.checked_add(Len::new(more)).ok_or_else(too_large)?
        }
        SizeSpec::Minus(_) | SizeSpec::Min => {
            return Err(Error::Size {
                what: "grow only grows: write +10G, a new total size, or max".to_owned(),
            });
        }
        SizeSpec::PlusPercentFree(_) => {
            return Err(Error::Size {
                what: "%FREE is for logical volumes; max takes what is free on the disk".to_owned(),
            });
        }
    };
    let want = round_up(want.get(), 512).map(Len::new).ok_or_else(too_large)?;
    Ok((want != present).then_some(want))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relative_and_total() {
        let present = Len::gib(10);
        let want = |text: &str| disk_len(text.parse().unwrap(), present);
        assert_eq!(want("+10G").unwrap(), Some(Len::gib(20)));
        assert_eq!(want("20G").unwrap(), Some(Len::gib(20)));
        assert_eq!(want("10G").unwrap(), None);
        assert_eq!(want("+50%").unwrap(), Some(Len::gib(15)));
        assert_eq!(want("max").unwrap(), None);
        assert_eq!(want("+1048577").unwrap(), Some(Len::new((10 << 30) + (1 << 20) + 512)));
        for text in ["9G", "-1G", "min", "+10%FREE", "+16777215.999T"] {
            assert!(want(text).is_err(), "{text}");
        }
    }
}
