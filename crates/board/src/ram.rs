//! NOR flash in memory, for the tests; it can lose power in a write.

use alloc::{vec, vec::Vec};

use embedded_storage::nor_flash::{ErrorType, NorFlash, NorFlashError, NorFlashErrorKind, ReadNorFlash};

pub(crate) const BLOCK: usize = 4_096;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PowerCut;

impl NorFlashError for PowerCut {
    fn kind(&self) -> NorFlashErrorKind {
        NorFlashErrorKind::Other
    }
}

#[derive(Clone)]
pub(crate) struct RamFlash {
    pub(crate) bytes: Vec<u8>,
    /// Words that can be written until power fails; an erase counts as one.
    pub(crate) left: Option<u32>,
}

impl RamFlash {
    pub(crate) fn new(blocks: usize) -> Self {
        Self { bytes: vec![0xff; blocks * BLOCK], left: None }
    }

    fn pay(&mut self) -> Result<(), PowerCut> {
        match &mut self.left {
            Some(0) => Err(PowerCut),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }
}

impl ErrorType for RamFlash {
    type Error = PowerCut;
}

impl ReadNorFlash for RamFlash {
    const READ_SIZE: usize = 4;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), PowerCut> {
        let at = usize::try_from(offset).expect("small");
        assert!(at.is_multiple_of(4) && bytes.len().is_multiple_of(4), "not whole words");
        bytes.copy_from_slice(&self.bytes[at..at + bytes.len()]);
        Ok(())
    }

    fn capacity(&self) -> usize {
        self.bytes.len()
    }
}

impl NorFlash for RamFlash {
    const WRITE_SIZE: usize = 4;
    const ERASE_SIZE: usize = BLOCK;

    fn erase(&mut self, from: u32, to: u32) -> Result<(), PowerCut> {
        let (from, to) = (usize::try_from(from).expect("small"), usize::try_from(to).expect("small"));
        assert!(from.is_multiple_of(BLOCK) && to.is_multiple_of(BLOCK), "not whole blocks");
        self.pay()?;
        self.bytes[from..to].fill(0xff);
        Ok(())
    }

    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), PowerCut> {
        let at = usize::try_from(offset).expect("small");
        assert!(at.is_multiple_of(4) && bytes.len().is_multiple_of(4), "not whole words");
        for (word, bytes) in bytes.chunks(4).enumerate() {
            self.pay()?;
            for (n, byte) in bytes.iter().enumerate() {
                let cell = &mut self.bytes[at + 4 * word + n];
                assert_eq!(*cell & byte, *byte, "written where it was not erased");
                *cell &= byte;
            }
        }
        Ok(())
    }
}
