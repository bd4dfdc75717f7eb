//! Patterns for names: `*` any text, `?` any character, `[a-z]`, `[!0-9]` one of these, `\` takes the next as it is.
//!
//! 1. Matching takes at most pattern × name steps, whatever the two are: a star is only ever retried, never stacked.
//! 2. Names are bytes; `?` and classes match one UTF-8 character where there is one, else one byte.

use std::str::FromStr;

/// A pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glob(Vec<Token>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Star,
    Any,
    One(char),
    Class { inverted: bool, ranges: Vec<(char, char)> },
}

/// A text that is no pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unclosed;

impl std::fmt::Display for Unclosed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the pattern ends in the middle; write \\[ or \\\\ for the character itself")
    }
}

impl std::error::Error for Unclosed {}

impl FromStr for Glob {
    type Err = Unclosed;

    fn from_str(text: &str) -> Result<Self, Unclosed> {
        let mut tokens = Vec::new();
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            tokens.push(match c {
                '*' => Token::Star,
                '?' => Token::Any,
                '\\' => Token::One(chars.next().ok_or(Unclosed)?),
                '[' => class(&mut chars)?,
                c => Token::One(c),
            });
        }
        Ok(Self(tokens))
    }
}

/// What follows a `[`. A `]` that comes first is one of the characters.
fn class(chars: &mut std::str::Chars<'_>) -> Result<Token, Unclosed> {
    let mut ranges = Vec::new();
    let mut c = chars.next().ok_or(Unclosed)?;
    let inverted = matches!(c, '!' | '^');
    if inverted {
        c = chars.next().ok_or(Unclosed)?;
    }
    loop {
        let mut rest = chars.clone();
        if rest.next() == Some('-')
            && let Some(last) = rest.next().filter(|&last| last != ']')
        {
            ranges.push((c, last));
            *chars = rest;
        } else {
            ranges.push((c, c));
        }
        c = chars.next().ok_or(Unclosed)?;
        if c == ']' {
            return Ok(Token::Class { inverted, ranges });
        }
    }
}

impl Glob {
    /// Whether the whole name matches.
    #[must_use]
    pub fn matches(&self, name: &[u8]) -> bool {
        let (mut tokens, mut rest) = (self.0.as_slice(), name);
        // Behind the last star: where to go on with one character more for it.
        let mut retry: Option<(&[Token], &[u8])> = None;
        loop {
            match (tokens, rest) {
                ([Token::Star, behind @ ..], _) => {
                    retry = Some((behind, rest));
                    tokens = behind;
                    continue;
                }
                ([], []) => return true,
                ([token, behind @ ..], [_, ..]) => {
                    let (c, after) = first(rest);
                    if token.takes(c) {
                        (tokens, rest) = (behind, after);
                        continue;
                    }
                }
                _ => {}
            }
            match retry {
                Some((behind, from)) if !from.is_empty() => {
                    let (_, after) = first(from);
                    retry = Some((behind, after));
                    (tokens, rest) = (behind, after);
                }
                _ => return false,
            }
        }
    }
}

impl Token {
    /// Whether this takes one character; `None` is a byte that is none.
    fn takes(&self, c: Option<char>) -> bool {
        match (self, c) {
            (Self::Star | Self::Any, _) => true,
            (Self::One(want), Some(c)) => *want == c,
            (Self::Class { inverted, ranges }, Some(c)) => {
                ranges.iter().any(|&(first, last)| (first..=last).contains(&c)) != *inverted
            }
            (Self::Class { inverted, .. }, None) => *inverted,
            (Self::One(_), None) => false,
        }
    }
}

/// The first character of a name, or its first byte where that begins none, and what follows.
fn first(name: &[u8]) -> (Option<char>, &[u8]) {
    let head = name.get(..4).unwrap_or(name);
    let c = head.utf8_chunks().next().and_then(|chunk| chunk.valid().chars().next());
    (c, name.get(c.map_or(1, char::len_utf8)..).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(glob: &str, name: &[u8]) -> bool {
        glob.parse::<Glob>().unwrap().matches(name)
    }

    #[test]
    fn patterns() {
        for (glob, name) in [
            ("", ""),
            ("*", ""),
            ("*", "any"),
            ("*.conf", "a.b.conf"),
            ("a*b*c", "aXbXbXc"),
            ("?", "é"),
            ("[a-c]x", "bx"),
            ("[!a-c]", "d"),
            ("[]a]", "]"),
            ("[a-]", "-"),
            (r"\*", "*"),
            ("**", "x"),
        ] {
            assert!(matches(glob, name.as_bytes()), "{glob} {name}");
        }
        for (glob, name) in [
            ("", "x"),
            ("*.conf", "a.conf~"),
            ("a", "A"),
            ("?", ""),
            ("[a-c]", "d"),
            ("[!a-c]", "a"),
            (r"\*", "x"),
            ("a*b*c", "aXbX"),
        ] {
            assert!(!matches(glob, name.as_bytes()), "{glob} {name}");
        }
        assert!(matches("a?b", b"a\xffb") && matches("a[!x]b", b"a\xffb") && !matches("a[x]b", b"a\xffb"));
    }

    #[test]
    fn unclosed() {
        for glob in ["[", "[a", "[!", r"a\"] {
            assert_eq!(glob.parse::<Glob>(), Err(Unclosed), "{glob}");
        }
    }

    #[test]
    fn many_stars_end_soon() {
        assert!(!matches(&"*a".repeat(200), &[b'a'; 199]));
        assert!(!matches(&format!("{}b", "*a".repeat(100)), &vec![b'a'; 5000]));
    }
}
