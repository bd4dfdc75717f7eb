//! Access control lists as people and archives write them.
//!
//! ```text
//! version (1)   [tag perm]              the owner, the group, the mask, others
//!               [tag perm id]           a named user or group
//! ```

use std::fmt::Write;

/// A list as ext keeps it, as text: `user::rw-,user:1000:r--,group::r--,mask::r--,other::---`; `None` where it is no list.
pub(super) fn text(value: &[u8]) -> Option<String> {
    let (version, mut rest) = value.split_first_chunk::<4>()?;
    if u32::from_le_bytes(*version) != 1 {
        return None;
    }
    let mut text = String::new();
    while let Some((head, behind)) = rest.split_first_chunk::<4>() {
        let [tag, tag_high, perm, perm_high] = *head;
        let (tag, perm) = (u16::from_le_bytes([tag, tag_high]), u16::from_le_bytes([perm, perm_high]));
        rest = behind;
        let who = match tag {
            0x01 => "user:".to_owned(),
            0x04 => "group:".to_owned(),
            0x10 => "mask:".to_owned(),
            0x20 => "other:".to_owned(),
            0x02 | 0x08 => {
                let (id, behind) = rest.split_first_chunk::<4>()?;
                rest = behind;
                let kind = if tag == 0x02 { "user" } else { "group" };
                format!("{kind}:{}", u32::from_le_bytes(*id))
            }
            _ => return None,
        };
        let comma = if text.is_empty() { "" } else { "," };
        let may = |bit: u16, letter: char| if perm & bit == 0 { '-' } else { letter };
        write!(text, "{comma}{who}:{}{}{}", may(4, 'r'), may(2, 'w'), may(1, 'x')).ok()?;
    }
    rest.is_empty().then_some(text)
}

#[cfg(test)]
mod tests {
    use super::text;

    #[test]
    fn lists() {
        let list = [
            1, 0, 0, 0, 1, 0, 6, 0, 2, 0, 4, 0, 0xe8, 3, 0, 0, 4, 0, 4, 0, 8, 0, 1, 0, 7, 0, 0, 0, 0x10, 0,
            5, 0, 0x20, 0, 0, 0,
        ];
        let want = "user::rw-,user:1000:r--,group::r--,group:7:--x,mask::r-x,other::---";
        assert_eq!(text(&list).as_deref(), Some(want));
        assert_eq!(text(&list[..list.len() - 1]), None);
        assert_eq!(text(&[2, 0, 0, 0]), None);
        assert_eq!(text(&[1, 0, 0, 0, 3, 0, 0, 0]), None);
    }
}
