//! A calibration at the bench: the words that a person says over the serial port, and what a board answers.
//!
//! The steps, their order and their arithmetic are `metrology::calibration`; here are the words, the limits of this board and the
//! unsigned record at the end, which the bench's computer signs (`examples/calibrate.rs`). What is found holds from the next window
//! on, but is kept only by a signed record. A board that is being calibrated counts as not calibrated.

use alloc::{format, string::String};

use metrology::{
    calibration::{Calibrator, Reading, Record, RecordError, Step},
    config::{Config, FrontEnd},
};

/// Noise of a current channel above which something is wrong beside it, microamperes.
const NOISE_UA_MAX: u32 = 60_000;
/// The start current while calibrating: nothing is hidden.
const START_CURRENT_UA: u32 = 0;

/// A calibration under way.
#[derive(Clone, Debug)]
pub struct Bench {
    calibrator: Calibrator,
    /// The count that its record will have.
    count: u32,
}

/// What came of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// What the board says.
    pub answer: String,
    /// What the measuring core must be told; nothing while it stays as it is.
    pub measure_with: Option<FrontEnd>,
}

impl Bench {
    /// Begins for a board with these parts that was last calibrated with this record, if ever.
    pub fn begin(nominal: &Config, last: Option<&Record>) -> (Self, Progress) {
        let count = last.map_or(0, |record| record.count).saturating_add(1);
        let calibrator = Calibrator::new(nominal.front_end);
        let progress = Progress {
            answer: format!("ok calibration {count} begins; no load for a minute, then say: bench zero"),
            measure_with: Some(*calibrator.front_end()),
        };
        (Self { calibrator, count }, progress)
    }

    /// What the measuring core is told while a calibration is made with `front_end`.
    pub fn config(nominal: &Config, front_end: FrontEnd) -> Config {
        Config { front_end, start_current_ua: START_CURRENT_UA, ..*nominal }
    }

    /// Takes `zero`, `voltage VOLTS`, `current AMPERES`, `phase DEGREES`, `verify WATTS` or `finish`.
    ///
    /// # Errors
    /// What is wrong and what to do; the calibration stays where it was.
    pub fn say(&mut self, words: &str, reading: Option<&Reading>) -> Result<Progress, String> {
        let (step, value) = words.split_once(' ').unwrap_or((words, ""));
        if step == "finish" {
            return self.finish();
        }
        let reading = reading.ok_or("nothing has been measured yet: is there mains voltage?")?;
        let was = *self.calibrator.front_end();
        let result = match step {
            "zero" if reading.irms_ua.max(reading.neutral_ua) > NOISE_UA_MAX => {
                return Err(format!(
                    "{}: more than 60 mA without load; switch it off, or look what is near the sensors",
                    currents(reading)
                ));
            }
            "zero" => self.calibrator.zero(reading),
            "voltage" => self.calibrator.voltage_gain(reading, micro_rms(value, 1_000.0)?),
            "current" => self.calibrator.current_gain(reading, micro_rms(value, 100.0)?),
            "phase" => self.calibrator.phase(reading, micro(value, 90.0)? as i32),
            "verify" => {
                let error =
                    self.calibrator.verify(reading, micro(value, 100_000.0)?).map_err(|why| format!("{why}"))?;
                let (p, error) = (in_units(reading.p_uw), in_units(error * 100));
                return Ok(Progress { answer: format!("ok {p} W measured, error {error} %"), measure_with: None });
            }
            _ => return Err("say: bench zero, voltage V, current A, phase DEGREES, verify W or finish".into()),
        };
        result.map_err(|why| format!("{why}"))?;
        let found = *self.calibrator.front_end();
        let answer =
            format!("ok {} measured; then say: bench {}", measured(step, reading), next(self.calibrator.next()));
        Ok(Progress { answer, measure_with: (found != was).then_some(found) })
    }

    fn finish(&self) -> Result<Progress, String> {
        let record = self.calibrator.finish(self.count, 0, [0; 8]).map_err(|why| format!("{why}"))?;
        let digits: String = record.to_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Progress { answer: format!("ok unsigned {digits}"), measure_with: None })
    }
}

fn next(step: Step) -> &'static str {
    match step {
        Step::Zero => "zero",
        Step::VoltageGain => "voltage VOLTS",
        Step::CurrentGain => "current AMPERES",
        Step::Phase => "phase DEGREES",
        Step::Verify => "verify WATTS, or finish",
    }
}

fn measured(step: &str, reading: &Reading) -> String {
    match step {
        "voltage" => format!("{} V", in_units(i64::from(reading.vrms_uv))),
        "phase" => format!("{} W, {} var", in_units(reading.p1_uw), in_units(reading.q1_uvar)),
        _ => currents(reading),
    }
}

fn currents(reading: &Reading) -> String {
    let [phase, neutral] = [reading.irms_ua, reading.neutral_ua].map(|ua| in_units(i64::from(ua)));
    format!("phase {phase} A, neutral {neutral} A")
}

/// Millionths as a decimal number with three places.
fn in_units(micro: i64) -> String {
    let thousandths = (micro.unsigned_abs() + 500) / 1_000;
    let sign = if micro < 0 && thousandths > 0 { "-" } else { "" };
    format!("{sign}{}.{:03}", thousandths / 1_000, thousandths % 1_000)
}

/// A number of a line in millionths, at most `most` either way.
fn micro(text: &str, most: f64) -> Result<i64, String> {
    let number = text.trim().parse::<f64>().ok().filter(|n| n.is_finite());
    let number = number.ok_or("say the reference as a number, such as: bench voltage 230.4")?;
    if number.abs() > most {
        return Err(format!("{number} is not a plausible reference: at most {most}"));
    }
    Ok((number * 1e6) as i64)
}

/// The same of a root mean square, which is not negative.
fn micro_rms(text: &str, most: f64) -> Result<u32, String> {
    u32::try_from(micro(text, most)?).map_err(|_| format!("{} is not a plausible reference: not below 0", text.trim()))
}

/// Signs the record that `bench finish` gave, and dates it.
///
/// # Errors
/// When the bytes are not a whole record.
pub fn sign(unsigned: &[u8], date_unix_s: u32, key: &ed25519_dalek::SigningKey) -> Result<Record, RecordError> {
    use ed25519_dalek::Signer;

    let mut record = Record::from_bytes(unsigned.try_into().map_err(|_| RecordError::NotARecord)?)?;
    record.signer.copy_from_slice(&key.verifying_key().to_bytes()[..8]);
    record.date_unix_s = date_unix_s;
    record.signature = key.sign(&record.signed_part()).to_bytes();
    Ok(record)
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::SigningKey;

    use super::*;
    use crate::calibration::{
        judge,
        tests::{RING, nominal},
    };

    /// A board whose voltage reads 2 % low, currents 3 and 5 % high, with 1.5 degrees of lead.
    fn reading(front_end: &FrontEnd, volts: f64, amperes: f64, degrees: f64) -> Reading {
        let design = nominal().front_end;
        let ratio = |now: u64, then: u64| now as f64 / then as f64;
        let v = volts * 0.98 * ratio(front_end.volt_pv_per_count, design.volt_pv_per_count);
        let i = amperes * 1.03 * ratio(front_end.phase_pa_per_count, design.phase_pa_per_count);
        let n = amperes * 1.05 * ratio(front_end.neutral_pa_per_count, design.neutral_pa_per_count);
        let lead = 1.5 - f64::from(front_end.voltage_lead_udeg) / 1e6;
        let angle = (degrees + lead).to_radians();
        let (p, q) = (v * i * angle.cos(), v * i * angle.sin());
        // 20 mA of noise add in quadrature, and what the front end knows of them is taken off again.
        let with_noise = |amperes: f64, known_ua: u32| {
            let square = (amperes * 1e6).powi(2) + 20_000f64.powi(2) - f64::from(known_ua).powi(2);
            square.max(0.0).sqrt() as u32
        };
        Reading {
            vrms_uv: (v * 1e6) as u32,
            irms_ua: with_noise(i, front_end.phase_noise_ua),
            neutral_ua: with_noise(n, front_end.neutral_noise_ua),
            p_uw: (p * 1e6) as i64,
            p1_uw: (p * 1e6) as i64,
            q1_uvar: (q * 1e6) as i64,
            no_load: amperes == 0.0,
            front_end: *front_end,
        }
    }

    fn done() -> Bench {
        let (mut bench, progress) = Bench::begin(&nominal(), None);
        let mut front_end = progress.measure_with.expect("noise correction off");
        assert_eq!((front_end.phase_noise_ua, Bench::config(&nominal(), front_end).start_current_ua), (0, 0));
        for (words, amperes, degrees) in
            [("zero", 0.0, 0.0), ("voltage 230", 0.0, 0.0), ("current 10", 10.0, 0.0), ("phase 60", 10.0, 60.0)]
        {
            let progress = bench.say(words, Some(&reading(&front_end, 230.0, amperes, degrees))).expect(words);
            front_end = progress.measure_with.expect("something was found");
        }
        let answer = bench.say("verify 1150", Some(&reading(&front_end, 230.0, 10.0, 60.0))).expect("verified").answer;
        let error: f64 = answer
            .split_once("error ")
            .and_then(|(_, rest)| rest.split([' ', '%']).next())
            .and_then(|number| number.parse().ok())
            .unwrap_or_else(|| panic!("no error is said: {answer}"));
        assert!(error.abs() <= 0.1, "{answer}");
        bench
    }

    #[test]
    fn five_steps_end_in_a_record_that_the_board_takes() {
        let answer = done().say("finish", None).expect("finished").answer;
        let digits = answer.strip_prefix("ok unsigned ").expect("digits");
        let unsigned: Vec<u8> =
            (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).expect("hex")).collect();
        let key = SigningKey::from_bytes(&[3; 32]);
        let public = key.verifying_key().to_bytes();
        let trusted = |bytes: &[u8]| judge(Some(bytes), Some(&public), &nominal(), RING);
        assert!(trusted(&unsigned).is_err(), "not before it is signed");
        let signed = sign(&unsigned, 1_795_000_000, &key).expect("whole").to_bytes();
        let record = trusted(&signed).expect("the bench's");
        assert_eq!((record.count, record.date_unix_s), (1, 1_795_000_000));
        let gain = record.front_end.volt_pv_per_count as f64 / nominal().front_end.volt_pv_per_count as f64;
        assert!((gain * 0.98 - 1.0).abs() < 1e-5, "{gain}");
        assert!((record.front_end.voltage_lead_udeg - 1_500_000).abs() < 10, "{}", record.front_end.voltage_lead_udeg);
        assert_eq!(sign(&unsigned[1..], 0, &key).err(), Some(RecordError::NotARecord));
    }

    #[test]
    fn the_next_calibration_counts_on() {
        let last = done().calibrator.finish(7, 0, [0; 8]).expect("finished");
        assert_eq!(Bench::begin(&nominal(), Some(&last)).0.count, 8);
    }

    #[test]
    fn what_cannot_be_is_refused_and_changes_nothing() {
        let (mut bench, progress) = Bench::begin(&nominal(), None);
        let front_end = progress.measure_with.expect("begun");
        let refused = |bench: &mut Bench, words: &str, reading: Option<&Reading>| {
            let before = *bench.calibrator.front_end();
            let why = bench.say(words, reading).expect_err(words);
            assert_eq!(*bench.calibrator.front_end(), before, "{words}");
            why
        };
        let (quiet, loaded) = (reading(&front_end, 230.0, 0.0, 0.0), reading(&front_end, 230.0, 5.0, 0.0));
        assert!(refused(&mut bench, "zero", None).contains("mains voltage"));
        assert!(refused(&mut bench, "zero", Some(&loaded)).contains("60 mA"));
        assert!(refused(&mut bench, "voltage 230", Some(&quiet)).contains("Zero must be done first"));
        assert!(refused(&mut bench, "finish", Some(&quiet)).contains("must be done first"));
        bench.say("zero", Some(&quiet)).expect("zero");
        assert!(refused(&mut bench, "voltage 230", Some(&quiet)).contains("wait a second"));
        let fresh = reading(bench.calibrator.front_end(), 230.0, 0.0, 0.0);
        for (words, why) in [
            ("voltage", "as a number"),
            ("voltage NaN", "as a number"),
            ("voltage 23000", "not a plausible reference"),
            ("voltage 120", "check wiring"),
            ("voltage -230", "not below 0"),
            ("dance", "say: bench"),
        ] {
            let told = refused(&mut bench, words, Some(&fresh));
            assert!(told.contains(why), "{words}: {told}");
        }
    }
}
