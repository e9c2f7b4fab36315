//! A cursor over received bytes: every step is checked, none panics.

/// Where one stands in received bytes.
#[derive(Clone, Debug)]
pub struct Cursor<'a> {
    bytes: &'a [u8],
}

impl<'a> Cursor<'a> {
    /// At the first byte.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    /// What has not been read.
    pub fn rest(&self) -> &'a [u8] {
        self.bytes
    }

    /// How many bytes have not been read.
    pub fn left(&self) -> usize {
        self.bytes.len()
    }

    /// Whether everything has been read.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The next byte, which stays.
    pub fn peek(&self) -> Option<u8> {
        self.bytes.first().copied()
    }

    /// The next `count` bytes.
    pub fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.bytes.split_at_checked(count)?;
        self.bytes = tail;
        Some(head)
    }

    /// The next bytes as an array.
    pub fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    /// The next byte.
    pub fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    /// The next two bytes, high byte first.
    pub fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    /// The next two bytes, low byte first.
    pub fn u16_le(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    /// The next four bytes, high byte first.
    pub fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }
}

/// A signed integer of 1 to 8 bytes, high byte first, sign-extended.
pub fn signed_be(bytes: &[u8]) -> Option<i64> {
    let first = *bytes.first()?;
    (bytes.len() <= 8).then_some(())?;
    let fill = if first & 0x80 == 0 { 0 } else { 0xFF };
    let mut wide = [fill; 8];
    wide[8 - bytes.len()..].copy_from_slice(bytes);
    Some(i64::from_be_bytes(wide))
}

/// An unsigned integer of 1 to 8 bytes, high byte first.
pub fn unsigned_be(bytes: &[u8]) -> Option<u64> {
    (!bytes.is_empty() && bytes.len() <= 8).then_some(())?;
    let mut wide = [0; 8];
    wide[8 - bytes.len()..].copy_from_slice(bytes);
    Some(u64::from_be_bytes(wide))
}

/// Lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> alloc::string::String {
    use core::fmt::Write;
    bytes.iter().fold(alloc::string::String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Bytes of hexadecimal digits, blanks between them allowed; `None` when something else is in it or half a byte is left.
pub fn from_hex(text: &str) -> Option<alloc::vec::Vec<u8>> {
    let mut out = alloc::vec::Vec::with_capacity(text.len() / 2);
    let mut high = None;
    for character in text.chars().filter(|c| !c.is_ascii_whitespace()) {
        let digit = u8::try_from(character.to_digit(16)?).ok()?;
        high = match high {
            None => Some(digit),
            Some(first) => {
                out.push(first << 4 | digit);
                None
            }
        };
    }
    high.is_none().then_some(out)
}

/// Text of printable ASCII, as meters write their numbers.
pub fn printable(bytes: &[u8]) -> Option<&str> {
    let text = core::str::from_utf8(bytes).ok()?;
    (!text.is_empty() && text.bytes().all(|b| (0x20..0x7F).contains(&b))).then_some(text)
}
