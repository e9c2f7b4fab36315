//! Sparse block elimination shared by power flow and estimation: ordering, numeric factor, forward and back substitution.
//!
//! Why: on a tree, eliminating leaves first gives a factor without fill-in, so one solve costs a handful of small block
//! products per bus; a weak mesh adds a few fill-in blocks and needs no other code. Unknowns that never have a right-hand
//! side (zero-injection buses with at most two neighbours) are eliminated first and skipped in every iteration: that is
//! the exact collapse of such buses. The factor is numbers only; the vectors may be SIMD registers holding one scenario
//! per lane. There is no pivoting between blocks; inside a block there is.

use pulp::Simd;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// How early a node may be eliminated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    /// Its right-hand side is always zero.
    Passive,
    /// An ordinary node.
    Active,
    /// Must come last.
    Last,
}

/// Elimination order and the pattern of the factor. "Position" is a place in the order, "node" the caller's number.
#[derive(Debug, Clone)]
pub(crate) struct Symbolic {
    /// node at each position
    pub(crate) node: Vec<usize>,
    /// position of each node
    pub(crate) position: Vec<usize>,
    /// entries `start[i]..start[i + 1]` of `upper` belong to position `i`
    pub(crate) start: Vec<usize>,
    /// later positions coupled to a position, ascending
    pub(crate) upper: Vec<usize>,
    /// positions before this one have a zero right-hand side always
    pub(crate) first_active: usize,
}

impl Symbolic {
    /// Orders `classes.len()` nodes coupled by `edges`.
    pub(crate) fn new(edges: &[(usize, usize)], classes: &[Class]) -> Self {
        let n = classes.len();
        let mut adjacent = vec![Vec::new(); n];
        for &(i, j) in edges {
            if i != j && !adjacent[i].contains(&j) {
                adjacent[i].push(j);
                adjacent[j].push(i);
            }
        }
        let (order, passive) = minimum_degree(&mut adjacent, classes);
        // after elimination `adjacent[i]` holds the nodes eliminated after i and coupled to it
        let order = locality_order(&order, passive, &adjacent);
        Self::from_order(order, passive, &adjacent)
    }

    fn from_order(order: Vec<usize>, passive: usize, later: &[Vec<usize>]) -> Self {
        let mut position = vec![0; order.len()];
        for (p, &node) in order.iter().enumerate() {
            position[node] = p;
        }
        let mut start = Vec::with_capacity(order.len() + 1);
        let mut upper = Vec::new();
        start.push(0);
        for &node in &order {
            let from = upper.len();
            upper.extend(later[node].iter().map(|&j| position[j]));
            upper[from..].sort_unstable();
            start.push(upper.len());
        }
        Self { node: order, position, start, upper, first_active: passive }
    }

    /// The same order for groups of unknowns: group `g` of this order owns the nodes `members[g]`, all coupled.
    pub(crate) fn expand(&self, members: &[Vec<usize>]) -> Self {
        let count = members.iter().map(Vec::len).sum();
        let mut order = Vec::with_capacity(count);
        let mut later = vec![Vec::new(); count];
        for (p, &group) in self.node.iter().enumerate() {
            for (k, &node) in members[group].iter().enumerate() {
                later[node].extend_from_slice(&members[group][k + 1..]);
                for &u in &self.upper[self.start[p]..self.start[p + 1]] {
                    later[node].extend_from_slice(&members[self.node[u]]);
                }
                order.push(node);
            }
        }
        let passive = self.node[..self.first_active].iter().map(|&g| members[g].len()).sum();
        Self::from_order(order, passive, &later)
    }

    pub(crate) fn len(&self) -> usize {
        self.node.len()
    }

    fn slot(&self, i: usize, j: usize) -> Option<usize> {
        let from = self.start[i];
        self.upper[from..self.start[i + 1]].binary_search(&j).ok().map(|k| from + k)
    }
}

/// Returns the order and how many leading nodes are passive; leaves in `adjacent` the later neighbours of each node.
fn minimum_degree(adjacent: &mut [Vec<usize>], classes: &[Class]) -> (Vec<usize>, usize) {
    let n = classes.len();
    let mut done = vec![false; n];
    let mut order = Vec::with_capacity(n);
    let eliminate = |node: usize, adjacent: &mut [Vec<usize>], order: &mut Vec<usize>, done: &mut [bool]| {
        done[node] = true;
        order.push(node);
        let around = adjacent[node].clone();
        for (k, &a) in around.iter().enumerate() {
            adjacent[a].retain(|&x| x != node);
            for &b in &around[k + 1..] {
                if !adjacent[a].contains(&b) {
                    adjacent[a].push(b);
                    adjacent[b].push(a);
                }
            }
        }
        around
    };
    let mut stack: Vec<usize> = (0..n).filter(|&i| classes[i] == Class::Passive && adjacent[i].len() <= 2).collect();
    while let Some(node) = stack.pop() {
        if done[node] || adjacent[node].len() > 2 {
            continue;
        }
        for a in eliminate(node, adjacent, &mut order, &mut done) {
            if classes[a] == Class::Passive && adjacent[a].len() <= 2 {
                stack.push(a);
            }
        }
    }
    let passive = order.len();
    let key = |i: usize, adjacent: &[Vec<usize>]| (classes[i] == Class::Last, adjacent[i].len(), i);
    let mut heap: BinaryHeap<Reverse<(bool, usize, usize)>> =
        (0..n).filter(|&i| !done[i]).map(|i| Reverse(key(i, adjacent))).collect();
    while let Some(Reverse(entry)) = heap.pop() {
        let node = entry.2;
        if done[node] || entry != key(node, adjacent) {
            continue;
        }
        for a in eliminate(node, adjacent, &mut order, &mut done) {
            heap.push(Reverse(key(a, adjacent)));
        }
    }
    (order, passive)
}

/// An equivalent order (same fill) in which neighbours in the factor lie close together in memory: a depth-first
/// postorder of the elimination tree within the passive and the active part.
fn locality_order(order: &[usize], passive: usize, later: &[Vec<usize>]) -> Vec<usize> {
    let n = order.len();
    let mut rank = vec![0; n];
    for (p, &node) in order.iter().enumerate() {
        rank[node] = p;
    }
    let parent = |node: usize| later[node].iter().copied().min_by_key(|&j| rank[j]);
    let mut children = vec![Vec::new(); n];
    let mut roots = [Vec::new(), Vec::new()];
    for (p, &node) in order.iter().enumerate() {
        let part = usize::from(p >= passive);
        match parent(node) {
            Some(up) if usize::from(rank[up] >= passive) == part => children[up].push(node),
            _ => roots[part].push(node),
        }
    }
    let mut result = Vec::with_capacity(n);
    for part in roots {
        // visiting parents first and reversing gives children before parents
        let from = result.len();
        let mut stack = part;
        while let Some(node) = stack.pop() {
            result.push(node);
            stack.extend_from_slice(&children[node]);
        }
        result[from..].reverse();
    }
    result
}

/// A small dense block.
pub(crate) type Block<const B: usize> = [[f64; B]; B];

/// The matrix before elimination, by position.
#[derive(Clone)]
pub(crate) struct Blocks<const B: usize> {
    pub(crate) diagonal: Vec<Block<B>>,
    above: Vec<Block<B>>,
    below: Vec<Block<B>>,
}

impl<const B: usize> Blocks<B> {
    pub(crate) fn zeros(symbolic: &Symbolic) -> Self {
        let zero = [[0.0; B]; B];
        Self {
            diagonal: vec![zero; symbolic.len()],
            above: vec![zero; symbolic.upper.len()],
            below: vec![zero; symbolic.upper.len()],
        }
    }

    /// Adds `block` at row node `i`, column node `j`; the pair must be in the pattern.
    pub(crate) fn add(&mut self, symbolic: &Symbolic, i: usize, j: usize, block: &Block<B>) {
        let (p, q) = (symbolic.position[i], symbolic.position[j]);
        let target = if p == q {
            &mut self.diagonal[p]
        } else if p < q {
            let slot = symbolic.slot(p, q).expect("the pair is in the pattern");
            &mut self.above[slot]
        } else {
            let slot = symbolic.slot(q, p).expect("the pair is in the pattern");
            &mut self.below[slot]
        };
        for r in 0..B {
            for c in 0..B {
                target[r][c] += block[r][c];
            }
        }
    }
}

/// The numeric factor.
#[derive(Clone)]
pub(crate) struct Factor<const B: usize> {
    /// inverse of each pivot block
    inverse: Vec<Block<B>>,
    /// blocks below the pivot: row of the later position, column of the pivot
    below: Vec<Block<B>>,
    /// pivot inverse times the blocks beside the pivot
    beside: Vec<Block<B>>,
}

fn multiply<const B: usize>(a: &Block<B>, b: &Block<B>) -> Block<B> {
    let mut out = [[0.0; B]; B];
    for r in 0..B {
        for c in 0..B {
            for k in 0..B {
                out[r][c] += a[r][k] * b[k][c];
            }
        }
    }
    out
}

/// Gauss-Jordan with full pivoting by rows; `None` when singular.
fn invert<const B: usize>(block: &Block<B>) -> Option<Block<B>> {
    let mut a = *block;
    let mut inverse = [[0.0; B]; B];
    for (i, row) in inverse.iter_mut().enumerate() {
        row[i] = 1.0;
    }
    // equilibrate rows so that the pivot choice is not fooled by units
    for r in 0..B {
        let scale = a[r].iter().fold(0.0f64, |m, v| m.max(v.abs()));
        if !(scale > 0.0 && scale.is_finite()) {
            return None;
        }
        for c in 0..B {
            a[r][c] /= scale;
            inverse[r][c] /= scale;
        }
    }
    for k in 0..B {
        let pivot = (k..B).max_by(|&x, &y| a[x][k].abs().total_cmp(&a[y][k].abs()))?;
        if a[pivot][k].abs() < 1e-300 {
            return None;
        }
        a.swap(k, pivot);
        inverse.swap(k, pivot);
        let scale = 1.0 / a[k][k];
        for c in 0..B {
            a[k][c] *= scale;
            inverse[k][c] *= scale;
        }
        for r in 0..B {
            let factor = a[r][k];
            if r != k && factor != 0.0 {
                for c in 0..B {
                    a[r][c] -= factor * a[k][c];
                    inverse[r][c] -= factor * inverse[k][c];
                }
            }
        }
    }
    Some(inverse)
}

impl<const B: usize> Factor<B> {
    /// Eliminates. The error is the node at which the matrix is singular.
    pub(crate) fn new(symbolic: &Symbolic, blocks: Blocks<B>) -> Result<Self, usize> {
        let Blocks { mut diagonal, mut above, mut below } = blocks;
        let mut inverse = Vec::with_capacity(diagonal.len());
        for i in 0..symbolic.len() {
            let pivot = invert(&diagonal[i]).ok_or(symbolic.node[i])?;
            let range = symbolic.start[i]..symbolic.start[i + 1];
            for k in range.clone() {
                let beside = multiply(&pivot, &above[k]);
                for l in range.clone() {
                    let update = multiply(&below[l], &beside);
                    let (row, column) = (symbolic.upper[l], symbolic.upper[k]);
                    let target = match row.cmp(&column) {
                        std::cmp::Ordering::Equal => &mut diagonal[row],
                        std::cmp::Ordering::Less => {
                            &mut above[symbolic.slot(row, column).expect("fill-in is in the pattern")]
                        }
                        std::cmp::Ordering::Greater => {
                            &mut below[symbolic.slot(column, row).expect("fill-in is in the pattern")]
                        }
                    };
                    for r in 0..B {
                        for c in 0..B {
                            target[r][c] -= update[r][c];
                        }
                    }
                }
            }
            for k in range {
                above[k] = multiply(&pivot, &above[k]);
            }
            inverse.push(pivot);
        }
        Ok(Self { inverse, below, beside: above })
    }

    /// The forward step at one position: returns the pivot product and subtracts the couplings from `rhs` further on.
    #[inline(always)]
    pub(crate) fn forward<S: Simd>(
        &self,
        simd: S,
        symbolic: &Symbolic,
        i: usize,
        b: [S::f64s; B],
        rhs: &mut [[S::f64s; B]],
    ) -> [S::f64s; B] {
        let t = product(simd, &self.inverse[i], b);
        for k in symbolic.start[i]..symbolic.start[i + 1] {
            let target = &mut rhs[symbolic.upper[k]];
            *target = subtract_product(simd, *target, &self.below[k], t);
        }
        t
    }

    /// The backward step at one position, given the solution of all later ones.
    #[inline(always)]
    pub(crate) fn backward<S: Simd>(
        &self,
        simd: S,
        symbolic: &Symbolic,
        i: usize,
        t: [S::f64s; B],
        solution: &[[S::f64s; B]],
    ) -> [S::f64s; B] {
        let mut x = t;
        for k in symbolic.start[i]..symbolic.start[i + 1] {
            x = subtract_product(simd, x, &self.beside[k], solution[symbolic.upper[k]]);
        }
        x
    }

    /// Solves in place: right-hand side in, solution out, both by position.
    pub(crate) fn solve<S: Simd>(&self, simd: S, symbolic: &Symbolic, x: &mut [[S::f64s; B]]) {
        for i in 0..symbolic.len() {
            let b = x[i];
            x[i] = self.forward(simd, symbolic, i, b, x);
        }
        for i in (0..symbolic.len()).rev() {
            x[i] = self.backward(simd, symbolic, i, x[i], x);
        }
    }

    /// The forward half of [`Factor::solve_one`].
    pub(crate) fn forward_one(&self, symbolic: &Symbolic, x: &mut [[f64; B]]) {
        for i in 0..symbolic.len() {
            let b = x[i];
            x[i] = self.forward(pulp::Scalar::new(), symbolic, i, b, x);
        }
    }

    /// Solves one right-hand side in plain numbers.
    pub(crate) fn solve_one(&self, symbolic: &Symbolic, x: &mut [[f64; B]]) {
        self.solve(pulp::Scalar::new(), symbolic, x);
    }
}

// Plain loops, no closures: a closure would not be compiled with the instruction set of the caller.
#[inline(always)]
fn product<S: Simd, const B: usize>(simd: S, a: &Block<B>, x: [S::f64s; B]) -> [S::f64s; B] {
    let mut y = [simd.splat_f64s(0.0); B];
    for r in 0..B {
        let mut sum = simd.mul_f64s(simd.splat_f64s(a[r][0]), x[0]);
        for c in 1..B {
            sum = simd.mul_add_e_f64s(simd.splat_f64s(a[r][c]), x[c], sum);
        }
        y[r] = sum;
    }
    y
}

#[inline(always)]
fn subtract_product<S: Simd, const B: usize>(
    simd: S,
    mut y: [S::f64s; B],
    a: &Block<B>,
    x: [S::f64s; B],
) -> [S::f64s; B] {
    for r in 0..B {
        for c in 0..B {
            y[r] = simd.negate_mul_add_e_f64s(simd.splat_f64s(a[r][c]), x[c], y[r]);
        }
    }
    y
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_meshed_block_system_is_solved() {
        let edges = [(0, 1), (1, 2), (2, 3), (3, 0), (3, 4)];
        let classes = [Class::Passive, Class::Active, Class::Active, Class::Active, Class::Last];
        let symbolic = Symbolic::new(&edges, &classes);
        assert_eq!(symbolic.node.last(), Some(&4));
        let mut blocks = Blocks::<2>::zeros(&symbolic);
        for i in 0..5 {
            blocks.add(&symbolic, i, i, &[[5.0 + i as f64, 0.3], [-0.2, 4.0]]);
        }
        for (k, &(i, j)) in edges.iter().enumerate() {
            blocks.add(&symbolic, i, j, &[[-1.0, 0.1 * k as f64], [0.2, -0.5]]);
            blocks.add(&symbolic, j, i, &[[-0.9, 0.3], [0.1, -0.4 + 0.1 * k as f64]]);
        }
        let dense = blocks.clone();
        let factor = Factor::new(&symbolic, blocks).expect("not singular");
        let rhs: Vec<[f64; 2]> = (0..5).map(|i| [1.0 + i as f64, -0.5 * i as f64]).collect();
        let mut x = rhs.clone();
        factor.solve_one(&symbolic, &mut x);
        for i in 0..5 {
            let mut left = [0.0; 2];
            for j in 0..5 {
                let block = match i.cmp(&j) {
                    std::cmp::Ordering::Equal => Some(dense.diagonal[i]),
                    std::cmp::Ordering::Less => symbolic.slot(i, j).map(|s| dense.above[s]),
                    std::cmp::Ordering::Greater => symbolic.slot(j, i).map(|s| dense.below[s]),
                };
                if let Some(block) = block {
                    for r in 0..2 {
                        left[r] += block[r][0] * x[j][0] + block[r][1] * x[j][1];
                    }
                }
            }
            assert!((left[0] - rhs[i][0]).abs() < 1e-12 && (left[1] - rhs[i][1]).abs() < 1e-12);
        }
    }
}
