//! Recorded samples as bytes: a head that says what was recorded and how it is scaled, then the samples. Whoever reads it, a
//! microcontroller included, measures exactly what was measured where it was written. Not a format for meters to send.

use crate::config::{Config, FrontEnd, Nominal};
use crate::sums::Sample;

/// Longest name, bytes of ASCII.
pub const NAME_BYTES: usize = 16;
/// Length of a head.
pub const HEAD_BYTES: usize = NAME_BYTES + 68;
/// Length of a sample: voltage, phase and neutral current, each four bytes, little endian.
pub const SAMPLE_BYTES: usize = 12;

/// What stands before the samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Name of the recording, filled up with zeros.
    pub name: [u8; NAME_BYTES],
    /// Rate and scales.
    pub config: Config,
    /// How many samples follow.
    pub samples: u32,
}

/// Takes a buffer apart, from its front.
struct Cut<'a>(&'a [u8]);

impl Cut<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (first, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*first)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    fn i32(&mut self) -> Option<i32> {
        self.take().map(i32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }
}

impl Head {
    /// A head; the name is cut to [`NAME_BYTES`].
    pub fn new(name: &str, config: Config, samples: u32) -> Self {
        let mut bytes = [0; NAME_BYTES];
        bytes.iter_mut().zip(name.bytes()).for_each(|(to, from)| *to = from);
        Self { name: bytes, config, samples }
    }

    /// The name; empty when it is no text.
    pub fn name(&self) -> &str {
        let length = self.name.iter().position(|byte| *byte == 0).unwrap_or(NAME_BYTES);
        core::str::from_utf8(&self.name[..length]).unwrap_or_default()
    }

    /// Its bytes.
    pub fn write(&self) -> [u8; HEAD_BYTES] {
        let (config, front) = (&self.config, &self.config.front_end);
        let mut bytes = [0; HEAD_BYTES];
        let mut at = 0;
        let mut put = |part: &[u8]| {
            bytes[at..at + part.len()].copy_from_slice(part);
            at += part.len();
        };
        put(&self.name);
        for scale in [front.volt_pv_per_count, front.phase_pa_per_count, front.neutral_pa_per_count] {
            put(&scale.to_le_bytes());
        }
        for error in [front.current_delay_ns, front.voltage_lead_udeg] {
            put(&error.to_le_bytes());
        }
        for number in [
            front.volt_noise_uv,
            front.phase_noise_ua,
            front.neutral_noise_ua,
            front.counts_per_step,
            config.sample_rate_mhz,
            config.nominal.hertz(),
            config.u_din_mv,
            config.start_current_ua,
            self.samples,
        ] {
            put(&number.to_le_bytes());
        }
        bytes
    }

    /// Reads a head; `None` when it names no nominal frequency.
    pub fn read(bytes: &[u8; HEAD_BYTES]) -> Option<Self> {
        let mut cut = Cut(bytes);
        let name = cut.take()?;
        let front_end = FrontEnd {
            volt_pv_per_count: cut.u64()?,
            phase_pa_per_count: cut.u64()?,
            neutral_pa_per_count: cut.u64()?,
            current_delay_ns: cut.i32()?,
            voltage_lead_udeg: cut.i32()?,
            volt_noise_uv: cut.u32()?,
            phase_noise_ua: cut.u32()?,
            neutral_noise_ua: cut.u32()?,
            counts_per_step: cut.u32()?,
        };
        let sample_rate_mhz = cut.u32()?;
        let nominal = match cut.u32()? {
            50 => Nominal::Hz50,
            60 => Nominal::Hz60,
            _ => return None,
        };
        let config = Config { sample_rate_mhz, nominal, u_din_mv: cut.u32()?, front_end, start_current_ua: cut.u32()? };
        Some(Self { name, config, samples: cut.u32()? })
    }
}

/// A sample's bytes.
pub fn write_sample(sample: &Sample) -> [u8; SAMPLE_BYTES] {
    let mut bytes = [0; SAMPLE_BYTES];
    for (to, from) in bytes.chunks_exact_mut(4).zip([sample.v, sample.i, sample.n]) {
        to.copy_from_slice(&from.to_le_bytes());
    }
    bytes
}

/// The sample of these bytes.
pub fn read_sample(bytes: &[u8; SAMPLE_BYTES]) -> Sample {
    let [a, b, c, d, e, f, g, h, i, j, k, l] = *bytes;
    Sample {
        v: i32::from_le_bytes([a, b, c, d]),
        i: i32::from_le_bytes([e, f, g, h]),
        n: i32::from_le_bytes([i, j, k, l]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_and_samples_return() {
        let front_end = FrontEnd {
            volt_pv_per_count: u64::MAX,
            phase_pa_per_count: 1,
            neutral_pa_per_count: 1 << 40,
            current_delay_ns: -5,
            voltage_lead_udeg: i32::MIN,
            volt_noise_uv: 6,
            phase_noise_ua: 7,
            neutral_noise_ua: 8,
            counts_per_step: 2_048,
        };
        let config = Config {
            sample_rate_mhz: 3_906_250,
            nominal: Nominal::Hz60,
            u_din_mv: 120_000,
            front_end,
            start_current_ua: 20_000,
        };
        for name in ["V01", "exactly-16-bytes", ""] {
            let head = Head::new(name, config, u32::MAX);
            assert_eq!(Head::read(&head.write()), Some(head));
            assert_eq!(head.name(), name);
        }
        assert_eq!(Head::read(&[0; HEAD_BYTES]), None);
        let sample = Sample { v: i32::MIN, i: -1, n: 1 << 22 };
        assert_eq!(read_sample(&write_sample(&sample)), sample);
    }
}
