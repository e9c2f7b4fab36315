//! A-XDR without a tree: all values in one list, each group before its elements. What is read often and looked at once is read so; it
//! takes one piece of memory in place of one for each structure.

use alloc::vec::Vec;

use super::{DEPTH_MAX, Value, length};
use crate::bytes::Cursor;

/// One value in the order of its bytes.
#[derive(Clone, Debug, PartialEq)]
pub enum Node<'a> {
    /// A value without elements.
    Leaf(Value<'a>),
    /// An array or a structure; its elements and what is in them follow.
    Group {
        /// A structure and no array.
        is_structure: bool,
        /// How many nodes follow that belong to it.
        below: usize,
    },
}

/// All values of `bytes` that lie side by side or in each other; the bytes must end where the first value ends.
pub fn whole(bytes: &[u8]) -> Option<Vec<Node<'_>>> {
    let mut cursor = Cursor::new(bytes);
    // A number with its tag takes three bytes and more; what is smaller lets the list grow.
    let mut nodes = Vec::with_capacity(bytes.len() / 3);
    // Groups that are not whole yet: where they stand, and how many elements are missing.
    let (mut open, mut depth) = ([(0, 0); DEPTH_MAX], 0);
    loop {
        let left_deep = DEPTH_MAX.checked_sub(depth + 1)?;
        match cursor.u8()? {
            tag @ (1 | 2) => {
                let count = length(&mut cursor)?;
                (count <= cursor.left()).then_some(())?;
                let at = nodes.len();
                nodes.push(Node::Group { is_structure: tag == 2, below: 0 });
                if count > 0 {
                    open[depth] = (at, count);
                    depth += 1;
                    continue;
                }
            }
            19 => add(Value::compact(&mut cursor, left_deep)?, &mut nodes),
            tag => nodes.push(Node::Leaf(Value::leaf(tag, &mut cursor)?)),
        }
        while depth > 0 {
            let (at, missing) = &mut open[depth - 1];
            *missing -= 1;
            if *missing > 0 {
                break;
            }
            close(&mut nodes, *at);
            depth -= 1;
        }
        if depth == 0 {
            return cursor.is_empty().then_some(nodes);
        }
    }
}

/// The first value of a list of nodes with all that is in it, and what stands behind it.
pub fn first<'n, 'a>(nodes: &'n [Node<'a>]) -> Option<(&'n [Node<'a>], &'n [Node<'a>])> {
    let below = match nodes.first()? {
        Node::Leaf(_) => 0,
        Node::Group { below, .. } => *below,
    };
    nodes.split_at_checked(below + 1)
}

/// The values of a list of nodes, each with all that is in it.
pub fn values<'n, 'a>(nodes: &'n [Node<'a>]) -> impl Iterator<Item = &'n [Node<'a>]> {
    let mut rest = nodes;
    core::iter::from_fn(move || {
        let (value, behind) = first(rest)?;
        rest = behind;
        Some(value)
    })
}

/// The nodes inside a group; `None` for a leaf.
pub fn inside<'n, 'a>(value: &'n [Node<'a>]) -> Option<&'n [Node<'a>]> {
    match value.split_first()? {
        (Node::Group { .. }, inside) => Some(inside),
        (Node::Leaf(_), _) => None,
    }
}

/// A value that was read as a tree: a compact array has no tags in it.
fn add<'a>(value: Value<'a>, nodes: &mut Vec<Node<'a>>) {
    match value {
        Value::Array(items) | Value::CompactArray(items) => add_group(false, items, nodes),
        Value::Structure(items) => add_group(true, items, nodes),
        leaf => nodes.push(Node::Leaf(leaf)),
    }
}

fn add_group<'a>(is_structure: bool, items: Vec<Value<'a>>, nodes: &mut Vec<Node<'a>>) {
    let at = nodes.len();
    nodes.push(Node::Group { is_structure, below: 0 });
    items.into_iter().for_each(|item| add(item, nodes));
    close(nodes, at);
}

fn close(nodes: &mut [Node<'_>], at: usize) {
    let count = nodes.len() - at - 1;
    if let Some(Node::Group { below, .. }) = nodes.get_mut(at) {
        *below = count;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_tree<'a>(value: &Value<'a>) -> Vec<Node<'a>> {
        let mut nodes = Vec::new();
        add(value.clone(), &mut nodes);
        nodes
    }

    /// Random bytes that begin as groups often: both readers agree on every one of them.
    #[test]
    fn the_list_holds_what_the_tree_holds() {
        let mut state = 1_u32;
        let mut next = |limit: u32| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 16) % limit
        };
        let tags = [0, 1, 2, 2, 2, 3, 5, 6, 9, 10, 13, 15, 17, 18, 19, 22, 25, 255];
        let mut whole_ones = 0;
        for _ in 0..60_000 {
            let count = 1 + next(14);
            let bytes: Vec<u8> = (0..count)
                .map(|_| if next(3) == 0 { next(5) as u8 } else { tags[next(tags.len() as u32) as usize] })
                .collect();
            let tree = Value::whole(&bytes);
            assert_eq!(whole(&bytes), tree.as_ref().map(of_tree), "{bytes:?}");
            whole_ones += usize::from(tree.is_some());
        }
        assert!(whole_ones > 1_000, "{whole_ones}");
        for depth in 0..40 {
            for end in [&[2, 0][..], &[17, 5], &[19, 17, 1, 5], &[19, 1, 0, 1, 1, 0, 1, 17, 1, 5]] {
                let deep = [[2, 1].repeat(depth), end.to_vec()].concat();
                assert_eq!(whole(&deep), Value::whole(&deep).as_ref().map(of_tree), "{depth} {end:?}");
            }
        }
    }
}
