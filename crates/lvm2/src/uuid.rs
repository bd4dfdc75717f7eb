//! Identifiers of volume groups, physical and logical volumes.

use std::fmt;

/// 32 characters of `0-9a-zA-Z!#`; written in groups of 6-4-4-4-4-4-6.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Uuid([u8; 32]);

const GROUPS: [usize; 7] = [6, 4, 4, 4, 4, 4, 6];

impl Uuid {
    /// From the form without dashes; `None` where another character is in it.
    #[must_use]
    pub fn new(bytes: [u8; 32]) -> Option<Self> {
        let known = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'!' | b'#');
        bytes.iter().all(known).then_some(Self(bytes))
    }

    /// From the form with dashes.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        let mut bytes = [0; 32];
        let mut into = bytes.iter_mut();
        let mut parts = text.split(|byte| *byte == b'-');
        for group in GROUPS {
            let part = parts.next().filter(|part| part.len() == group)?;
            part.iter().zip(into.by_ref().take(group)).for_each(|(byte, slot)| *slot = *byte);
        }
        if parts.next().is_some() { None } else { Self::new(bytes) }
    }
}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = self.0.iter().map(|byte| char::from(*byte));
        for (i, group) in GROUPS.into_iter().enumerate() {
            f.write_str(if i == 0 { "" } else { "-" })?;
            bytes.by_ref().take(group).try_for_each(|c| fmt::Write::write_char(f, c))?;
        }
        Ok(())
    }
}

impl fmt::Debug for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        let text = "y8PMAF-d0rp-Y0cQ-uIHy-lDub-Vvb7-6HBovB";
        assert_eq!(Uuid::parse(text.as_bytes()).unwrap().to_string(), text);
        for bad in ["", "y8PMAF", &text[1..], &format!("{text}-"), &text.replace('8', "\n")] {
            assert_eq!(Uuid::parse(bad.as_bytes()), None, "{bad:?}");
        }
    }
}
