//! The checksums of the framings.

/// CRC-16/ARC (reflected 8005, start 0): P1.
pub fn arc(bytes: &[u8]) -> u16 {
    reflected(&ARC, 0, bytes)
}

/// CRC-16/X-25 (reflected 1021, start and end FFFF): HDLC and SML; sent low byte first.
pub fn x25(bytes: &[u8]) -> u16 {
    !reflected(&X25, 0xFFFF, bytes)
}

/// CRC-16/KERMIT (as X-25, start and end 0): SML of old Holley meters.
pub fn kermit(bytes: &[u8]) -> u16 {
    reflected(&X25, 0, bytes)
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

/// Bytes that are taken in one step. A microcontroller has less room for tables than time.
const STRIDE: usize = if cfg!(feature = "host") { 8 } else { 1 };

/// The `n`-th is the effect of a byte with `n` bytes behind it.
type Tables = [[u16; 256]; STRIDE];

static ARC: Tables = reflected_tables(0xA001);
static X25: Tables = reflected_tables(0x8408);

fn reflected(tables: &Tables, start: u16, bytes: &[u8]) -> u16 {
    let (strides, rest) = bytes.as_chunks::<STRIDE>();
    let crc = strides.iter().fold(start, |crc, stride| {
        let [low, high] = crc.to_le_bytes();
        // With a stride of one the high byte is not used up.
        let left = if STRIDE == 1 { u16::from(high) } else { 0 };
        stride.iter().zip(tables.iter().rev()).enumerate().fold(left, |sum, (at, (byte, table))| {
            let carried = match at {
                0 => low,
                1 => high,
                _ => 0,
            };
            sum ^ table[usize::from(byte ^ carried)]
        })
    });
    rest.iter().fold(crc, |crc, byte| {
        let [low, high] = crc.to_le_bytes();
        tables[0][usize::from(byte ^ low)] ^ u16::from(high)
    })
}

const fn reflected_tables(polynomial: u16) -> Tables {
    let mut tables = [[0_u16; 256]; STRIDE];
    let mut index = 0_u16;
    while index < 256 {
        let mut value = index;
        let mut bit = 0;
        while bit < 8 {
            value = if value & 1 == 1 { (value >> 1) ^ polynomial } else { value >> 1 };
            bit += 1;
        }
        tables[0][index as usize] = value;
        index += 1;
    }
    let mut table = 1;
    while table < STRIDE {
        let mut index = 0;
        while index < 256 {
            let before = tables[table - 1][index];
            tables[table][index] = (before >> 8) ^ tables[0][(before & 0xFF) as usize];
            index += 1;
        }
        table += 1;
    }
    tables
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

    #[test]
    fn a_stride_of_bytes_is_the_same_as_one_by_one() {
        let bytes: Vec<u8> = (0..97_u8).map(|at| at.wrapping_mul(73)).collect();
        for count in 0..bytes.len() {
            let slow = bytes[..count].iter().fold(0xFFFF_u16, |crc, byte| {
                (0..8).fold(crc ^ u16::from(*byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0x8408 } else { crc >> 1 })
            });
            assert_eq!(x25(&bytes[..count]), !slow, "{count} bytes");
        }
    }
}
