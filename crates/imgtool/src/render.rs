//! Tables and trees for people.
//!
//! ```text
//! #   START    SIZE  TYPE            vm.qcow2  qcow2, 10 GiB
//! 1   1 MiB   1 GiB  EFI System      ├─ 1  EFI System, 1 GiB
//! 2   1 GiB   9 GiB  Linux           │  └─ vfat, "EFI"
//!                                    └─ 2  Linux, 9 GiB
//! ```
//!
//! 1. Every cell and every node is one line: control characters are escaped here.
//! 2. Nodes are kept flat with their depth: no tree is too deep to be drawn or dropped.

use crate::exit::one_line;
use anstyle::{Effects, Style};
use std::fmt::Display;

/// How headings and roots look.
const HEADING: Style = Style::new().effects(Effects::BOLD);

/// Columns with a heading each.
#[derive(Clone, Debug, Default)]
pub struct Table {
    head: Vec<Column>,
    rows: Vec<Vec<String>>,
}

#[derive(Clone, Debug)]
struct Column {
    name: String,
    right: bool,
}

impl Table {
    /// A table without columns.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A column of words.
    #[must_use]
    pub fn left(mut self, name: &str) -> Self {
        self.head.push(Column { name: name.to_owned(), right: false });
        self
    }

    /// A column of numbers.
    #[must_use]
    pub fn right(mut self, name: &str) -> Self {
        self.head.push(Column { name: name.to_owned(), right: true });
        self
    }

    /// Adds a row: a cell for each column.
    pub fn row<T: Display>(&mut self, cells: impl IntoIterator<Item = T>) {
        self.rows.push(cells.into_iter().map(|cell| one_line(&cell.to_string())).collect());
    }

    /// The table as lines.
    #[must_use]
    pub fn text(&self, color: bool) -> String {
        let head: Vec<String> = self.head.iter().map(|column| column.name.clone()).collect();
        let widths: Vec<usize> = (0..self.head.len())
            .map(|i| {
                let cells = self.rows.iter().chain([&head]).filter_map(|row| row.get(i));
                cells.map(|cell| cell.chars().count()).max().unwrap_or_default()
            })
            .collect();
        let mut text = styled(&self.line(&head, &widths), color);
        text.push('\n');
        for row in &self.rows {
            text.push_str(&self.line(row, &widths));
            text.push('\n');
        }
        text
    }

    fn line(&self, cells: &[String], widths: &[usize]) -> String {
        let padded = self.head.iter().zip(cells).zip(widths).map(|((column, cell), &width)| {
            if column.right { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
        });
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    }
}

/// Lines that belong to lines.
#[derive(Clone, Debug, Default)]
pub struct Tree {
    /// Each node's depth and line, parents before their children.
    nodes: Vec<(usize, String)>,
}

impl Tree {
    /// A tree without nodes.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a node behind all others: a root has depth 0, a child one more than its parent, which is the nearest
    /// node before it with a smaller depth.
    pub fn push(&mut self, depth: usize, line: impl Display) {
        let deepest = self.nodes.last().map_or(0, |(last, _)| last.saturating_add(1));
        self.nodes.push((depth.min(deepest), one_line(&line.to_string())));
    }

    /// The tree as lines.
    #[must_use]
    pub fn text(&self, color: bool) -> String {
        let mut lines = Vec::with_capacity(self.nodes.len());
        // From below: at which depths a later sibling waits to be connected.
        let mut open: Vec<bool> = Vec::new();
        for (depth, line) in self.nodes.iter().rev() {
            open.resize(depth.saturating_add(1), false);
            let (own, above) = open.split_last().map_or((false, [].as_slice()), |(own, above)| (*own, above));
            let mut drawn: String =
                above.iter().skip(1).map(|&is_open| if is_open { "│  " } else { "   " }).collect();
            if *depth == 0 {
                drawn.push_str(&styled(line, color));
            } else {
                drawn.push_str(if own { "├─ " } else { "└─ " });
                drawn.push_str(line);
            }
            lines.push(drawn);
            if let Some(own) = open.last_mut() {
                *own = true;
            }
        }
        lines.iter().rev().flat_map(|line| [line.as_str(), "\n"]).collect()
    }
}

fn styled(text: &str, color: bool) -> String {
    if color { format!("{HEADING}{text}{HEADING:#}") } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let mut table = Table::new().right("#").right("SIZE").left("NAME");
        table.row(["1", "1 GiB", "é"]);
        table.row(["12", "512 MiB", "a\u{1b}[31m"]);
        assert_eq!(table.text(false), " #     SIZE  NAME\n 1    1 GiB  é\n12  512 MiB  a\\x1b[31m\n");
        assert!(table.text(true).starts_with("\u{1b}[1m #"));
    }

    #[test]
    fn branches_are_connected() {
        let mut tree = Tree::new();
        for (depth, line) in
            [(0, "disk"), (1, "a"), (2, "b"), (3, "c"), (2, "d"), (1, "e\n"), (2, "f"), (0, "g")]
        {
            tree.push(depth, line);
        }
        let want = "disk\n├─ a\n│  ├─ b\n│  │  └─ c\n│  └─ d\n└─ e\\x0a\n   └─ f\ng\n";
        assert_eq!(tree.text(false), want);
    }

    #[test]
    fn a_node_without_a_parent_gets_one() {
        let mut tree = Tree::new();
        tree.push(5, "a");
        tree.push(9, "b");
        assert_eq!(tree.text(false), "a\n└─ b\n");
    }
}
