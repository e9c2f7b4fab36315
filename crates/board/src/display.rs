//! The bytes for a 16×2 display with an HD44780: start-up, and two lines of text, as half-bytes on four wires.
//!
//! Gives what to put on the wires and how long to wait; the board moves pins. What the lines say is the meter's.

/// Columns of a line.
pub const COLUMNS: usize = 16;

/// One half-byte on D4 to D7.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nibble {
    /// Level of RS: text when high, a command when low.
    pub text: bool,
    /// D4 in bit 0 to D7 in bit 3.
    pub bits: u8,
    /// Time to wait after the pulse on E, microseconds.
    pub wait_us: u32,
}

/// A byte takes effect after its second half.
fn byte(text: bool, value: u8, wait_us: u32) -> [Nibble; 2] {
    [Nibble { text, bits: value >> 4, wait_us: 1 }, Nibble { text, bits: value & 0x0f, wait_us }]
}

/// The start-up by instruction for four wires (datasheet, figure 24). Wait 50 ms after power before it.
pub fn start() -> impl Iterator<Item = Nibble> {
    let wake = [(3, 4_500), (3, 150), (3, 150), (2, 150)];
    let wake = wake.into_iter().map(|(bits, wait_us)| Nibble { text: false, bits, wait_us });
    // four wires and two lines; off; clear; move right; on without a cursor
    let set = [(0x28, 50), (0x08, 50), (0x01, 2_000), (0x06, 50), (0x0c, 50)];
    wake.chain(set.into_iter().flat_map(|(value, wait_us)| byte(false, value, wait_us)))
}

/// Both lines, padded or cut to sixteen characters. What is not ASCII becomes a question mark.
pub fn show<'a>(lines: [&'a str; 2]) -> impl Iterator<Item = Nibble> + 'a {
    lines.into_iter().zip([0x80, 0xc0]).flat_map(|(line, address)| {
        let shown = line
            .chars()
            .map(|c| u8::try_from(c).ok().filter(u8::is_ascii_graphic).unwrap_or(if c == ' ' { b' ' } else { b'?' }));
        let shown = shown.chain(core::iter::repeat(b' ')).take(COLUMNS);
        byte(false, address, 50).into_iter().chain(shown.flat_map(|c| byte(true, c, 50)))
    })
}

#[cfg(test)]
mod tests {
    use alloc::{string::String, vec::Vec};

    use super::*;

    #[test]
    fn a_controller_that_follows_the_datasheet_shows_the_lines() {
        let nibbles: Vec<Nibble> = start().chain(show(["1.0.32.7.0  V", "           231.4 and more"])).collect();
        assert_eq!(nibbles[..4].iter().map(|n| n.bits).collect::<Vec<_>>(), [3, 3, 3, 2]);
        let (mut memory, mut at) = ([[b'.'; COLUMNS]; 2], (0, 0));
        for pair in nibbles[4..].chunks(2) {
            let value = pair[0].bits << 4 | pair[1].bits;
            match (pair[1].text, value) {
                (false, 0x80..=0x8f) => at = (0, usize::from(value - 0x80)),
                (false, 0xc0..=0xcf) => at = (1, usize::from(value - 0xc0)),
                (false, 0x01) => assert!(pair[1].wait_us >= 1_520, "clear takes 1.52 ms"),
                (false, _) => assert!(pair[1].wait_us >= 37),
                (true, _) => {
                    memory[at.0][at.1] = value;
                    at.1 += 1;
                }
            }
        }
        let line = |k: usize| String::from_utf8(memory[k].to_vec()).expect("ascii");
        assert_eq!((line(0).as_str(), line(1).as_str()), ("1.0.32.7.0  V   ", "           231.4"));
    }
}
