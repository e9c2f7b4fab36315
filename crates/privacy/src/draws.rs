//! Random numbers from a seed: the ChaCha20 keystream under a 32-byte key.
//!
//! Whoever draws gives the seed: entropy of the operating system in the product, a constant in a test. The same seed gives the
//! same numbers, which is what makes a private answer the same answer when it is asked for again.

use chacha20::{
    ChaCha20,
    cipher::{KeyIvInit, StreamCipher},
};

/// A stream of uniform bits.
pub struct Draws {
    cipher: ChaCha20,
    bytes: [u8; 64],
    used: usize,
}

impl core::fmt::Debug for Draws {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Draws(…)")
    }
}

impl Draws {
    /// The stream of a seed; it is 256 GiB long, and after that gives zeros no more than it did before: it is asked for far less.
    pub fn new(seed: &[u8; 32]) -> Self {
        let cipher = ChaCha20::new(&(*seed).into(), &[0; 12].into());
        Self { cipher, bytes: [0; 64], used: 64 }
    }

    /// 64 uniform bits.
    pub fn bits(&mut self) -> u64 {
        if self.used == self.bytes.len() {
            self.bytes.fill(0);
            self.cipher.apply_keystream(&mut self.bytes);
            self.used = 0;
        }
        let mut word = [0; 8];
        word.copy_from_slice(&self.bytes[self.used..self.used + 8]);
        self.used += 8;
        u64::from_le_bytes(word)
    }

    /// A uniform number below `end`, without bias (rejection); 0 when `end` is 0.
    pub fn below(&mut self, end: u128) -> u128 {
        let Some(last) = end.checked_sub(1).filter(|last| *last > 0) else { return 0 };
        let unused = last.leading_zeros();
        loop {
            let low = u128::from(self.bits());
            let whole = if unused < 64 { u128::from(self.bits()) << 64 | low } else { low };
            // the lowest bits that the bound needs
            let number = whole & (u128::MAX >> unused);
            if number <= last {
                return number;
            }
        }
    }

    /// 32 uniform bytes.
    pub fn bytes(&mut self) -> [u8; 32] {
        let mut all = [0; 32];
        for part in all.chunks_mut(8) {
            part.copy_from_slice(&self.bits().to_le_bytes());
        }
        all
    }
}
