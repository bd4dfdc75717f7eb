//! One Huffman code that follows what was coded so far, as xdelta3 writes it with `-S fgk`.
//!
//! Source: D. E. Knuth, Dynamic Huffman Coding, Journal of Algorithms 6 (1985); what xdelta3 3.0 reads and writes.
//!
//! A symbol that was not seen before is told as the leaf of all that were not seen, and its number among them.

use super::bits::Bits;

/// Symbols.
const SYMBOLS: u8 = u8::MAX;
/// The root is the first node.
const ROOT: usize = 0;

/// What a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Symbols that were not seen.
    Unseen,
    /// A symbol.
    Leaf(u8),
    /// The nodes for 0 and for 1.
    Inner([usize; 2]),
}

#[derive(Clone, Copy, Debug)]
struct Node {
    kind: Kind,
    parent: usize,
    weight: u64,
    /// Where in the order.
    place: usize,
}

/// The code as it stands.
pub struct Tree {
    nodes: Vec<Node>,
    /// The heaviest node first, and no node before its parent. Those of the same parent are neighbours.
    order: Vec<usize>,
    /// Symbols that were not seen, in order.
    unseen: Vec<u8>,
    /// When all were seen, the last node in the order stays there from the time on when it was the only one of its
    /// weight: it was not meant so, but whoever reads must do what the writer did.
    stays: Option<usize>,
}

impl Default for Tree {
    fn default() -> Self {
        let root = Node { kind: Kind::Unseen, parent: ROOT, weight: 0, place: 0 };
        Self { nodes: vec![root], order: vec![ROOT], unseen: (0..=SYMBOLS).collect(), stays: None }
    }
}

impl Tree {
    /// The next section, which fills `out`.
    pub fn unpack(&mut self, section: &[u8], out: &mut [u8]) -> Result<(), String> {
        let bits = &mut Bits::new(section);
        for byte in out {
            *byte =
                self.symbol(bits).map_err(|why| why.unwrap_or_else(|| "has an unknown code".to_owned()))?;
        }
        bits.end()
    }

    fn symbol(&mut self, bits: &mut Bits<'_>) -> Result<u8, Option<String>> {
        let mut at = self.root();
        loop {
            match self.node(at)?.kind {
                Kind::Inner(children) => {
                    let bit = usize::try_from(bits.bit()?).unwrap_or_default();
                    at = *children.get(bit).ok_or(None)?;
                }
                Kind::Leaf(symbol) => {
                    self.seen(at)?;
                    return Ok(symbol);
                }
                Kind::Unseen => {
                    // As many bits as the largest number may need, whatever is left.
                    let count = self.unseen.len();
                    let number = bits.number(count.next_power_of_two().ilog2())?;
                    let number = usize::try_from(number).unwrap_or_default();
                    if number >= count {
                        return Err(None);
                    }
                    let symbol = self.unseen.remove(number);
                    let leaf = self.grow(at, symbol)?;
                    self.seen(leaf)?;
                    return Ok(symbol);
                }
            }
        }
    }

    fn root(&self) -> usize {
        self.order.first().copied().unwrap_or(ROOT)
    }

    fn node(&self, at: usize) -> Result<Node, Option<String>> {
        self.nodes.get(at).copied().ok_or(None)
    }

    fn change(&mut self, at: usize) -> Result<&mut Node, Option<String>> {
        self.nodes.get_mut(at).ok_or(None)
    }

    /// Makes room for a symbol beside those that were not seen; the last one takes their place.
    fn grow(&mut self, at: usize, symbol: u8) -> Result<usize, Option<String>> {
        if self.unseen.is_empty() {
            self.change(at)?.kind = Kind::Leaf(symbol);
            return Ok(at);
        }
        let (leaf, unseen) = (self.nodes.len(), self.nodes.len().saturating_add(1));
        self.change(at)?.kind = Kind::Inner([unseen, leaf]);
        for kind in [Kind::Leaf(symbol), Kind::Unseen] {
            let place = self.order.len();
            self.order.push(self.nodes.len());
            self.nodes.push(Node { kind, parent: at, weight: 0, place });
        }
        Ok(leaf)
    }

    /// Counts a leaf, and everything above it. Before that, each takes the place of the first node of its weight.
    fn seen(&mut self, mut at: usize) -> Result<(), Option<String>> {
        while at != self.root() {
            let node = self.node(at)?;
            if node.weight > 0 && self.stays != Some(at) {
                let before = self.order.get(..node.place).unwrap_or_default();
                let heavier =
                    |other: &usize| self.nodes.get(*other).is_some_and(|other| other.weight > node.weight);
                let first = before.partition_point(heavier);
                let first = self.order.get(first).copied().ok_or(None)?;
                if first == at && self.unseen.is_empty() && node.place.saturating_add(1) == self.order.len() {
                    self.stays = Some(at);
                } else if first != at && first != node.parent {
                    self.swap(at, first)?;
                }
            }
            let node = self.change(at)?;
            node.weight = node.weight.saturating_add(1);
            at = node.parent;
        }
        let root = self.change(at)?;
        root.weight = root.weight.saturating_add(1);
        Ok(())
    }

    /// Exchanges two nodes with all that is below them.
    fn swap(&mut self, a: usize, b: usize) -> Result<(), Option<String>> {
        let (one, other) = (self.node(a)?, self.node(b)?);
        for parent in [one.parent, other.parent] {
            // Nodes of the same parent are exchanged once.
            let again = parent == one.parent && parent == other.parent;
            if let Kind::Inner(children) = &mut self.change(parent)?.kind {
                for child in children {
                    *child = if *child == a {
                        b
                    } else if *child == b {
                        a
                    } else {
                        *child
                    };
                }
            }
            if again {
                break;
            }
        }
        self.order.swap(one.place, other.place);
        let first = self.change(a)?;
        (first.parent, first.place) = (other.parent, other.place);
        let second = self.change(b)?;
        (second.parent, second.place) = (one.parent, one.place);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_symbols() {
        // Eight bits: the first symbol is the one with that number. Then 1 means it, 0 the others, with their number.
        let mut tree = Tree::default();
        let mut out = [0; 4];
        let number = |number: u8| number.reverse_bits();
        let later = u16::from(number(0x40)) << 2 | 0b01;
        let bytes = [number(b'a'), later.to_le_bytes()[0], later.to_le_bytes()[1] | 0b100];
        tree.unpack(&bytes, &mut out[..3]).unwrap();
        assert_eq!(out[..3], [b'a', b'a', 0x40]);
        assert!(tree.unpack(&[], &mut out).is_err());
    }
}
