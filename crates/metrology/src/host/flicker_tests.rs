//! Test points of the flickermeter: modulated sines through the real flickermeter.

use serde::Deserialize;
use serde_json::{Value, json};

use crate::config::Nominal;
use crate::host::check::Item;
use crate::host::flicker::{Flickermeter, Lamp, pst};
use crate::host::synthesis::Oscillator;

/// Sample rate of the tests, per second.
const RATE: f64 = 4000.0;
/// Every how many samples a value enters the statistics.
const KEEP: u32 = 8;

/// Shape of the modulation.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Shape {
    /// Sine.
    Sine,
    /// Square, half the period high.
    Square,
}

/// One test point.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct FlickerTest {
    /// Lamp, volts: 120 or 230.
    pub lamp_v: f64,
    /// Mains frequency, hertz.
    pub f_hz: f64,
    /// Modulation.
    pub shape: Shape,
    /// Modulation frequency, hertz.
    pub fmod_hz: f64,
    /// Relative voltage change, peak to peak, percent.
    pub dv_pct: f64,
}

/// What counts as right.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Acceptance {
    /// Wanted maximum of Pinst.
    #[serde(default = "one")]
    pub pinst_max: f64,
    /// Relative tolerance.
    pub pinst_tol: f64,
    /// Wanted Pst.
    #[serde(default = "one")]
    pub pst: f64,
    /// Relative tolerance.
    pub pst_tol: f64,
}

fn one() -> f64 {
    1.0
}

impl Default for Acceptance {
    /// IEC 61000-4-15 edition 2: 8 % and 5 %.
    fn default() -> Self {
        Self { pinst_max: 1.0, pinst_tol: 0.08, pst: 1.0, pst_tol: 0.05 }
    }
}

/// A file of flicker tests.
#[derive(Clone, Debug, Deserialize)]
pub struct FlickerFile {
    /// Tolerances.
    #[serde(default)]
    pub accept: Acceptance,
    /// Points whose Pinst maximum is judged.
    #[serde(default)]
    pub pinst_tests: Vec<FlickerTest>,
    /// Points whose Pst is judged.
    #[serde(default)]
    pub pst_tests: Vec<FlickerTest>,
}

impl FlickerTest {
    /// A name that tells the point.
    pub fn id(&self, kind: &str) -> String {
        let shape = match self.shape {
            Shape::Sine => "sine",
            Shape::Square => "square",
        };
        format!("{kind}-{}V-{}Hz-{shape}-{:.4}Hz", self.lamp_v, self.f_hz, self.fmod_hz)
    }

    /// Feeds `seconds` of the signal and hands over each Pinst with its time.
    fn feed(&self, seconds: f64, mut each: impl FnMut(f64, f64)) {
        let lamp = if self.lamp_v < 180.0 { Lamp::V120 } else { Lamp::V230 };
        let nominal = if self.f_hz > 57.5 { Nominal::Hz60 } else { Nominal::Hz50 };
        let mut meter = Flickermeter::new(RATE, lamp, nominal);
        let mut mains = Oscillator::new(self.f_hz, RATE, 0.0);
        let mut sine = Oscillator::new(self.fmod_hz, RATE, 0.0);
        for k in 0..(seconds * RATE) as u64 {
            let t = k as f64 / RATE;
            let m = match self.shape {
                Shape::Sine => sine.step(),
                Shape::Square => 1.0 - 2.0 * f64::from((t * self.fmod_hz * 2.0 + 1e-9) as u64 as u32 & 1),
            };
            each(t, meter.push(mains.step() * (1.0 + self.dv_pct / 200.0 * m)));
        }
    }

    /// Largest Pinst once settled.
    pub fn pinst_max(&self) -> f64 {
        let settle = 22.0;
        let measure = (2.0 / self.fmod_hz).max(2.0);
        let mut largest = 0.0f64;
        self.feed(settle + measure, |t, value| {
            if t >= settle {
                largest = largest.max(value);
            }
        });
        largest
    }

    /// Pst of ten minutes after one minute of settling.
    pub fn pst(&self) -> f64 {
        let mut values = Vec::with_capacity((600.0 * RATE) as usize / KEEP as usize + 1);
        let mut count = 0u32;
        self.feed(660.0, |t, value| {
            count += 1;
            if t >= 60.0 && count.is_multiple_of(KEEP) {
                values.push(value as f32);
            }
        });
        pst(&mut values).unwrap_or(0.0)
    }
}

/// Runs `work` on every test over the available processors, in order.
fn each_in_parallel(tests: &[FlickerTest], work: fn(&FlickerTest) -> f64) -> Vec<f64> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(8);
    let share = tests.len().div_ceil(threads).max(1);
    let mut results = Vec::with_capacity(tests.len());
    std::thread::scope(|scope| {
        let running: Vec<_> =
            tests.chunks(share).map(|part| scope.spawn(move || part.iter().map(work).collect::<Vec<f64>>())).collect();
        for (handle, part) in running.into_iter().zip(tests.chunks(share)) {
            // A panic in a worker shows as values that fail every tolerance.
            results.extend(handle.join().unwrap_or_else(|_| vec![f64::NAN; part.len()]));
        }
    });
    results
}

impl FlickerFile {
    /// Measures every point: identifier, quantity name, value.
    pub fn measure(&self) -> Vec<(String, &'static str, f64)> {
        let pinst = each_in_parallel(&self.pinst_tests, FlickerTest::pinst_max);
        let pst = each_in_parallel(&self.pst_tests, FlickerTest::pst);
        let mut all = Vec::with_capacity(pinst.len() + pst.len());
        all.extend(self.pinst_tests.iter().zip(pinst).map(|(t, v)| (t.id("pinst"), "pinst", v)));
        all.extend(self.pst_tests.iter().zip(pst).map(|(t, v)| (t.id("pst"), "pst", v)));
        all
    }

    /// Measures and judges every point.
    pub fn check(&self) -> Vec<Item> {
        let judge = |(id, quantity, got): (String, &str, f64)| {
            let (expected, relative) = match quantity {
                "pinst" => (self.accept.pinst_max, self.accept.pinst_tol),
                _ => (self.accept.pst, self.accept.pst_tol),
            };
            let tolerance = expected * relative;
            Item {
                id,
                quantity: quantity.to_owned(),
                expected: json!(expected),
                got: if got.is_finite() { json!(got) } else { Value::Null },
                tolerance,
                pass: (got - expected).abs() <= tolerance,
            }
        };
        self.measure().into_iter().map(judge).collect()
    }
}
