//! Forecasts that add up: usage points to transformers to feeders, with losses as a child of their own.
//!
//! Expectations add up, medians of skewed loads do not (the medians of 27 homes sum to well under the transformer's), so the
//! expectations are made coherent and each node's whole band is moved along with its expectation. Each parent has two witnesses, its own
//! forecast and the sum of its children's; they are weighed by the inverse of the squared error each showed lately; what the
//! parent moves, its children take over in proportion to their own squared errors. Two passes over the tree, no matrix.

/// One node of the tree; all slices run over the intervals of the horizon.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// Position of the parent; parents may stand anywhere in the list.
    pub parent: Option<usize>,
    /// Expectation by interval, kWh.
    pub mean: Vec<f32>,
    /// Mean squared error shown lately by the own forecast, kWh².
    pub error: f64,
    /// The same of the sum of the children's forecasts (with the losses); unused without children.
    pub sum_error: f64,
    /// Technical losses and unaccounted energy between the node and its children, by interval, kWh; empty = none.
    pub losses: Vec<f32>,
}

/// Coherent expectations by node: each parent equals the sum of its children and its losses.
///
/// `None` when the parents form a ring or a length differs: nothing coherent exists then.
pub fn coherent(nodes: &[Node]) -> Option<Vec<Vec<f32>>> {
    let order = leaves_first(nodes)?;
    let length = nodes.first().map_or(0, |n| n.mean.len());
    if nodes.iter().any(|n| n.mean.len() != length || !(n.losses.is_empty() || n.losses.len() == length)) {
        return None;
    }
    let mut children = vec![Vec::new(); nodes.len()];
    for (at, node) in nodes.iter().enumerate() {
        if let Some(parent) = node.parent {
            children[parent].push(at);
        }
    }
    let mut means: Vec<Vec<f64>> = nodes.iter().map(|n| n.mean.iter().map(|m| f64::from(*m)).collect()).collect();
    let mut errors: Vec<f64> = nodes.iter().map(|n| n.error.max(1e-12)).collect();
    for &at in order.iter().filter(|at| !children[**at].is_empty()) {
        let (own, sum) = (1.0 / errors[at], 1.0 / nodes[at].sum_error.max(1e-12));
        for k in 0..length {
            let below = sum_of(&means, &children[at], &nodes[at].losses, k);
            means[at][k] = (own * means[at][k] + sum * below) / (own + sum);
        }
        errors[at] = 1.0 / (own + sum);
    }
    for &at in order.iter().rev().filter(|at| !children[**at].is_empty()) {
        let whole: f64 = children[at].iter().map(|c| errors[*c]).sum();
        for k in 0..length {
            let missing = means[at][k] - sum_of(&means, &children[at], &nodes[at].losses, k);
            for &child in &children[at] {
                means[child][k] += missing * errors[child] / whole;
            }
        }
    }
    Some(means.into_iter().map(|m| m.into_iter().map(|v| v as f32).collect()).collect())
}

fn sum_of(means: &[Vec<f64>], children: &[usize], losses: &[f32], k: usize) -> f64 {
    children.iter().map(|c| means[*c][k]).sum::<f64>() + losses.get(k).map_or(0.0, |l| f64::from(*l))
}

/// Nodes with every child before its parent; `None` for a ring or a parent that does not exist.
fn leaves_first(nodes: &[Node]) -> Option<Vec<usize>> {
    let mut waiting = vec![0usize; nodes.len()];
    for parent in nodes.iter().filter_map(|n| n.parent) {
        *waiting.get_mut(parent)? += 1;
    }
    let mut order: Vec<usize> = (0..nodes.len()).filter(|at| waiting[*at] == 0).collect();
    let mut next = 0;
    while next < order.len() {
        if let Some(parent) = nodes[order[next]].parent {
            waiting[parent] -= 1;
            if waiting[parent] == 0 {
                order.push(parent);
            }
        }
        next += 1;
    }
    (order.len() == nodes.len()).then_some(order)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn node(parent: Option<usize>, mean: f32, error: f64) -> Node {
        Node { parent, mean: vec![mean; 3], error, sum_error: 4.0 * error, losses: Vec::new() }
    }

    proptest! {
        #[test]
        fn children_and_losses_sum_to_parents(
            means in proptest::collection::vec((-5.0f32..50.0, 0.01f64..9.0), 11), loss in 0.0f32..2.0,
        ) {
            let mut nodes: Vec<Node> = vec![node(None, 200.0, 4.0), node(Some(0), 90.0, 2.0), node(Some(0), 80.0, 1.0)];
            nodes.extend(means.iter().enumerate().map(|(i, (m, e))| node(Some(1 + i % 2), *m, *e)));
            nodes[1].losses = vec![loss; 3];
            let out = coherent(&nodes).expect("a tree");
            for parent in 0..3 {
                for (k, whole) in out[parent].iter().enumerate() {
                    let sum: f32 = (0..nodes.len()).filter(|c| nodes[*c].parent == Some(parent)).map(|c| out[c][k]).sum();
                    let lost = nodes[parent].losses.get(k).copied().unwrap_or(0.0);
                    prop_assert!((sum + lost - whole).abs() < 1e-4 * whole.abs().max(1.0));
                }
            }
        }
    }

    #[test]
    fn the_better_witness_counts_more() {
        let mut nodes = vec![node(None, 10.0, 1.0), node(Some(0), 4.0, 1.0), node(Some(0), 4.0, 3.0)];
        nodes[0].sum_error = 3.0;
        let out = coherent(&nodes).expect("a tree");
        assert!((out[0][0] - 9.5).abs() < 1e-6, "three parts own, one part the sum of 8");
        assert!((out[1][0] - 4.375).abs() < 1e-6 && (out[2][0] - 5.125).abs() < 1e-6);
        nodes[0].parent = Some(1);
        assert!(coherent(&nodes).is_none(), "a ring");
    }
}
