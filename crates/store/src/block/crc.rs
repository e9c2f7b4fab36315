//! CRC-32C (Castagnoli, reflected polynomial 0x82F63B78, RFC 3720 appendix B.4), by a table made at compile time.

const fn table() -> [u32; 256] {
    let mut table = [0_u32; 256];
    let mut i = 0_usize;
    let mut byte = 0_u32;
    while i < 256 {
        let mut value = byte;
        let mut bit = 0;
        while bit < 8 {
            value = if value & 1 == 1 { (value >> 1) ^ 0x82F6_3B78 } else { value >> 1 };
            bit += 1;
        }
        table[i] = value;
        i += 1;
        byte += 1;
    }
    table
}

const TABLE: [u32; 256] = table();

/// The checksum of some bytes.
pub(crate) fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0_u32, |crc, byte| {
        let index = usize::from(crc.to_le_bytes()[0] ^ byte);
        TABLE[index] ^ (crc >> 8)
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn agrees_with_the_published_vectors() {
        assert_eq!(super::crc32c(b"123456789"), 0xE306_9283);
        assert_eq!(super::crc32c(&[0; 32]), 0x8A91_36AA);
        assert_eq!(super::crc32c(&[0xFF; 32]), 0x62A8_AB43);
    }
}
