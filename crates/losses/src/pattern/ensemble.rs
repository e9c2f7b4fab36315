//! A trained ensemble of trees laid out for prediction: nodes side by side, rows in blocks.
//!
//! The trainer walks its own node objects tree by tree through a table by columns; here a block of rows stays in the cache
//! while the trees pass over it. Sums run in the trainer's order, so that predictions agree with its own to the last bit.

use serde::{Deserialize, Serialize};

/// Rows that pass through a tree together.
const BLOCK: usize = 64;

/// One node. A leaf's children are itself.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Node {
    /// Goes left below it.
    pub(crate) split: f64,
    /// Mean of the leaves below, weighted as in training; of a leaf its value.
    pub(crate) average: f64,
    /// Column that is asked.
    pub(crate) column: u32,
    pub(crate) left: u32,
    pub(crate) right: u32,
    /// Where a row without that value goes.
    pub(crate) missing: u32,
}

/// Trees that are added up.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(try_from = "Stored", into = "Stored")]
pub(crate) struct Ensemble {
    base: f64,
    roots: Vec<u32>,
    nodes: Vec<Node>,
}

impl Ensemble {
    /// An ensemble without trees that predicts `base`.
    pub(crate) fn new(base: f64) -> Self {
        Self { base, ..Self::default() }
    }

    /// Adds a tree; its nodes' children are counted from its root, which is the first.
    pub(crate) fn push(&mut self, tree: impl Iterator<Item = Node>) {
        let root = self.nodes.len() as u32;
        self.roots.push(root);
        self.nodes.extend(tree.map(|n| Node {
            left: n.left + root,
            right: n.right + root,
            missing: n.missing + root,
            ..n
        }));
    }

    /// Adds the prediction of each row of `values` (`columns` numbers each) to `sums`.
    pub(crate) fn add_to(&self, values: &[f64], columns: usize, sums: &mut [f64]) {
        let mut raw = [0.0; BLOCK];
        for (rows, sums) in values.chunks(BLOCK * columns.max(1)).zip(sums.chunks_mut(BLOCK)) {
            let raw = &mut raw[..sums.len()];
            raw.fill(self.base);
            for &root in &self.roots {
                for (row, sum) in rows.chunks_exact(columns).zip(raw.iter_mut()) {
                    *sum += self.nodes[self.leaf(root, row)].average;
                }
            }
            sums.iter_mut().zip(raw).for_each(|(s, r)| *s += *r);
        }
    }

    fn leaf(&self, root: u32, row: &[f64]) -> usize {
        let mut at = root;
        loop {
            let next = self.next(at, row);
            if next == at {
                return at as usize;
            }
            at = next;
        }
    }

    fn next(&self, at: u32, row: &[f64]) -> u32 {
        let node = &self.nodes[at as usize];
        let value = row[node.column as usize];
        if value.is_nan() {
            node.missing
        } else if value < node.split {
            node.left
        } else {
            node.right
        }
    }

    /// What each column adds to the prediction of `row`: the changes of the average along the way (Saabas).
    pub(crate) fn contributions(&self, row: &[f64]) -> Vec<f64> {
        let mut added = vec![0.0; row.len()];
        for &root in &self.roots {
            let mut at = root;
            loop {
                let next = self.next(at, row);
                if next == at {
                    break;
                }
                let node = &self.nodes[at as usize];
                added[node.column as usize] += self.nodes[next as usize].average - node.average;
                at = next;
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
            left: n.iter().map(|n| n.left).collect(),
            right: n.iter().map(|n| n.right).collect(),
            missing: n.iter().map(|n| n.missing).collect(),
            roots: ensemble.roots,
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
            left: stored.left[i],
            right: stored.right[i],
            missing: stored.missing[i],
        };
        let nodes: Vec<Node> = (0..count).map(node).collect();
        // Children lie behind their parent, else a walk might not end.
        let sound = |at: usize, n: &Node| {
            let children = [n.left, n.right, n.missing].map(|c| c as usize);
            children.iter().all(|c| *c < count && *c > at) || children == [at; 3]
        };
        if !nodes.iter().enumerate().all(|(at, n)| sound(at, n)) || stored.roots.iter().any(|r| *r as usize >= count) {
            return Err("a tree leads nowhere".to_owned());
        }
        Ok(Self { base: stored.base, roots: stored.roots, nodes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn small() -> Ensemble {
        let leaf = |at, average| Node { split: 0.0, average, column: 0, left: at, right: at, missing: at };
        let mut ensemble = Ensemble::new(0.5);
        for scale in [1.0, 10.0] {
            let root = Node { split: 3.0, average: 0.25 * scale, column: 1, left: 1, right: 2, missing: 1 };
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
