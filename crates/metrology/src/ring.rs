//! The last samples of voltage and phase current, 24 bits each in three bytes, for the spectrum of a window.

/// Memory of `N` samples, addressed by sample index modulo 2^32.
pub struct Ring<const N: usize> {
    v_high: [i16; N],
    i_high: [i16; N],
    v_low: [u8; N],
    i_low: [u8; N],
}

/// Which stored channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channel {
    /// Voltage.
    Voltage,
    /// Phase current.
    Current,
}

impl<const N: usize> Ring<N> {
    /// An empty memory, which reads zero.
    pub const fn new() -> Self {
        Self { v_high: [0; N], i_high: [0; N], v_low: [0; N], i_low: [0; N] }
    }

    /// Stores one sample.
    #[inline(always)]
    pub fn store(&mut self, index: u32, v: i32, i: i32) {
        let at = index as usize & (N - 1);
        self.v_high[at] = (v >> 8) as i16;
        self.v_low[at] = v as u8;
        self.i_high[at] = (i >> 8) as i16;
        self.i_low[at] = i as u8;
    }

    /// Reads one stored value.
    #[inline(always)]
    pub fn read(&self, channel: Channel, index: u32) -> i32 {
        let at = index as usize & (N - 1);
        let (high, low) = match channel {
            Channel::Voltage => (self.v_high[at], self.v_low[at]),
            Channel::Current => (self.i_high[at], self.i_low[at]),
        };
        (i32::from(high) << 8) | i32::from(low)
    }
}

impl<const N: usize> Default for Ring<N> {
    fn default() -> Self {
        Self::new()
    }
}
