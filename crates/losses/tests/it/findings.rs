//! Honest faults are found with the right correction; honest zones and zones with theft give no findings.

use crate::neighbourhood::Dice;
use losses::balance::{MemberId, MeterClass};
use losses::findings::{
    Correction, Finding, FindingKind, MeterSeries, NeighbourZone, Site, Subject, ZoneSeries, findings, rules_out,
};
use losses::technical::TechnicalPrior;
use metering::{MeterId, Timestamp, UsagePointId, ZoneId};

const DAYS: usize = 21;
const HOURS: usize = 24 * DAYS;
const HOMES: usize = 20;
/// 2026-03-02, 01:00 UTC: the sun's times change fast.
const FIRST: Timestamp = Timestamp(1_772_413_200);
const SITE: Site = Site { latitude: 59.3, longitude: 18.1 };

fn zone(name: &str) -> ZoneId {
    ZoneId::new(name).expect("id")
}

fn point(home: usize) -> UsagePointId {
    UsagePointId::new(&format!("U-{home}")).expect("id")
}

/// What really flowed: homes 0..20 hang in zone A, 20..40 in zone B.
struct Truth {
    power_w: Vec<Vec<f64>>,
    dice: Dice,
}

/// What the meters and the register say.
struct Records {
    truth: Truth,
    /// Recorded net energy per home, Wh.
    counted: Vec<Vec<f64>>,
    /// Zone in which each home is registered.
    mapped: Vec<char>,
    ratio: Vec<f64>,
    /// Further load of zone A past all meters, W.
    unmetered_w: Vec<f64>,
    observer_factor: f64,
    observer_shift: i32,
    exports: bool,
}

fn home(dice: &mut Dice) -> Vec<f64> {
    let mean = 350.0 * (0.5 * dice.normal() - 0.125).exp();
    let evening = 17.0 + 4.0 * dice.uniform();
    let mut level = 0.0;
    (0..HOURS)
        .map(|t| {
            let hour = (t % 24) as f64;
            level = 0.6 * level + 0.5 * dice.normal();
            let bump = |at: f64, width: f64| (-((hour - at) / width).powi(2)).exp();
            let shape = 0.4 + 1.6 * bump(evening, 2.5) + 0.6 * bump(7.5, 1.5);
            mean * shape * f64::exp(level - 0.2)
        })
        .collect()
}

impl Records {
    fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let power_w: Vec<Vec<f64>> = (0..2 * HOMES).map(|_| home(&mut dice)).collect();
        let counted = power_w.clone();
        let mapped = (0..2 * HOMES).map(|h| if h < HOMES { 'A' } else { 'B' }).collect();
        Self {
            truth: Truth { power_w, dice },
            counted,
            mapped,
            ratio: vec![1.0; 2 * HOMES],
            unmetered_w: vec![0.0; HOURS],
            observer_factor: 1.0,
            observer_shift: 0,
            exports: true,
        }
    }

    /// Energy into a zone in an hour.
    fn supply(&mut self, letter: char) -> Vec<f64> {
        let of_zone = if letter == 'A' { 0..HOMES } else { HOMES..2 * HOMES };
        let gain = 1.0 + 0.002 * self.truth.dice.normal();
        (0..HOURS)
            .map(|t| {
                let mut load: f64 = self.truth.power_w[of_zone.clone()].iter().map(|p| p[t]).sum();
                if letter == 'A' {
                    load += self.unmetered_w[t];
                }
                let loss = 2.0 * HOMES as f64 + 0.02 / (350.0 * HOMES as f64) * load * load;
                ((load + loss) * gain * (1.0 + 0.0005 * self.truth.dice.normal())).round()
            })
            .collect()
    }

    fn meter(&mut self, home: usize) -> MeterSeries {
        let gain = 1.0 + (0.005 * self.truth.dice.normal()).clamp(-0.01, 0.01);
        let (mut import_wh, mut export_wh) = (vec![], vec![]);
        for t in 0..HOURS {
            let gap = self.truth.dice.chance(0.01);
            let wh = self.counted[home][t] * gain;
            import_wh.push((!gap).then_some(wh.max(0.0).floor()));
            export_wh.push((!gap).then_some(if self.exports { (-wh).max(0.0).floor() } else { 0.0 }));
        }
        MeterSeries {
            id: MemberId::UsagePoint(point(home)),
            meter: MeterId::new(&format!("M-{home}")).expect("id"),
            class: MeterClass::Class1,
            ct_ratio: self.ratio[home],
            generates: false,
            import_wh,
            export_wh,
        }
    }

    fn series(mut self) -> ZoneSeries {
        let (supply_a, supply_b) = (self.supply('A'), self.supply('B'));
        let meters: Vec<MeterSeries> = (0..2 * HOMES).map(|h| self.meter(h)).collect();
        let of = |letter: char, mapped: &[char]| -> Vec<MeterSeries> {
            meters.iter().zip(mapped).filter(|(_, m)| **m == letter).map(|(s, _)| s.clone()).collect()
        };
        let (members, others) = (of('A', &self.mapped), of('B', &self.mapped));
        let prior = TechnicalPrior::low_voltage(HOMES);
        let residual_wh = (0..HOURS)
            .map(|t| {
                let metered: Option<f64> = others.iter().map(|m| Some(m.import_wh[t]? - m.export_wh[t]?)).sum();
                Some(supply_b[t] - metered? - 40.0 - 0.02 / 7_000.0 * supply_b[t] * supply_b[t])
            })
            .collect();
        let last = HOURS as i32 - 1;
        let import_wh = (0..HOURS as i32)
            .map(|t| supply_a[(t - self.observer_shift).clamp(0, last) as usize])
            .map(|wh| Some((wh * self.observer_factor).round()))
            .collect();
        ZoneSeries {
            zone: zone("A"),
            first_end: FIRST,
            minutes: 60,
            site: Some(SITE),
            prior,
            observer: MeterSeries {
                id: MemberId::Zone(zone("A")),
                meter: MeterId::new("OBS-A").expect("id"),
                class: MeterClass::Class05S,
                ct_ratio: 80.0,
                generates: true,
                import_wh,
                export_wh: vec![Some(0.0); HOURS],
            },
            members,
            neighbours: vec![NeighbourZone { zone: zone("B"), residual_wh, members: others }],
        }
    }
}

fn only(found: Vec<Finding>, kind: FindingKind) -> Finding {
    assert_eq!(found.len(), 1, "{found:#?}");
    assert_eq!(found[0].kind, kind, "{found:#?}");
    assert!(found[0].is_to_be_checked_first() && !found[0].numbers.is_empty(), "{found:#?}");
    found[0].clone()
}

#[test]
fn honest_zones_have_no_findings() {
    for seed in 0..20 {
        let found = findings(&Records::new(seed).series());
        assert!(found.is_empty(), "seed {seed}: {found:#?}");
    }
}

#[test]
fn theft_is_not_mistaken_for_an_honest_fault() {
    for seed in 100..108 {
        for kind in 0..5 {
            let mut records = Records::new(seed);
            let thief = (seed % HOMES as u64) as usize;
            for t in 0..HOURS {
                let night = !(6..22).contains(&(t % 24));
                let used = records.truth.power_w[thief][t];
                match kind {
                    0 => records.counted[thief][t] = 0.7 * used,
                    1 if night => records.counted[thief][t] = 0.2 * used,
                    2 => records.counted[thief][t] = if t / 24 % 3 == 0 { 0.1 * used } else { used },
                    3 => records.unmetered_w[t] = 1_000.0,
                    4 if t % 24 >= 10 && t % 24 < 22 => records.unmetered_w[t] = 1_500.0,
                    _ => {}
                }
            }
            let found = findings(&records.series());
            assert!(found.is_empty(), "seed {seed} kind {kind}: {found:#?}");
        }
    }
}

#[test]
fn a_meter_of_the_neighbour_registered_here_is_sent_back() {
    for seed in 0..4 {
        let mut records = Records::new(seed);
        records.mapped[25] = 'A';
        let finding = only(findings(&records.series()), FindingKind::WrongMapping);
        assert_eq!(finding.subject.usage_point(), Some(point(25)));
        assert_eq!(finding.correction, Correction::Remap { from: zone("A"), to: Some(zone("B")) });
        assert!(finding.confidence > 0.9);
    }
}

#[test]
fn a_meter_of_this_zone_registered_at_the_neighbour_is_fetched() {
    for seed in 0..4 {
        let mut records = Records::new(seed);
        records.mapped[7] = 'B';
        let finding = only(findings(&records.series()), FindingKind::WrongMapping);
        assert_eq!(finding.subject.usage_point(), Some(point(7)));
        assert_eq!(finding.correction, Correction::Remap { from: zone("B"), to: Some(zone("A")) });
    }
}

#[test]
fn meters_exchanged_between_zones_are_exchanged_back() {
    let mut records = Records::new(3);
    records.counted.swap(4, 31);
    let finding = only(findings(&records.series()), FindingKind::SwappedMeters);
    assert_eq!(finding.subject.usage_point(), Some(point(4)));
    let with = MeterId::new("M-31").expect("id");
    assert_eq!(finding.correction, Correction::ExchangeMeters { with, usage_point: Some(point(31)) });
    assert!(rules_out(std::slice::from_ref(&finding), point(4)) && !rules_out(&[finding], point(5)));
}

#[test]
fn meters_of_one_zone_exchanged_on_a_day_are_seen_by_their_habits() {
    let mut records = Records::new(5);
    for home in [2, 9] {
        // A shop and a small flat: quite different habits.
        for t in 0..HOURS {
            let day = (8..18).contains(&(t % 24));
            let base = records.truth.power_w[home][t];
            records.truth.power_w[home][t] =
                if home == 2 { base * 0.2 + if day { 1_500.0 } else { 60.0 } } else { base * 0.4 };
        }
        records.counted[home] = records.truth.power_w[home].clone();
    }
    for t in 24 * 11..HOURS {
        let kept = records.counted[2][t];
        records.counted[2][t] = records.counted[9][t];
        records.counted[9][t] = kept;
    }
    let finding = only(findings(&records.series()), FindingKind::SwappedMeters);
    let Correction::ExchangeMeters { usage_point: Some(other), .. } = finding.correction else { panic!("{finding:?}") };
    let mut pair = [finding.subject.usage_point().expect("a home"), other];
    pair.sort_unstable();
    let mut truth = [point(2), point(9)];
    truth.sort_unstable();
    assert_eq!(pair, truth);
}

#[test]
fn a_wrong_ratio_is_corrected_to_a_standard_one() {
    let mut records = Records::new(6);
    records.ratio[3] = 40.0;
    for t in 0..HOURS {
        let large = records.truth.power_w[3][t] * 20.0;
        records.truth.power_w[3][t] = large;
        records.counted[3][t] = large * 40.0 / 60.0;
    }
    let finding = only(findings(&records.series()), FindingKind::WrongRatio);
    assert_eq!(finding.subject.usage_point(), Some(point(3)));
    let Correction::SetRatio { from, to } = finding.correction else { panic!("{finding:?}") };
    assert!(from == 40.0 && (to - 60.0).abs() < 1e-9, "{finding:?}");
}

#[test]
fn an_observer_with_the_wrong_ratio_is_corrected() {
    let mut records = Records::new(7);
    records.observer_factor = 80.0 / 120.0;
    let finding = only(findings(&records.series()), FindingKind::WrongRatio);
    assert!(matches!(finding.subject, Subject::Observer { .. }));
    let Correction::SetRatio { to, .. } = finding.correction else { panic!("{finding:?}") };
    assert!((to - 120.0).abs() < 1e-6, "{finding:?}");
    assert!(rules_out(&[finding], point(11)), "the whole balance is wrong");
}

#[test]
fn clocks_are_set_right() {
    for by in [1i32, -2] {
        let mut records = Records::new(8);
        records.truth.power_w[6].iter_mut().for_each(|w| *w *= 4.0);
        let true_power = records.truth.power_w[6].clone();
        let last = HOURS as i32 - 1;
        // Recorded `by` hours late.
        records.counted[6] = (0..=last).map(|t| true_power[(t - by).clamp(0, last) as usize]).collect();
        let finding = only(findings(&records.series()), FindingKind::ClockShift);
        assert_eq!(finding.subject.usage_point(), Some(point(6)));
        assert_eq!(finding.correction, Correction::SetClock { add_seconds: i64::from(-by) * 3_600 });
    }
    let mut records = Records::new(9);
    records.observer_shift = 1;
    let finding = only(findings(&records.series()), FindingKind::ClockShift);
    assert!(matches!(finding.subject, Subject::Observer { .. }), "{finding:?}");
    assert_eq!(finding.correction, Correction::SetClock { add_seconds: -3_600 });
}

#[test]
fn a_dead_meter_is_told_from_an_empty_home() {
    let mut records = Records::new(10);
    records.counted[12][24 * 14..].fill(0.0);
    let finding = only(findings(&records.series()), FindingKind::DeadMeter);
    assert_eq!(finding.subject.usage_point(), Some(point(12)));
    let mut records = Records::new(10);
    records.counted[12][24 * 14..].fill(0.0);
    records.truth.power_w[12][24 * 14..].fill(0.0);
    assert!(findings(&records.series()).is_empty(), "nothing is missing: the home is empty");
}

/// A little almanac of its own: hours of darkness near 59° north in March, by the day.
fn dark(t: usize) -> bool {
    let day = (t / 24) as f64;
    // On 2 March the sun rises about 5:37 UTC and sets about 16:23; the day grows by 5.6 minutes a day.
    let hour = (t % 24) as f64 + 0.5;
    hour < 5.62 - day * 0.047 || hour > 16.38 + day * 0.047
}

#[test]
fn street_lighting_is_named_and_a_night_thief_is_not_lighting() {
    let mut records = Records::new(11);
    for t in 0..HOURS {
        // Slot 0 is the hour from midnight UTC to one o'clock.
        records.unmetered_w[t] = if dark(t) { 600.0 } else { 0.0 };
    }
    let finding = only(findings(&records.series()), FindingKind::PublicSupply);
    let Correction::RegisterUnmeteredSupply { watts } = finding.correction else { panic!("{finding:?}") };
    assert!((watts - 600.0).abs() < 90.0, "{finding:?}");
}

#[test]
fn generation_is_found_whether_it_is_counted_or_not() {
    for exports in [true, false] {
        let mut records = Records::new(12);
        records.exports = exports;
        for t in 0..HOURS {
            let hour = (t % 24) as f64 + 0.5;
            let cloud = 0.4 + 0.6 * records.truth.dice.uniform();
            let sun = 5_000.0 * cloud * (1.0 - ((hour - 11.0) / 5.3).powi(2)).max(0.0);
            records.truth.power_w[14][t] -= sun;
        }
        records.counted[14] = records.truth.power_w[14].clone();
        let finding = only(findings(&records.series()), FindingKind::Solar);
        assert_eq!(finding.subject.usage_point(), Some(point(14)));
        assert_eq!(finding.correction, Correction::RegisterGeneration);
    }
}

#[test]
fn too_little_data_gives_no_finding() {
    let mut series = Records::new(1).series();
    for meter in series.members.iter_mut().chain([&mut series.observer]) {
        meter.import_wh.truncate(30);
        meter.export_wh.truncate(30);
    }
    assert!(findings(&series).is_empty());
}
