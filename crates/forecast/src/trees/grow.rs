//! One tree: leaf after leaf, always the split that gains most; sums by bin, the larger child's by subtraction.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::Settings;
use super::bins::BINS;
use crate::quantiles::COUNT;

/// Three projected gradients and a count; of a row or summed over a bin.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Cell(pub [f32; 4]);

impl Cell {
    fn add(&mut self, other: Cell) {
        for (a, b) in self.0.iter_mut().zip(other.0) {
            *a += b;
        }
    }

    fn less(self, other: Cell) -> Cell {
        Cell(std::array::from_fn(|i| self.0[i] - other.0[i]))
    }

    /// What its rows would gain by a step of their own.
    fn gain(self) -> f32 {
        let [a, b, c, n] = self.0;
        (a * a + b * b + c * c) / (n + 1.0)
    }
}

/// Inner nodes, then steps of leaves.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Tree {
    nodes: Vec<Node>,
    /// By leaf and level.
    pub steps: Vec<[f32; COUNT]>,
}

/// Rows whose bin is at most `bin` go to the first child. A child is a node, or a leaf with [`LEAF`] set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Node {
    column: u16,
    bin: u8,
    children: [u16; 2],
}

const LEAF: u16 = 1 << 15;

impl Tree {
    /// The step of the leaf that a binned row falls into.
    pub fn leaf(&self, row: &[u8]) -> &[f32; COUNT] {
        let mut at = if self.nodes.is_empty() { LEAF } else { 0 };
        while at & LEAF == 0 {
            let node = &self.nodes[usize::from(at)];
            at = node.children[usize::from(row[usize::from(node.column)] > node.bin)];
        }
        &self.steps[usize::from(at & !LEAF)]
    }
}

/// Sums by column and bin.
type Sums = Vec<[Cell; BINS]>;

#[derive(Debug, Clone, Copy)]
struct Split {
    gain: f32,
    /// Position in the tree's columns.
    column: usize,
    bin: u8,
}

/// A leaf that may still be split.
struct Open {
    range: Range<usize>,
    sums: Sums,
    best: Option<Split>,
    /// The node and side that points at it.
    parent: Option<(usize, usize)>,
}

/// What a tree is grown from.
pub struct Grower<'a> {
    pub binned: &'a [u8],
    pub width: usize,
    /// Columns drawn for this tree.
    pub columns: &'a [usize],
    pub cells: &'a [Cell],
    pub settings: &'a Settings,
    /// Fewest rows of a leaf.
    pub least: f32,
}

impl Grower<'_> {
    /// The tree (steps still zero), the rows ordered by leaf, and each leaf's range of them.
    pub fn grow(&self, mut members: Vec<u32>) -> (Tree, Vec<u32>, Vec<Range<usize>>) {
        let mut tree = Tree { nodes: Vec::new(), steps: Vec::new() };
        let sums = self.sums(&members);
        let root = Open { range: 0..members.len(), best: self.best(&sums), sums, parent: None };
        let mut open = vec![root];
        let most = self.settings.leaves.clamp(2, usize::from(LEAF));
        while open.len() < most {
            let gain = |o: &Open| o.best.map_or(f32::NEG_INFINITY, |s| s.gain);
            let Some(at) = (0..open.len()).max_by(|&a, &b| gain(&open[a]).total_cmp(&gain(&open[b]))) else { break };
            let Some(split) = open[at].best else { break };
            let leaf = open.swap_remove(at);
            let node = tree.nodes.len();
            tree.nodes.push(Node { column: self.columns[split.column] as u16, bin: split.bin, children: [LEAF; 2] });
            if let Some((parent, side)) = leaf.parent {
                tree.nodes[parent].children[side] = node as u16;
            }
            open.extend(self.divide(leaf, split, node, &mut members));
        }
        let mut ranges = Vec::with_capacity(open.len());
        for (number, leaf) in open.iter().enumerate() {
            if let Some((parent, side)) = leaf.parent {
                tree.nodes[parent].children[side] = LEAF | number as u16;
            }
            ranges.push(leaf.range.clone());
        }
        tree.steps = vec![[0.0; COUNT]; ranges.len()];
        (tree, members, ranges)
    }

    fn divide(&self, leaf: Open, split: Split, node: usize, members: &mut [u32]) -> [Open; 2] {
        let column = self.columns[split.column];
        let rows = &mut members[leaf.range.clone()];
        let middle = leaf.range.start + partition(rows, |r| self.binned[r as usize * self.width + column] <= split.bin);
        let ranges = [leaf.range.start..middle, middle..leaf.range.end];
        let small = usize::from(ranges[1].len() < ranges[0].len());
        let few = self.sums(&members[ranges[small].clone()]);
        let mut many = leaf.sums;
        for (whole, part) in many.iter_mut().flatten().zip(few.iter().flatten()) {
            *whole = whole.less(*part);
        }
        let mut halves = if small == 0 { [few, many] } else { [many, few] }.into_iter();
        let mut sides = ranges.into_iter().enumerate();
        std::array::from_fn(|_| {
            let sums = halves.next().unwrap_or_default();
            let (side, range) = sides.next().unwrap_or((0, 0..0));
            Open { best: self.best(&sums), range, sums, parent: Some((node, side)) }
        })
    }

    fn sums(&self, members: &[u32]) -> Sums {
        let mut sums = vec![[Cell::default(); BINS]; self.columns.len()];
        for &member in members {
            let row = &self.binned[member as usize * self.width..][..self.width];
            let cell = self.cells[member as usize];
            for (sum, &column) in sums.iter_mut().zip(self.columns) {
                sum[usize::from(row[column]) % BINS].add(cell);
            }
        }
        sums
    }

    fn best(&self, sums: &Sums) -> Option<Split> {
        let least = self.least;
        let mut best: Option<Split> = None;
        for (column, bins) in sums.iter().enumerate() {
            let mut total = Cell::default();
            bins.iter().for_each(|c| total.add(*c));
            if total.0[3] < 2.0 * least {
                return None;
            }
            let whole = total.gain();
            let mut left = Cell::default();
            for (bin, cell) in bins.iter().enumerate().take(BINS - 1) {
                if cell.0[3] < 0.5 {
                    continue;
                }
                left.add(*cell);
                let right = total.less(left);
                if left.0[3] < least || right.0[3] < least {
                    continue;
                }
                let gain = left.gain() + right.gain() - whole;
                if gain > best.map_or(1e-6, |b| b.gain) {
                    best = Some(Split { gain, column, bin: bin as u8 });
                }
            }
        }
        best
    }
}

/// Rows that pass first; the order of each part is kept, so that results do not depend on how the part came about.
fn partition(rows: &mut [u32], passes: impl Fn(u32) -> bool) -> usize {
    let mut others = Vec::with_capacity(rows.len());
    let mut kept = 0;
    for at in 0..rows.len() {
        let row = rows[at];
        if passes(row) {
            rows[kept] = row;
            kept += 1;
        } else {
            others.push(row);
        }
    }
    rows[kept..].copy_from_slice(&others);
    kept
}
