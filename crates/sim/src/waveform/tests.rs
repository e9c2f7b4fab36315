//! What a home at sample level measures, against what was made to flow.

use super::*;
use crate::config::DEMO_START;

const PLAN: WaveformPlan = WaveformPlan { homes: 1, ms_per_minute: 200, from: Timestamp(0) };

fn bench(ms_per_minute: u32) -> Bench {
    Bench::new(7, 0, WaveformPlan { ms_per_minute, ..PLAN }).unwrap_or_else(|e| panic!("{e}"))
}

fn flow(watts: f64) -> Flow {
    Flow { volts: 231.0, watts, power_factor: 0.96, neutral_ratio: 1.0 }
}

#[test]
fn the_engine_measures_what_flows() {
    let mut bench = bench(1_000);
    for (minute, watts) in [300.0, 1_200.0, 3_000.0].into_iter().enumerate() {
        let flow = flow(watts);
        bench.minute(DEMO_START.plus(60 * minute as i64), flow);
        let measured = bench.measured(flow).unwrap_or_else(|| panic!("no window closed"));
        let power = measured.active_mw as f64 / 1_000.0;
        // the appliances' harmonics meet those of the mains: their power is measured too
        assert!((power - watts).abs() < 0.015 * watts, "{power} for {watts}");
        assert!((f64::from(measured.voltage.0) - 231_000.0).abs() < 500.0, "{measured:?}");
        assert!((f64::from(measured.frequency.0) - 50_000.0).abs() < 70.0, "{measured:?}");
        assert!(measured.reactive_mvar > 0 && measured.power_factor.0 < 960, "{measured:?}");
        assert!(bench.measured(Flow { watts: 0.0, ..flow }).is_none(), "another flow is not what was measured");
    }
}

#[test]
fn ten_minutes_become_one_frame_within_limits() {
    let mut bench = bench(200);
    let mut frames: Vec<PowerQuality> =
        (0..30).filter_map(|k| bench.minute(DEMO_START.plus(60 * k), flow(800.0))).collect();
    assert_eq!(frames.len(), 3);
    let last = frames.pop().unwrap_or_else(|| panic!("three frames"));
    assert_eq!(last.end, DEMO_START.plus(1_800));
    let thd = last.thd.map_or(0, |t| t.0);
    assert!((15..60).contains(&thd), "{last:?}");
    assert!((140..420).contains(&last.harmonics[3]), "fifth harmonic {:?}", last.harmonics);
    assert!(last.current_harmonics_ma[2].0 > 200, "{last:?}");
    assert_eq!(last.pst, None, "a fifth of a second in a minute shows no flicker");
    let cycle = last.cycle.unwrap_or_else(|| panic!("a cycle every half hour"));
    let peak = cycle.voltage_dv.iter().copied().max().unwrap_or(0);
    assert!((3_100..3_450).contains(&peak), "{cycle:?}");
    assert_eq!(cycle.voltage_dv.len(), cycle.current_ca.len());
}

#[test]
fn a_disturbance_is_sampled_whole() {
    let mut bench = bench(200);
    let waves = bench.lines(DEMO_START, flow(500.0), 50.0);
    bench.sample(&waves, 50.0, None, DEMO_START, 0);
    let sag = Disturbance { level: 0.6, seconds: 0.3 };
    let windows = bench.sample(&waves, 50.0, Some(&sag), DEMO_START.plus(60), 1);
    assert_eq!(bench.dips.len(), 1);
    let dip = bench.dips[0];
    assert!((290..=330).contains(&dip.duration_ms) && (590..=610).contains(&dip.extreme.0), "{dip:?}");
    assert!(windows.iter().any(|w| w.disturbed) && windows.iter().any(|w| !w.disturbed));
    assert!(bench.interval.take(true).is_some_and(|i| i.flagged));
}

#[test]
fn whole_minutes_give_a_flicker_severity() {
    let mut bench = bench(60_000);
    let frame = (0..10).find_map(|k| bench.minute(DEMO_START.plus(60 * k), flow(400.0)));
    let severity = frame.and_then(|f| f.pst).map_or(0, |p| p.0);
    assert!((20..1_000).contains(&severity), "{severity}");
}
