//! A sweep over seeded random signals: how far the core is from the analytic truth in the worst case.
//!
//! Signals: 42.5 to 57.5 Hz, five sample rates, all four quadrants, harmonics as far as the rate allows, direct current,
//! weak noise. Truth is the closed form of the signal, never another measurement.

use crate::host::synthesis::Noise;
use crate::host::vectors::{Adc, NoiseSpec, Vector, VectorError, measure};

/// Which front end the sweep uses.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum FrontEndKind {
    /// 24 bits, ranged to the signal; currents 0.05 to 80 A.
    Ideal,
    /// 12 bits at 66 mV/A and 3.05 mV/V, a fixed current in amperes, no harmonics.
    TwelveBits {
        /// Current, amperes rms.
        amperes: f64,
    },
}

/// Largest deviations found, and the signal that caused the largest of power.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Worst {
    /// Signals run.
    pub signals: u32,
    /// Active power, percent of S.
    pub p_pct_of_s: f64,
    /// Fundamental reactive power, percent of S.
    pub q_pct_of_s: f64,
    /// Voltage, percent.
    pub vrms_pct: f64,
    /// Current, percent.
    pub irms_pct: f64,
    /// Frequency, hertz.
    pub frequency_hz: f64,
    /// Distortion of voltage or current, percentage points.
    pub thd_points: f64,
    /// Number of the signal with the largest deviation of power.
    pub worst_signal: u32,
}

const RATES: [f64; 5] = [3906.25, 6400.0, 8000.0, 10_000.0, 12_800.0];

fn harmonics(random: &mut Noise, fundamental: f64, degrees: f64, highest: u32, share: f64) -> Vec<(f64, f64, f64)> {
    let mut lines = vec![(1.0, fundamental, degrees)];
    for order in 2..=highest {
        if random.uniform() < 0.3 {
            let amplitude = fundamental * share * random.uniform() / f64::from(order).sqrt();
            lines.push((f64::from(order), amplitude, random.between(-180.0, 180.0)));
        }
    }
    lines
}

/// Signal number `k` of a sweep with `seed`.
pub fn signal(seed: u64, k: u32, kind: FrontEndKind) -> Vector {
    let mut random = Noise::new(seed.wrapping_mul(1_000_003).wrapping_add(u64::from(k)));
    let f_hz = random.between(42.5, 57.5);
    let fs_hz = RATES[(random.uniform() * RATES.len() as f64) as usize % RATES.len()];
    let volts = 230.0 * random.between(0.6, 1.2);
    let v_degrees = random.between(-180.0, 180.0);
    let angle = random.between(-180.0, 180.0);
    let mut vector = Vector { id: format!("S{k}"), f_hz, fs_hz, duration_s: 1.0, ..Vector::default() };
    match kind {
        FrontEndKind::Ideal => {
            let highest = ((0.38 * fs_hz / f_hz) as u32).min(50);
            let amperes = 0.05 * 1600f64.powf(random.uniform());
            vector.v_harm = harmonics(&mut random, volts, v_degrees, highest, 0.1);
            vector.i_harm = harmonics(&mut random, amperes, v_degrees - angle, highest, 0.6);
            vector.v_dc = volts * random.between(-0.05, 0.05);
            vector.i_dc = amperes * random.between(-0.2, 0.2);
            if random.uniform() < 0.3 {
                vector.noise = Some(NoiseSpec { v_sigma: volts * 1e-4, i_sigma: amperes * 1e-4, seed: u64::from(k) });
            }
        }
        FrontEndKind::TwelveBits { amperes } => {
            vector.duration_s = 3.0;
            vector.v_harm = vec![(1.0, volts, v_degrees)];
            vector.i_harm = vec![(1.0, amperes, v_degrees - angle)];
            vector.adc = Some(Adc { bits: 12, vref: 3.3, offset_v: 1.65, v_per_volt: 0.00305, v_per_amp: 0.066 });
        }
    }
    vector
}

struct Truth {
    p: f64,
    q1: f64,
    vrms: f64,
    irms: f64,
    thd_v_pct: f64,
    thd_i_pct: f64,
}

fn truth(vector: &Vector) -> Truth {
    let rms = |lines: &[(f64, f64, f64)]| lines.iter().map(|l| l.1 * l.1).sum::<f64>().sqrt();
    let thd = |lines: &[(f64, f64, f64)]| rms(&lines[1..]) / lines[0].1 * 100.0;
    let mut p = 0.0;
    for v in &vector.v_harm {
        for i in vector.i_harm.iter().filter(|i| i.0 == v.0) {
            p += v.1 * i.1 * (v.2 - i.2).to_radians().cos();
        }
    }
    let (v1, i1) = (vector.v_harm[0], vector.i_harm[0]);
    Truth {
        p,
        q1: v1.1 * i1.1 * (v1.2 - i1.2).to_radians().sin(),
        vrms: rms(&vector.v_harm),
        irms: rms(&vector.i_harm),
        thd_v_pct: thd(&vector.v_harm),
        thd_i_pct: thd(&vector.i_harm),
    }
}

/// Runs `count` signals of a sweep.
pub fn run(seed: u64, count: u32, kind: FrontEndKind) -> Result<Worst, VectorError> {
    let mut worst = Worst { signals: count, ..Worst::default() };
    for k in 0..count {
        let vector = signal(seed, k, kind);
        let measured = measure(&vector, 230.0)?;
        let truth = truth(&vector);
        // A missing quantity counts as infinitely wrong.
        let off = |name: &str, expected: f64| {
            measured.get(name).and_then(serde_json::Value::as_f64).map_or(f64::INFINITY, |got| (got - expected).abs())
        };
        let apparent = truth.vrms * truth.irms;
        let p = off("p_w", truth.p) / apparent * 100.0;
        if p > worst.p_pct_of_s {
            (worst.p_pct_of_s, worst.worst_signal) = (p, k);
        }
        worst.q_pct_of_s = worst.q_pct_of_s.max(off("q1_var", truth.q1) / apparent * 100.0);
        worst.vrms_pct = worst.vrms_pct.max(off("vrms", truth.vrms) / truth.vrms * 100.0);
        worst.irms_pct = worst.irms_pct.max(off("irms", truth.irms) / truth.irms * 100.0);
        worst.frequency_hz = worst.frequency_hz.max(off("freq_hz", vector.f_hz));
        worst.thd_points = worst.thd_points.max(off("thd_v_f_50_pct", truth.thd_v_pct));
        worst.thd_points = worst.thd_points.max(off("thd_i_f_50_pct", truth.thd_i_pct));
    }
    Ok(worst)
}
