//! A trained ensemble of trees laid out for prediction: nodes side by side, rows in blocks.
//!
//! The trainer walks its own node objects tree by tree through a table by columns; here a block of rows stays in the cache
//! while the trees pass over it, and several rows go down a tree side by side, each as many steps as the tree is deep and
//! without a branch that the processor would have to guess. Sums run in the trainer's order, so that predictions agree with
//! its own to the last bit.

use serde::{Deserialize, Serialize};

/// Rows that pass through a tree together.
const BLOCK: usize = 32;
/// Rows that go down a tree side by side.
const ABREAST: usize = 8;

/// One node. A leaf's children are itself.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Node {
    /// Goes left below it.
    pub(crate) split: f64,
    /// Mean of the leaves below, weighted as in training; of a leaf its value.
    pub(crate) average: f64,
    /// Column that is asked.
    pub(crate) column: u32,
    /// Left, right, and where a row without that value goes.
    pub(crate) children: [u32; 3],
}

impl Node {
    fn next(&self, row: &[f64]) -> u32 {
        let value = row[self.column as usize];
        let is_left = value < self.split;
        // Left is 0, right 1, missing (neither below nor known) 2.
        self.children[usize::from(!is_left) + usize::from(value.is_nan())]
    }
}

/// Trees that are added up.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(try_from = "Stored", into = "Stored")]
pub(crate) struct Ensemble {
    base: f64,
    trees: Vec<Tree>,
    nodes: Vec<Node>,
}

/// Where a tree begins, and the most steps from there to a leaf.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Tree {
    root: u32,
    depth: u32,
}

impl Tree {
    /// The tree at `root`, whose children lie behind their parents.
    fn at(root: u32, nodes: &[Node]) -> Self {
        let (mut depth, mut level) = (0, vec![root]);
        loop {
            let children = |at: u32| nodes[at as usize].children.into_iter().filter(move |child| *child != at);
            level = level.into_iter().flat_map(children).collect();
            level.sort_unstable();
            level.dedup();
            if level.is_empty() {
                return Self { root, depth };
            }
            depth += 1;
        }
    }
}

impl Ensemble {
    /// An ensemble without trees that predicts `base`.
    pub(crate) fn new(base: f64) -> Self {
        Self { base, ..Self::default() }
    }

    /// Adds a tree; its nodes' children are counted from its root, which is the first.
    pub(crate) fn push(&mut self, tree: impl Iterator<Item = Node>) {
        let root = self.nodes.len() as u32;
        self.nodes.extend(tree.map(|n| Node { children: n.children.map(|c| c + root), ..n }));
        self.trees.push(Tree::at(root, &self.nodes));
    }

    /// Adds the prediction of each row of `values` (`columns` numbers each) to `sums`.
    pub(crate) fn add_to(&self, values: &[f64], columns: usize, sums: &mut [f64]) {
        let mut raw = [0.0; BLOCK];
        for (rows, sums) in values.chunks(BLOCK * columns.max(1)).zip(sums.chunks_mut(BLOCK)) {
            let raw = &mut raw[..sums.len()];
            raw.fill(self.base);
            for tree in &self.trees {
                for (rows, raw) in rows.chunks(ABREAST * columns.max(1)).zip(raw.chunks_mut(ABREAST)) {
                    let leaves = self.leaves(*tree, rows, columns);
                    raw.iter_mut().zip(leaves).for_each(|(sum, leaf)| *sum += self.nodes[leaf as usize].average);
                }
            }
            sums.iter_mut().zip(raw).for_each(|(s, r)| *s += *r);
        }
    }

    /// The leaves of up to `ABREAST` rows; a row at its leaf stays there.
    fn leaves(&self, tree: Tree, rows: &[f64], columns: usize) -> [u32; ABREAST] {
        let mut at = [tree.root; ABREAST];
        for _ in 0..tree.depth {
            for (at, row) in at.iter_mut().zip(rows.chunks_exact(columns)) {
                *at = self.nodes[*at as usize].next(row);
            }
        }
        at
    }

    /// What each column adds to the prediction of `row`: the changes of the average along the way (Saabas).
    pub(crate) fn contributions(&self, row: &[f64]) -> Vec<f64> {
        let mut added = vec![0.0; row.len()];
        for tree in &self.trees {
            let mut node = &self.nodes[tree.root as usize];
            for _ in 0..tree.depth {
                let next = &self.nodes[node.next(row) as usize];
                added[node.column as usize] += next.average - node.average;
                node = next;
            }
        }
        added
    }

    /// Greatest column asked plus one.
    pub(crate) fn columns_needed(&self) -> usize {
        self.nodes.iter().map(|n| n.column as usize + 1).max().unwrap_or(0)
    }
}

/// The ensemble as it lies in a file: columns of numbers.
#[derive(Serialize, Deserialize)]
struct Stored {
    base: f64,
    roots: Vec<u32>,
    splits: Vec<f64>,
    averages: Vec<f64>,
    columns: Vec<u32>,
    left: Vec<u32>,
    right: Vec<u32>,
    missing: Vec<u32>,
}

impl From<Ensemble> for Stored {
    fn from(ensemble: Ensemble) -> Self {
        let n = &ensemble.nodes;
        Self {
            base: ensemble.base,
            splits: n.iter().map(|n| n.split).collect(),
            averages: n.iter().map(|n| n.average).collect(),
            columns: n.iter().map(|n| n.column).collect(),
            left: n.iter().map(|n| n.children[0]).collect(),
            right: n.iter().map(|n| n.children[1]).collect(),
            missing: n.iter().map(|n| n.children[2]).collect(),
            roots: ensemble.trees.iter().map(|t| t.root).collect(),
        }
    }
}

impl TryFrom<Stored> for Ensemble {
    type Error = String;

    fn try_from(stored: Stored) -> Result<Self, String> {
        let count = stored.splits.len();
        let lengths = [&stored.columns, &stored.left, &stored.right, &stored.missing].map(Vec::len);
        if lengths.iter().any(|l| *l != count) || stored.averages.len() != count {
            return Err("the trees' lists differ in length".to_owned());
        }
        let node = |i: usize| Node {
            split: stored.splits[i],
            average: stored.averages[i],
            column: stored.columns[i],
            children: [stored.left[i], stored.right[i], stored.missing[i]],
        };
        let nodes: Vec<Node> = (0..count).map(node).collect();
        // Children lie behind their parent, else a walk might not end.
        let sound = |at: usize, n: &Node| {
            let children = n.children.map(|c| c as usize);
            children.iter().all(|c| *c < count && *c > at) || children == [at; 3]
        };
        if !nodes.iter().enumerate().all(|(at, n)| sound(at, n)) || stored.roots.iter().any(|r| *r as usize >= count) {
            return Err("a tree leads nowhere".to_owned());
        }
        let trees = stored.roots.iter().map(|root| Tree::at(*root, &nodes)).collect();
        Ok(Self { base: stored.base, trees, nodes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn small() -> Ensemble {
        let leaf = |at, average| Node { split: 0.0, average, column: 0, children: [at; 3] };
        let mut ensemble = Ensemble::new(0.5);
        for scale in [1.0, 10.0] {
            let root = Node { split: 3.0, average: 0.25 * scale, column: 1, children: [1, 2, 1] };
            ensemble.push([root, leaf(1, -scale), leaf(2, scale)].into_iter());
        }
        ensemble
    }

    #[test]
    fn rows_go_left_right_or_where_missing_goes() {
        let ensemble = small();
        let mut sums = [0.0; 3];
        ensemble.add_to(&[9.0, 2.0, 9.0, 3.0, 9.0, f64::NAN], 2, &mut sums);
        assert_eq!(sums, [-10.5, 11.5, -10.5]);
        assert_eq!(ensemble.contributions(&[9.0, 3.0]), [0.0, 0.75 * 11.0]);
        assert_eq!(ensemble.columns_needed(), 2);
    }

    #[test]
    fn a_file_that_loops_is_refused() {
        let text = serde_json::to_string(&small()).expect("written");
        assert_eq!(serde_json::from_str::<Ensemble>(&text).expect("read"), small());
        for (from, to) in
            [("\"left\":[1,", "\"left\":[0,"), ("\"right\":[2,", "\"right\":[99,"), ("\"base\"", "\"bass\"")]
        {
            assert!(text.contains(from));
            assert!(serde_json::from_str::<Ensemble>(&text.replace(from, to)).is_err(), "{from}");
        }
    }
}
