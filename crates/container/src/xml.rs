//! XML out of an image, with bounds: no document types, no entities of its own, so many nodes and no more.

use crate::foreign::{Files, Place};
use crate::{Error, Result};
use disk::Limits;
use ondisk::text::Printable;
use ondisk::{Len, Span};
use roxmltree::{Document, ParsingOptions};

pub(crate) use roxmltree::Node;

/// So many nodes are read; an export with a thousand disks has less than a tenth of them.
const NODES_MAX: u32 = 1 << 20;
/// So many attributes may one of them have.
const ATTRIBUTES_MAX: usize = 512;

/// The text in a part of a file.
pub(crate) fn read(
    files: &Files<'_>,
    name: &'static str,
    at: Span,
    most: Len,
    limits: &Limits,
) -> Result<String> {
    if at.len() > most {
        let what = format!("it has {} bytes, which is more than any has ({most})", at.len());
        return Err(Error::corrupt(name, at.start(), what));
    }
    let mut bytes = limits.buffer(name, at.len())?;
    files.read(Place::own(at.start()), &mut bytes)?;
    String::from_utf8(bytes).map_err(|_| Error::corrupt(name, at.start(), "it is not UTF-8"))
}

/// The document in a text.
pub(crate) fn parse<'t>(name: &'static str, text: &'t str) -> Result<Document<'t>> {
    let bad = |why: String| Error::corrupt(name, ondisk::Offset::ZERO, why);
    if is_greedy(text) {
        return Err(bad("it has namespaces, or an element with very many attributes".to_owned()));
    }
    let options = ParsingOptions { allow_dtd: false, nodes_limit: NODES_MAX, ..ParsingOptions::default() };
    let parsed = Document::parse_with_options(text.trim_start_matches('\u{feff}'), options);
    parsed.map_err(|error| bad(Printable(error.to_string().as_bytes()).to_string()))
}

/// What costs more than linear time or memory: many attributes of one element, and namespaces.
fn is_greedy(text: &str) -> bool {
    text.contains("xmlns") || text.split('<').any(|tag| tag.matches('=').count() > ATTRIBUTES_MAX)
}

/// The elements of that name in a node.
pub(crate) fn children<'a, 't>(node: Node<'a, 't>, name: &'a str) -> impl Iterator<Item = Node<'a, 't>> {
    node.children().filter(move |child| child.has_tag_name(name))
}

/// The first element of that name in a node.
pub(crate) fn child<'a, 't>(node: Node<'a, 't>, name: &'a str) -> Option<Node<'a, 't>> {
    children(node, name).next()
}

/// What the first element of that name in a node holds, without the blanks around it.
pub(crate) fn child_text<'a>(node: Node<'a, '_>, name: &'a str) -> Option<&'a str> {
    child(node, name)?.text().map(str::trim)
}
