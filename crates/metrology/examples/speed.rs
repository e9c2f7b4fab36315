//! Speed of the host side, one line per figure: window analysis, flickermeter, weekly reports, the core itself.
#![allow(clippy::print_stdout)]

use std::hint::black_box;
use std::time::Instant;

use metrology::config::Nominal;
use metrology::fft::Spectrum;
use metrology::golden::{SCENARIOS, run};
use metrology::host::flicker::{Flickermeter, Lamp};
use metrology::host::limits::en50160;
use metrology::host::spectrum::Analyser;
use metrology::host::synthesis::{Noise, Oscillator};
use metrology::host::weekly::{Evaluator, Week};

/// Shortest of two hundred timings of `work`, in seconds. Keep `work` below a millisecond or two: longer pieces are
/// interrupted on a busy machine.
fn shortest(mut work: impl FnMut()) -> f64 {
    (0..200)
        .map(|_| {
            let start = Instant::now();
            work();
            start.elapsed().as_secs_f64()
        })
        .fold(f64::INFINITY, f64::min)
}

fn week(random: &mut Noise) -> Week {
    let mut column = |centre: f64, spread: f64, count: usize| -> Vec<f32> {
        (0..count).map(|_| (centre + spread * random.normal()) as f32).collect()
    };
    Week {
        voltage_pct: column(100.0, 2.0, 1008),
        frequency_pct: column(0.0, 0.1, 1008),
        thd_pct: column(3.0, 0.5, 1008),
        harmonics_pct: (0..50).map(|_| column(0.4, 0.1, 1008)).collect(),
        plt: column(0.5, 0.1, 84),
        flagged: (0..1008).map(|k| k % 97 == 0).collect(),
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (mut a, mut b) = (Oscillator::new(50.3, 10_240.0, 0.3), Oscillator::new(251.5, 10_240.0, 0.1));
    let v: Vec<f32> = (0..2200).map(|_| (325.0 * a.step() + 10.0 * b.step()) as f32).collect();
    let i: Vec<f32> = v.iter().map(|x| x / 40.0).collect();
    let mut analyser = Analyser::new(10);
    let length = 10.0 * 10_240.0 / 50.3;
    let rounds = 5;
    let seconds = shortest(|| {
        for _ in 0..rounds {
            black_box(analyser.analyse(black_box(&v), black_box(&i), 20.3, length));
        }
    });
    println!("window_us_per_channel {:.2}", seconds / f64::from(rounds) / 2.0 * 1e6);

    let mut meter = Flickermeter::new(4000.0, Lamp::V230, Nominal::Hz50);
    let signal: Vec<f64> = (0..40_000).map(|_| a.step()).collect();
    let seconds = shortest(|| {
        for &u in &signal {
            black_box(meter.push(u));
        }
    });
    println!("flicker_us_per_sample {:.4}", seconds / signal.len() as f64 * 1e6);

    let mut random = Noise::new(1);
    let weeks: Vec<Week> = (0..50).map(|_| week(&mut random)).collect();
    let mut next = 0;
    let mut evaluator = Evaluator::new(en50160());
    let seconds = shortest(|| {
        next += 1;
        black_box(evaluator.evaluate(&weeks[next % weeks.len()]));
    });
    println!("en50160_s_per_1000_meters {:.3}", seconds * 1000.0);

    let mut spectrum = Box::new(Spectrum::default());
    let seconds = shortest(|| {
        let _ = black_box(run(&SCENARIOS[0], &mut spectrum, || 0));
    });
    println!("core_times_real_time {:.0}", 1.0 / seconds);
    Ok(())
}
