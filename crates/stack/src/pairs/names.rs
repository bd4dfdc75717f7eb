//! Names of files, without what tells one version from the next.

use std::hash::{DefaultHasher, Hash, Hasher};

/// What stands between the numbers of a version.
const BETWEEN: &[u8] = b".-_+~:";

/// A name with each version in it, digits and what stands between them, as one zero.
fn plain(name: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(name.len());
    let mut rest = name;
    while let Some((first, behind)) = rest.split_first() {
        rest = behind;
        if !first.is_ascii_digit() {
            plain.push(*first);
            continue;
        }
        plain.push(b'0');
        loop {
            let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
            rest = rest.get(digits..).unwrap_or_default();
            match rest {
                [between, next, ..] if BETWEEN.contains(between) && next.is_ascii_digit() => {
                    rest = rest.get(1..).unwrap_or_default();
                }
                _ => break,
            }
        }
    }
    plain
}

/// A value for a name in a folder that has such a value itself.
pub(super) fn within(folder: u64, name: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    (folder, name).hash(&mut hasher);
    hasher.finish()
}

/// A value for a name that is that of all its versions.
pub(super) fn versions(folder: u64, name: &[u8]) -> u64 {
    within(folder, &plain(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_a_name() {
        for (name, expected) in [
            ("libfoo.so.1.2", "libfoo.so.0"),
            ("libfoo.so.1.2.17", "libfoo.so.0"),
            ("vmlinuz-6.1.0-55-amd64", "vmlinuz-0-amd0"),
            ("6.1.0-55-amd64", "0-amd0"),
            ("module.cpython-311.pyc", "module.cpython-0.pyc"),
            ("libstdc++.so.6", "libstdc++.so.0"),
            ("1.", "0."),
            ("1..2", "0..0"),
            ("2:1.0~3+4_5", "0"),
            ("plain", "plain"),
            ("", ""),
        ] {
            assert_eq!(plain(name.as_bytes()), expected.as_bytes(), "{name}");
        }
        assert_eq!(versions(3, b"a-1.2"), versions(3, b"a-7"));
        assert_ne!(versions(3, b"a-1.2"), versions(4, b"a-1.2"));
        assert_ne!(versions(3, b"a-1"), versions(3, b"b-1"));
    }
}
