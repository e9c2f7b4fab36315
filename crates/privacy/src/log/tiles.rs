//! Tiles: which files hold the tree and its entries.

use crate::merkle::{self, Hash};

/// Hashes or entries of a tile.
const WIDTH: usize = 256;
/// Longest entry, bytes.
pub const ENTRY_BYTES_MAX: usize = 65_535;

/// A number in a path: groups of three digits, all but the last with an `x`.
fn number(n: usize) -> String {
    let last = format!("{:03}", n % 1_000);
    let mut rest = n / 1_000;
    let mut path = last;
    while rest > 0 {
        path = format!("x{:03}/{path}", rest % 1_000);
        rest /= 1_000;
    }
    path
}

fn path(kind: &str, n: usize, width: usize) -> String {
    if width == WIDTH { format!("tile/{kind}/{}", number(n)) } else { format!("tile/{kind}/{}.p/{width}", number(n)) }
}

/// Files of the tree over these entries that differ from those of its first `old` entries: path and content.
pub fn files(entries: &[Vec<u8>], old: usize) -> Vec<(String, Vec<u8>)> {
    let mut files = Vec::new();
    let leaves: Vec<Hash> = entries.iter().map(|entry| merkle::leaf(entry)).collect();
    for (n, part) in entries.chunks(WIDTH).enumerate().skip(old / WIDTH) {
        let content = part.iter().flat_map(|entry| {
            let length = u16::try_from(entry.len()).unwrap_or(u16::MAX);
            length.to_be_bytes().into_iter().chain(entry.iter().copied())
        });
        files.push((path("entries", n, part.len()), content.collect()));
    }
    let mut level = leaves;
    let mut done = old;
    for height in 0.. {
        for (n, part) in level.chunks(WIDTH).enumerate().skip(done / WIDTH) {
            files.push((path(&height.to_string(), n, part.len()), part.concat()));
        }
        // only whole tiles have a hash a level up
        level = level.chunks_exact(WIDTH).map(merkle::root).collect();
        done /= WIDTH;
        if level.is_empty() {
            return files;
        }
    }
    files
}

/// Entries of a log of this size, as far as its files can be read: the file of each tile comes from `read`.
pub fn entries(size: usize, read: &dyn Fn(&str) -> Option<Vec<u8>>) -> Vec<Vec<u8>> {
    let mut entries = Vec::new();
    for n in 0..size.div_ceil(WIDTH) {
        let width = (size - n * WIDTH).min(WIDTH);
        let Some(bytes) = read(&path("entries", n, width)) else { break };
        let mut rest = bytes.as_slice();
        let before = entries.len();
        while let Some((length, after)) = rest.split_at_checked(2) {
            let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
            let Some((entry, after)) = after.split_at_checked(length) else { break };
            entries.push(entry.to_vec());
            rest = after;
        }
        if entries.len() - before != width {
            break;
        }
    }
    entries
}

/// Leaf hashes as the tiles state them.
pub fn leaves(size: usize, read: &dyn Fn(&str) -> Option<Vec<u8>>) -> Vec<Hash> {
    let mut leaves: Vec<Hash> = Vec::new();
    for n in 0..size.div_ceil(WIDTH) {
        let width = (size - n * WIDTH).min(WIDTH);
        let Some(bytes) = read(&path("0", n, width)) else { break };
        leaves.extend(bytes.as_chunks::<32>().0);
        if bytes.len() != width * 32 {
            break;
        }
    }
    leaves
}
