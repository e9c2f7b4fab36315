//! The checksums of the framings.

/// CRC-16/ARC (reflected 8005, start 0): P1.
pub fn arc(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| ARC[usize::from((crc ^ u16::from(*byte)) & 0xFF)] ^ (crc >> 8))
}

/// CRC-16/X-25 (reflected 1021, start and end FFFF): HDLC and SML; sent low byte first.
pub fn x25(bytes: &[u8]) -> u16 {
    !bytes.iter().fold(0xFFFF, |crc, byte| X25[usize::from((crc ^ u16::from(*byte)) & 0xFF)] ^ (crc >> 8))
}

/// CRC-16/KERMIT (as X-25, start and end 0): SML of old Holley meters.
pub fn kermit(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| X25[usize::from((crc ^ u16::from(*byte)) & 0xFF)] ^ (crc >> 8))
}

/// CRC-16/EN-13757 (3D65, start 0, end FFFF): blocks of wM-Bus and signatures of compact frames.
pub fn en13757(bytes: &[u8]) -> u16 {
    !bytes.iter().fold(0_u16, |crc, byte| {
        (0..8).fold(
            crc ^ (u16::from(*byte) << 8),
            |crc, _| {
                if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x3D65 }
            },
        )
    })
}

/// Sum of bytes modulo 256: wired M-Bus.
pub fn sum8(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |sum, byte| sum.wrapping_add(*byte))
}

/// Exclusive or of bytes: the BCC of IEC 62056-21.
pub fn xor8(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |sum, byte| sum ^ byte)
}

static ARC: [u16; 256] = reflected_table(0xA001);
static X25: [u16; 256] = reflected_table(0x8408);

const fn reflected_table(polynomial: u16) -> [u16; 256] {
    let mut table = [0_u16; 256];
    let mut index = 0_u16;
    while index < 256 {
        let mut value = index;
        let mut bit = 0;
        while bit < 8 {
            value = if value & 1 == 1 { (value >> 1) ^ polynomial } else { value >> 1 };
            bit += 1;
        }
        table[index as usize] = value;
        index += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn check_values_of_the_catalogue() {
        assert_eq!(arc(b"123456789"), 0xBB3D);
        assert_eq!(x25(b"123456789"), 0x906E);
        assert_eq!(kermit(b"123456789"), 0x2189);
        assert_eq!(en13757(b"123456789"), 0xC2B7);
    }
}
