//! The text as words: names, numbers, strings and marks.

use super::{BadText, u32_of};
use std::ops::Range;

/// A word of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token<'a> {
    Name(&'a str),
    Number(&'a str),
    Text(&'a str),
    Equals,
    Open,
    Close,
    ListOpen,
    ListClose,
    Comma,
    End,
}

/// The words of a text, one after the other.
pub(super) struct Lexer<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) at: usize,
}

const fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'+' | b'-' | b'/')
}

impl<'a> Lexer<'a> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn advance(&mut self) {
        self.at = self.at.saturating_add(1);
    }

    pub(super) fn bad<T>(&self, what: &'static str) -> Result<T, BadText> {
        Err(BadText::Syntax { at: self.at, what })
    }

    /// The next token, and its place.
    pub(super) fn next(&mut self) -> Result<(Token<'a>, Range<u32>), BadText> {
        while let Some(byte) = self.peek() {
            match byte {
                b'#' => self.skip_line(),
                byte if byte.is_ascii_whitespace() => self.advance(),
                _ => break,
            }
        }
        let start = self.at;
        let token = match self.peek() {
            None => Token::End,
            Some(0) if start.saturating_add(1) == self.bytes.len() => Token::End,
            Some(b'"') => self.quoted()?,
            Some(byte) if is_word(byte) => self.word()?,
            Some(byte) => {
                self.advance();
                match byte {
                    b'=' => Token::Equals,
                    b'{' => Token::Open,
                    b'}' => Token::Close,
                    b'[' => Token::ListOpen,
                    b']' => Token::ListClose,
                    b',' => Token::Comma,
                    _ => return Err(BadText::Syntax { at: start, what: "an unexpected character" }),
                }
            }
        };
        Ok((token, u32_of(start)..u32_of(self.at)))
    }

    fn skip_line(&mut self) {
        while self.peek().is_some_and(|byte| byte != b'\n') {
            self.advance();
        }
    }

    fn quoted(&mut self) -> Result<Token<'a>, BadText> {
        self.advance();
        let start = self.at;
        loop {
            match self.peek() {
                None => return self.bad("a string without an end"),
                Some(b'"') => break,
                Some(b'\\') => {
                    self.advance();
                    self.advance();
                }
                Some(_) => self.advance(),
            }
        }
        let bytes = self.bytes.get(start..self.at).unwrap_or_default();
        self.advance();
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(Token::Text(text)),
            Err(_) => self.bad("a string that is not UTF-8"),
        }
    }

    fn word(&mut self) -> Result<Token<'a>, BadText> {
        let start = self.at;
        while self.peek().is_some_and(is_word) {
            self.advance();
        }
        let word = self.bytes.get(start..self.at).and_then(|bytes| std::str::from_utf8(bytes).ok());
        let Some(word) = word else { return self.bad("a name that is not ASCII") };
        let digits = word.strip_prefix('-').unwrap_or(word);
        let number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        Ok(if number { Token::Number(word) } else { Token::Name(word) })
    }
}
