//! Whether a stored calibration may be trusted.
//!
//! The record and its checksum are `metrology`'s; here it is held against the key of the calibration bench and against the
//! front end it is for. A record that fails any of it is not used at all: the meter then says that it is not calibrated.

use core::fmt;

use ed25519_dalek::{Signature, VerifyingKey};
use metrology::{
    calibration::{RECORD_BYTES, Record, RecordError},
    config::{Config, ConfigError, FrontEnd},
};

/// A gain may differ from the parts' nominal value by this part of it, thousandths: the bench itself allows no more than 200 a step.
const GAIN_PERMILLE_MAX: u64 = 400;

/// Why a record is not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// There is none.
    None,
    /// There is no bench's key to check it with.
    NoKey,
    /// It is damaged, or of another form.
    Record(RecordError),
    /// Another signer, or a signature that is not the bench's.
    Signature,
    /// It is for another front end.
    FrontEnd,
    /// The core refuses it.
    Config(ConfigError),
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("there is no calibration record"),
            Self::NoKey => f.write_str("no key of a calibration bench is set: set calibration-key"),
            Self::Record(why) => write!(f, "{why}"),
            Self::Signature => f.write_str("the calibration record is not signed by the bench that this board trusts"),
            Self::FrontEnd => f.write_str("the calibration record is for another front end"),
            Self::Config(why) => write!(f, "the calibration record cannot be used: {why}"),
        }
    }
}

impl core::error::Error for Refused {}

/// The record in `bytes`, if it is whole, signed with `key`, and for the front end of `nominal`.
///
/// # Errors
/// Why it must not be used.
pub fn judge(bytes: Option<&[u8]>, key: Option<&[u8; 32]>, nominal: &Config, ring: usize) -> Result<Record, Refused> {
    let bytes = bytes.ok_or(Refused::None)?;
    let bytes: &[u8; RECORD_BYTES] = bytes.try_into().map_err(|_| Refused::Record(RecordError::NotARecord))?;
    let record = Record::from_bytes(bytes).map_err(Refused::Record)?;
    let key = key.ok_or(Refused::NoKey)?;
    let bench = VerifyingKey::from_bytes(key).map_err(|_| Refused::NoKey)?;
    if record.signer != key[..8] {
        return Err(Refused::Signature);
    }
    let signature = Signature::from_bytes(&record.signature);
    bench.verify_strict(&record.signed_part(), &signature).map_err(|_| Refused::Signature)?;
    if !fits(&record.front_end, &nominal.front_end) {
        return Err(Refused::FrontEnd);
    }
    let config = Config { front_end: record.front_end, ..*nominal };
    config.validate(ring).map_err(Refused::Config)?;
    Ok(record)
}

fn fits(found: &FrontEnd, nominal: &FrontEnd) -> bool {
    let near = |found: u64, nominal: u64| found.abs_diff(nominal).saturating_mul(1_000) <= nominal * GAIN_PERMILLE_MAX;
    found.counts_per_step == nominal.counts_per_step
        && near(found.volt_pv_per_count, nominal.volt_pv_per_count)
        && near(found.phase_pa_per_count, nominal.phase_pa_per_count)
        && near(found.neutral_pa_per_count, nominal.neutral_pa_per_count)
}

#[cfg(test)]
pub(crate) mod tests {
    use ed25519_dalek::{Signer, SigningKey};
    use metrology::config::Nominal;

    use super::*;

    pub(crate) const RING: usize = 1_024;

    pub(crate) fn nominal() -> Config {
        Config {
            sample_rate_mhz: 3_200_000,
            nominal: Nominal::Hz50,
            u_din_mv: 230_000,
            front_end: FrontEnd {
                volt_pv_per_count: 207_000_000,
                phase_pa_per_count: 9_214_000,
                neutral_pa_per_count: 9_214_000,
                current_delay_ns: 45_000,
                voltage_lead_udeg: 0,
                volt_noise_uv: 0,
                phase_noise_ua: 25_000,
                neutral_noise_ua: 25_000,
                counts_per_step: 2_048,
            },
            start_current_ua: 40_000,
        }
    }

    /// A record that `bench` has signed.
    pub(crate) fn record(bench: &SigningKey, front_end: FrontEnd) -> [u8; RECORD_BYTES] {
        let mut signer = [0; 8];
        signer.copy_from_slice(&bench.verifying_key().to_bytes()[..8]);
        let mut record = Record { front_end, count: 1, date_unix_s: 1_795_000_000, signer, signature: [0; 64] };
        record.signature = bench.sign(&record.signed_part()).to_bytes();
        record.to_bytes()
    }

    #[test]
    fn only_what_the_bench_has_signed_for_this_front_end_is_used() {
        let (bench, thief) = (SigningKey::from_bytes(&[3; 32]), SigningKey::from_bytes(&[4; 32]));
        let key = bench.verifying_key().to_bytes();
        let config = nominal();
        let good = FrontEnd { volt_pv_per_count: 211_000_000, ..config.front_end };
        let judged = |bytes: Option<&[u8]>| judge(bytes, Some(&key), &config, RING).map(|record| record.front_end);
        assert_eq!(judged(Some(&record(&bench, good))), Ok(good));
        assert_eq!(judged(None), Err(Refused::None));
        assert_eq!(judged(Some(&[0xff; RECORD_BYTES])), Err(Refused::Record(RecordError::NotARecord)));
        assert_eq!(judged(Some(&[1, 2, 3])), Err(Refused::Record(RecordError::NotARecord)));
        assert_eq!(judged(Some(&record(&thief, good))), Err(Refused::Signature));
        assert_eq!(judge(Some(&record(&bench, good)), None, &config, RING).err(), Some(Refused::NoKey));
        let other = FrontEnd { counts_per_step: 1, ..good };
        assert_eq!(judged(Some(&record(&bench, other))), Err(Refused::FrontEnd));
        let far = FrontEnd { phase_pa_per_count: 14_000_000, ..good };
        assert_eq!(judged(Some(&record(&bench, far))), Err(Refused::FrontEnd));
        let signed = record(&bench, good);
        for bit in 0..signed.len() * 8 {
            let mut bad = signed;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(judged(Some(&bad)).is_err(), "bit {bit}");
        }
    }
}
