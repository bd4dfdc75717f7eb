//! The grammar: sections, assignments and lists, without recursion.

use super::lex::{Lexer, Token};
use super::{BadText, Node, u32_of};
use disk::{Budget, Limits};
use ondisk::Len;
use ondisk::num::to_u64;
use std::ops::Range;

/// Sections in sections go no deeper than this; the tools use five.
const DEPTH: usize = 16;

/// The nodes of a text, in its order.
pub(super) fn nodes(bytes: &[u8], limits: &Limits) -> Result<Vec<Node>, BadText> {
    let mut parser = Parser {
        lexer: Lexer { bytes, at: 0 },
        nodes: Vec::new(),
        open: Vec::new(),
        budget: limits.budget("the metadata of a volume group"),
    };
    parser.run()?;
    Ok(parser.nodes)
}

struct Parser<'a> {
    lexer: Lexer<'a>,
    nodes: Vec<Node>,
    /// The sections around the place at hand.
    open: Vec<usize>,
    budget: Budget,
}

impl Parser<'_> {
    fn run(&mut self) -> Result<(), BadText> {
        loop {
            let (token, place) = self.lexer.next()?;
            match token {
                // A logical volume may be called `1`.
                Token::Name(_) | Token::Number(_) => self.named(place)?,
                Token::Close => match self.open.pop() {
                    Some(section) => self.close(section, &place),
                    None => return self.lexer.bad("a brace that closes nothing"),
                },
                Token::End if self.open.is_empty() => return Ok(()),
                Token::End => return self.lexer.bad("a section without an end"),
                _ => return self.lexer.bad("something that is no name"),
            }
        }
    }

    fn named(&mut self, name: Range<u32>) -> Result<(), BadText> {
        let (token, place) = self.lexer.next()?;
        match token {
            Token::Open if self.open.len() == DEPTH => self.lexer.bad("sections in more than 16 sections"),
            Token::Open => {
                self.open.push(self.nodes.len());
                self.push(Node {
                    name,
                    value: place.end..place.end,
                    end: place.end,
                    next: 0,
                    is_section: true,
                })
            }
            Token::Equals => {
                let value = self.value()?;
                let end = value.end;
                let next = u32_of(self.nodes.len().saturating_add(1));
                self.push(Node { name, value, end, next, is_section: false })
            }
            _ => self.lexer.bad("a name without a value or section"),
        }
    }

    fn push(&mut self, node: Node) -> Result<(), BadText> {
        // A node, its name while names are compared, and as much for what a volume group is made of.
        self.budget.take(Len::new(to_u64(size_of::<Node>()).saturating_mul(4))).map_err(BadText::Memory)?;
        self.nodes.push(node);
        Ok(())
    }

    fn close(&mut self, section: usize, brace: &Range<u32>) {
        let next = u32_of(self.nodes.len());
        if let Some(node) = self.nodes.get_mut(section) {
            node.value.end = brace.start;
            node.end = brace.end;
            node.next = next;
        }
    }

    /// A value or a list of values, not of lists; its place.
    fn value(&mut self) -> Result<Range<u32>, BadText> {
        let (token, place) = self.lexer.next()?;
        match token {
            Token::Number(_) | Token::Text(_) => return Ok(place),
            Token::ListOpen => {}
            _ => return self.lexer.bad("something that is no value"),
        }
        let mut may_be_value = true;
        loop {
            let (token, end) = self.lexer.next()?;
            match token {
                Token::ListClose => return Ok(place.start..end.end),
                Token::Number(_) | Token::Text(_) if may_be_value => may_be_value = false,
                Token::Comma if !may_be_value => may_be_value = true,
                _ => return self.lexer.bad("something that belongs in no list"),
            }
        }
    }
}
