//! The text of LVM2's metadata: names, values and sections.
//!
//! ```text
//! vg {                        a section, in the arena before all that is in it
//! id = "y8PMAF-…"             an assignment
//! status = ["READ", "WRITE"]  # a comment
//! }
//! ```
//!
//! 1. The bytes are kept as they are and every node knows its place in them: an edit replaces places, so that unknown
//!    names, order, blanks and comments stay.
//! 2. Nodes lie in one array in the order of the text, each with the place of the next one that is not inside: nothing
//!    here recurses on input.
//! 3. No name occurs twice in a section.

mod lex;
mod parse;

use disk::Limits;
use lex::{Lexer, Token};
use ondisk::num::to_u64;
use std::ops::Range;

/// A text that cannot be read: where, and why.
#[derive(Debug)]
pub enum BadText {
    /// Against the grammar.
    Syntax {
        /// The byte.
        at: usize,
        /// What is wrong there.
        what: &'static str,
    },
    /// It needs more memory than is allowed.
    Memory(disk::Error),
}

/// Places in the text have 32 bits.
const BYTES_MAX: usize = 1 << 30;

#[derive(Clone, Debug)]
struct Node {
    name: Range<u32>,
    /// Behind the `=`, or between the braces.
    value: Range<u32>,
    /// Behind all of it.
    end: u32,
    /// The node behind this one and all that is in it.
    next: u32,
    is_section: bool,
}

/// A parsed text.
#[derive(Clone, Debug)]
pub struct Text {
    bytes: Vec<u8>,
    nodes: Vec<Node>,
}

/// A section of a text, or the whole.
#[derive(Clone, Copy, Debug)]
pub struct Section<'a> {
    text: &'a Text,
    /// `None` for the whole.
    node: Option<usize>,
}

/// An assigned value.
#[derive(Clone, Copy, Debug)]
pub struct Value<'a> {
    text: &'a Text,
    node: usize,
}

/// A value that is no list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scalar<'a> {
    /// A whole number.
    Number(i64),
    /// Any other number.
    Float,
    /// What stands between the quotes, escapes included.
    Text(&'a str),
}

/// New bytes in the place of some.
#[derive(Clone, Debug)]
pub struct Edit {
    place: Range<usize>,
    with: String,
}

impl Text {
    /// Reads a text; one NUL at its end does not belong to it.
    pub fn parse(bytes: Vec<u8>, limits: &Limits) -> Result<Self, BadText> {
        if bytes.len() > BYTES_MAX {
            return Err(BadText::Syntax { at: BYTES_MAX, what: "a text of more than 1 GiB" });
        }
        let nodes = parse::nodes(&bytes, limits)?;
        let text = Self { bytes, nodes };
        text.names_once()?;
        Ok(text)
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// All of it.
    pub const fn root(&self) -> Section<'_> {
        Section { text: self, node: None }
    }

    /// The text with other bytes in some places, which must not overlap.
    pub fn edited(&self, mut edits: Vec<Edit>, limits: &Limits) -> Result<Self, BadText> {
        edits.sort_by_key(|edit| (edit.place.start, edit.place.end));
        let mut bytes = Vec::with_capacity(self.bytes.len());
        let mut at = 0;
        for edit in &edits {
            bytes.extend_from_slice(self.bytes.get(at..edit.place.start).unwrap_or_default());
            bytes.extend_from_slice(edit.with.as_bytes());
            at = edit.place.end;
        }
        bytes.extend_from_slice(self.bytes.get(at..).unwrap_or_default());
        Self::parse(bytes, limits)
    }

    fn part(&self, range: &Range<u32>) -> &str {
        let bytes = self.bytes.get(usize_of(range.start)..usize_of(range.end)).unwrap_or_default();
        std::str::from_utf8(bytes).unwrap_or_default()
    }

    /// Invariant 3.
    fn names_once(&self) -> Result<(), BadText> {
        let mut inside: Vec<(usize, usize)> = Vec::new();
        let mut names = Vec::with_capacity(self.nodes.len());
        for (index, node) in self.nodes.iter().enumerate() {
            while inside.pop_if(|(_, end)| *end <= index).is_some() {}
            names.push((inside.last().map(|(section, _)| *section), self.part(&node.name), node.name.start));
            if node.is_section {
                inside.push((index, usize_of(node.next)));
            }
        }
        names.sort_unstable();
        let twice = names.iter().zip(names.iter().skip(1)).find(|(a, b)| (a.0, a.1) == (b.0, b.1));
        match twice {
            Some((_, again)) => {
                Err(BadText::Syntax { at: usize_of(again.2), what: "a name that the section has already" })
            }
            None => Ok(()),
        }
    }
}

impl<'a> Section<'a> {
    fn children(self) -> impl Iterator<Item = usize> + 'a {
        let nodes = &self.text.nodes;
        let own = self.node.and_then(|at| nodes.get(at));
        let end = own.map_or(nodes.len(), |node| usize_of(node.next));
        let mut at = self.node.map_or(0, |at| at.saturating_add(1));
        std::iter::from_fn(move || {
            let here = at;
            let node = nodes.get(here).filter(|_| here < end)?;
            at = usize_of(node.next);
            Some(here)
        })
    }

    fn find(self, name: &str, is_section: bool) -> Option<usize> {
        let is_it = |node: &Node| node.is_section == is_section && self.text.part(&node.name) == name;
        self.children().find(|&at| self.text.nodes.get(at).is_some_and(is_it))
    }

    /// The section of that name in it.
    pub fn section(self, name: &str) -> Option<Self> {
        self.find(name, true).map(|at| Section { text: self.text, node: Some(at) })
    }

    /// The sections in it.
    pub fn sections(self) -> impl Iterator<Item = Self> + 'a {
        let text = self.text;
        let section = move |at: &usize| text.nodes.get(*at).is_some_and(|node| node.is_section);
        self.children().filter(section).map(move |at| Section { text, node: Some(at) })
    }

    /// The value of that name.
    pub fn value(self, name: &str) -> Option<Value<'a>> {
        self.find(name, false).map(|node| Value { text: self.text, node })
    }

    /// The values in it, with their names.
    pub fn values(self) -> impl Iterator<Item = (&'a str, Value<'a>)> + 'a {
        let text = self.text;
        let value = move |at: usize| {
            let node = text.nodes.get(at).filter(|node| !node.is_section)?;
            Some((text.part(&node.name), Value { text, node: at }))
        };
        self.children().filter_map(value)
    }

    /// Its name.
    pub fn name(self) -> &'a str {
        self.node.and_then(|at| self.text.nodes.get(at)).map_or("", |node| self.text.part(&node.name))
    }

    /// Inserts text behind it.
    pub fn insert_behind(self, with: String) -> Edit {
        let end = self.node.and_then(|at| self.text.nodes.get(at));
        let end = end.map_or(self.text.bytes.len(), |node| usize_of(node.end));
        Edit { place: end..end, with }
    }
}

impl<'a> Value<'a> {
    fn node(self) -> Range<u32> {
        self.text.nodes.get(self.node).map(|node| node.value.clone()).unwrap_or_default()
    }

    /// The only value; `None` for a list.
    pub fn scalar(self) -> Option<Scalar<'a>> {
        let mut all = self.scalars();
        all.next().filter(|_| !self.text.part(&self.node()).starts_with('['))
    }

    /// A value, or those of a list.
    pub fn scalars(self) -> impl Iterator<Item = Scalar<'a>> {
        let place = self.node();
        let bytes = self.text.bytes.get(..usize_of(place.end)).unwrap_or_default();
        let mut lexer = Lexer { bytes, at: usize_of(place.start) };
        std::iter::from_fn(move || {
            loop {
                match lexer.next().ok()?.0 {
                    Token::End => return None,
                    Token::Number(number) => {
                        return Some(number.parse().map_or(Scalar::Float, Scalar::Number));
                    }
                    Token::Text(text) => return Some(Scalar::Text(text)),
                    _ => {}
                }
            }
        })
    }

    /// Whether it is written so.
    pub fn is(self, text: &str) -> bool {
        self.text.part(&self.node()) == text
    }

    /// Another value in its place. A comment behind it speaks of the old value, and goes.
    pub fn replace(self, with: String) -> Edit {
        let place = self.node();
        let end = usize_of(place.end);
        let rest = self.text.bytes.get(end..).unwrap_or_default();
        let line = rest.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let is_comment = line.trim_ascii_start().first() == Some(&b'#');
        let end = if is_comment { end.saturating_add(line.len()) } else { end };
        Edit { place: usize_of(place.start)..end, with }
    }
}

/// Invariant: places are bounded by [`BYTES_MAX`].
fn u32_of(n: usize) -> u32 {
    ondisk::num::low32(to_u64(n))
}

fn usize_of(n: u32) -> usize {
    ondisk::num::to_usize(u64::from(n))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ondisk::Len;

    const SAMPLE: &str =
        "vg {\nid = \"x\"\t# why\nlist=[\n\"a\", 7, ]\n1 { -f = -1.5 }\ne {\n}\n}\n# end\nv = 1\n";

    fn parse(text: &str) -> Result<Text, BadText> {
        Text::parse(text.as_bytes().to_vec(), &Limits::default())
    }

    #[test]
    fn names_values_and_sections() {
        let text = parse(SAMPLE).unwrap();
        let vg = text.root().section("vg").unwrap();
        assert_eq!(vg.value("id").unwrap().scalar(), Some(Scalar::Text("x")));
        let list = vg.value("list").unwrap();
        assert_eq!(list.scalar(), None);
        assert!(list.scalars().eq([Scalar::Text("a"), Scalar::Number(7)]));
        let names: Vec<_> = vg.sections().map(Section::name).collect();
        assert_eq!(names, ["1", "e"]);
        assert_eq!(vg.section("1").unwrap().value("-f").unwrap().scalar(), Some(Scalar::Float));
        assert_eq!(text.root().value("v").unwrap().scalar(), Some(Scalar::Number(1)));
        assert!(vg.value("v").is_none());
        assert_eq!(vg.section("1").unwrap().values().count(), 1);
    }

    #[test]
    fn an_edit_leaves_everything_else() {
        let text = parse(SAMPLE).unwrap();
        let vg = text.root().section("vg").unwrap();
        let edits = vec![
            text.root().value("v").unwrap().replace("2".to_owned()),
            vg.value("id").unwrap().replace("\"y\"".to_owned()),
            vg.section("1").unwrap().insert_behind("\nnew {\n}".to_owned()),
        ];
        let new = text.edited(edits, &Limits::default()).unwrap();
        let expect = SAMPLE
            .replace("\"x\"\t# why", "\"y\"")
            .replace("-1.5 }", "-1.5 }\nnew {\n}")
            .replace("v = 1", "v = 2");
        assert_eq!(std::str::from_utf8(new.bytes()).unwrap(), expect);
    }

    #[test]
    fn what_is_not_a_text() {
        let deep = "a {".repeat(17) + &"}".repeat(17);
        for bad in [
            "a",
            "a =",
            "a = b",
            "a = [",
            "a = [1 2]",
            "a = [[1]]",
            "a = [,1]",
            "a {",
            "}",
            "= 1",
            "a = \"x",
            "a = \"\\",
            "a = 1 a = 2",
            "a {} a = 2",
            "a { b = 1 b = 1 }",
            "a = 1\0b = 2",
            "a = {",
            "\u{e4} = 1",
            &deep,
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        assert!(Text::parse(b"a = \"\xff\"".to_vec(), &Limits::default()).is_err());
        for good in ["", "\0", "a=1", "a=\"\\\"\"b=[]", "a{b=1}b{b=1}\0", "a = 1 # x", &deep[3..67]] {
            assert!(parse(good).is_ok(), "{good}");
        }
    }

    #[test]
    fn memory_is_bounded() {
        let text: String = (0..1000).map(|n| format!("a{n}{{}}")).collect();
        let limits = Limits { memory: Len::kib(16), ..Limits::default() };
        assert!(matches!(Text::parse(text.into_bytes(), &limits), Err(BadText::Memory(_))));
    }
}
