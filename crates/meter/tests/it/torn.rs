//! Flash whose power fails at any word, and a handle to it that outlives the meter.

use std::{cell::RefCell, rc::Rc};

use embedded_storage::nor_flash::{
    ErrorType, MultiwriteNorFlash, NorFlash, NorFlashError, NorFlashErrorKind, ReadNorFlash,
};

use crate::random::Random;

/// Bytes of an erase block.
pub const BLOCK: usize = 4_096;
/// Erase blocks.
pub const BLOCKS: usize = 24;

/// NOR flash in RAM that dies after a number of word writes (an erase counts as eight).
pub struct TornFlash {
    bytes: Vec<u8>,
    /// Word writes until power fails.
    pub left: Option<u64>,
    random: Random,
}

/// Why the flash failed.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub enum Fault {
    /// Power was cut.
    PowerCut,
    /// It was used as flash cannot be.
    Misuse,
}

impl NorFlashError for Fault {
    fn kind(&self) -> NorFlashErrorKind {
        NorFlashErrorKind::Other
    }
}

impl ErrorType for TornFlash {
    type Error = Fault;
}

impl TornFlash {
    /// Erased, with power.
    pub fn new(seed: u64) -> Self {
        Self { bytes: vec![0xff; BLOCK * BLOCKS], left: None, random: Random(seed) }
    }

    fn word(&mut self) -> [u8; 4] {
        u32::try_from(self.random.below(1 << 32)).expect("32 bits").to_le_bytes()
    }

    /// Takes the price of an operation; what is left of it when power fails in its midst.
    fn pay(&mut self, price: u64) -> Result<(), u64> {
        match &mut self.left {
            None => Ok(()),
            Some(left) if *left >= price => {
                *left -= price;
                Ok(())
            }
            Some(left) => Err(std::mem::take(left)),
        }
    }
}

impl ReadNorFlash for TornFlash {
    const READ_SIZE: usize = 4;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), Fault> {
        let at = usize::try_from(offset).expect("small");
        bytes.copy_from_slice(self.bytes.get(at..at + bytes.len()).ok_or(Fault::Misuse)?);
        Ok(())
    }

    fn capacity(&self) -> usize {
        self.bytes.len()
    }
}

impl NorFlash for TornFlash {
    const WRITE_SIZE: usize = 4;
    const ERASE_SIZE: usize = BLOCK;

    fn erase(&mut self, from: u32, to: u32) -> Result<(), Fault> {
        let (from, to) = (usize::try_from(from).expect("small"), usize::try_from(to).expect("small"));
        assert!(from.is_multiple_of(BLOCK) && to.is_multiple_of(BLOCK) && to <= self.bytes.len());
        for block in (from..to).step_by(BLOCK) {
            if let Err(done) = self.pay(8) {
                // a part is erased, a word is half erased
                let end = block + BLOCK / 8 * usize::try_from(done).expect("small");
                self.bytes[block..end].fill(0xff);
                for byte in 0..4 {
                    self.bytes[end + byte] |= self.word()[byte];
                }
                return Err(Fault::PowerCut);
            }
            self.bytes[block..block + BLOCK].fill(0xff);
        }
        Ok(())
    }

    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), Fault> {
        let at = usize::try_from(offset).expect("small");
        assert!(at.is_multiple_of(4) && bytes.len().is_multiple_of(4), "not whole words");
        for (n, word) in bytes.chunks(4).enumerate() {
            let torn = if self.pay(1).is_err() { Some(self.word()) } else { None };
            for (byte, value) in word.iter().enumerate() {
                let cell = &mut self.bytes[at + 4 * n + byte];
                // only from 1 to 0; a torn word has only some of the bits
                *cell &= value | torn.map_or(0, |mask| mask[byte]);
            }
            if torn.is_some() {
                return Err(Fault::PowerCut);
            }
        }
        Ok(())
    }
}

impl MultiwriteNorFlash for TornFlash {}

/// The flash in its socket: whoever holds a handle may use it.
#[derive(Clone)]
pub struct Socket(pub Rc<RefCell<TornFlash>>);

impl Socket {
    /// A new flash.
    pub fn new(seed: u64) -> Self {
        Self(Rc::new(RefCell::new(TornFlash::new(seed))))
    }

    /// Power fails after so many word writes; `None`: it does not.
    pub fn power(&self, left: Option<u64>) {
        self.0.borrow_mut().left = left;
    }
}

impl ErrorType for Socket {
    type Error = Fault;
}

impl ReadNorFlash for Socket {
    const READ_SIZE: usize = TornFlash::READ_SIZE;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), Fault> {
        self.0.borrow_mut().read(offset, bytes)
    }

    fn capacity(&self) -> usize {
        self.0.borrow().capacity()
    }
}

impl NorFlash for Socket {
    const WRITE_SIZE: usize = TornFlash::WRITE_SIZE;
    const ERASE_SIZE: usize = TornFlash::ERASE_SIZE;

    fn erase(&mut self, from: u32, to: u32) -> Result<(), Fault> {
        self.0.borrow_mut().erase(from, to)
    }

    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), Fault> {
        self.0.borrow_mut().write(offset, bytes)
    }
}

impl MultiwriteNorFlash for Socket {}
