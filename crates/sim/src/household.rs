//! A stochastic household: minute by minute watts from people, appliances and seasons.
//!
//! Structure after I. Richardson, M. Thomson, D. Infield, C. Clifford, "Domestic electricity use: A high-resolution energy demand
//! model", Energy and Buildings 42 (2010): when people are at home and awake decides when appliances start; each appliance has a
//! mean power, a cycle length and a number of uses. The numbers here are round values of our own in the range usual for European
//! homes (appliance nameplates, cycle lengths of minutes to two hours); they are not that paper's tables. What is aimed at: an
//! evening peak about twice the mean, a night trough about 40 % of it, more light in winter, a weekend that starts later, and an
//! annual use that is lognormal with a median of 3 MWh over homes. Time is UTC taken as local time.

use core::f64::consts::TAU;

use metering::Timestamp;

use crate::random::{Random, Stream};

/// Minutes in a day.
pub const MINUTES: usize = 1_440;
/// Median of the homes' annual use, Wh.
pub const ANNUAL_MEDIAN_WH: f64 = 3_000_000.0;
/// Standard deviation of the logarithm of the annual use.
const ANNUAL_LOG_SD: f64 = 0.45;

/// An appliance that people start when they are awake at home.
struct Appliance {
    watts: f64,
    minutes: (f64, f64),
    /// Mean uses a day in a home of one adult.
    uses: f64,
    /// Weight of night, morning, day, evening.
    when: [f64; 4],
    /// Share of homes that own it.
    owned: f64,
    /// Part of the cycle that runs at full power (the rest at a tenth).
    duty: f64,
}

const APPLIANCES: [Appliance; 11] = [
    // kettle and coffee
    Appliance { watts: 1_900.0, minutes: (2.0, 5.0), uses: 1.6, when: [0.1, 3.0, 1.0, 1.0], owned: 0.95, duty: 1.0 },
    // hob
    Appliance {
        watts: 1_300.0,
        minutes: (15.0, 45.0),
        uses: 0.55,
        when: [0.0, 0.4, 1.2, 3.0],
        owned: 0.85,
        duty: 0.55,
    },
    // oven
    Appliance { watts: 2_000.0, minutes: (25.0, 60.0), uses: 0.2, when: [0.0, 0.1, 0.8, 3.0], owned: 0.8, duty: 0.5 },
    // microwave
    Appliance { watts: 1_100.0, minutes: (2.0, 8.0), uses: 0.6, when: [0.0, 1.0, 1.0, 1.5], owned: 0.8, duty: 1.0 },
    // washing machine
    Appliance {
        watts: 1_900.0,
        minutes: (60.0, 120.0),
        uses: 0.28,
        when: [0.1, 1.0, 1.5, 1.0],
        owned: 0.95,
        duty: 0.25,
    },
    // tumble dryer
    Appliance { watts: 2_100.0, minutes: (50.0, 90.0), uses: 0.15, when: [0.0, 0.3, 1.5, 1.2], owned: 0.35, duty: 0.7 },
    // dishwasher
    Appliance { watts: 1_900.0, minutes: (70.0, 120.0), uses: 0.32, when: [0.4, 0.3, 0.8, 2.5], owned: 0.6, duty: 0.3 },
    // television
    Appliance { watts: 110.0, minutes: (45.0, 200.0), uses: 1.1, when: [0.2, 0.4, 0.7, 4.0], owned: 0.95, duty: 1.0 },
    // computers and consoles
    Appliance { watts: 120.0, minutes: (40.0, 240.0), uses: 0.9, when: [0.2, 0.5, 1.2, 2.0], owned: 0.85, duty: 1.0 },
    // vacuum cleaner, iron, tools
    Appliance { watts: 1_100.0, minutes: (10.0, 35.0), uses: 0.2, when: [0.0, 0.7, 1.5, 0.8], owned: 0.95, duty: 0.8 },
    // electric shower or water heater
    Appliance { watts: 3_000.0, minutes: (5.0, 15.0), uses: 0.8, when: [0.1, 3.0, 0.5, 1.5], owned: 0.25, duty: 1.0 },
];

/// A home, drawn once.
#[derive(Clone, Debug)]
pub struct Household {
    seed: u64,
    index: u64,
    people: f64,
    owns: [bool; APPLIANCES.len()],
    standby: f64,
    fridge_watts: f64,
    fridge_on: f64,
    fridge_off: f64,
    lamp_watts: f64,
    wakes: f64,
    sleeps: f64,
    works: bool,
    /// Multiplies everything so that a mean year comes to the annual use.
    scale: f64,
    annual_wh: f64,
}

impl Household {
    /// Draws home number `index`.
    pub fn draw(seed: u64, index: u64) -> Self {
        let mut random = Random::of(seed, Stream::Homes, index, 0);
        let annual_wh = draw_annual_wh(&mut random);
        let mut owns = [false; APPLIANCES.len()];
        for (own, appliance) in owns.iter_mut().zip(&APPLIANCES) {
            *own = random.chance(appliance.owned);
        }
        let mut home = Self {
            seed,
            index,
            // larger uses come with more people: events instead of larger appliances
            people: (annual_wh / 1_500_000.0).clamp(1.0, 5.0),
            owns,
            standby: random.between(30.0, 90.0),
            fridge_watts: random.between(70.0, 130.0),
            fridge_on: random.between(12.0, 22.0),
            fridge_off: random.between(25.0, 45.0),
            lamp_watts: random.between(60.0, 220.0),
            wakes: random.between(5.7, 7.6),
            sleeps: random.between(21.7, 23.6),
            works: random.chance(0.65),
            scale: 1.0,
            annual_wh,
        };
        home.scale = annual_wh / home.expected_annual_wh();
        home
    }

    /// Energy of a mean year, Wh.
    pub fn annual_wh(&self) -> f64 {
        self.annual_wh
    }

    /// Watts of every minute of the UTC day that holds `at`.
    pub fn day(&self, at: Timestamp) -> Vec<f32> {
        let day = at.day();
        let mut random = Random::of(self.seed, Stream::Day, self.index, u64::try_from(day).unwrap_or(0));
        let mut watts = vec![0.0; MINUTES];
        let awake = self.presence(day, &mut random);
        let factors = Season::of(day);
        self.add_base(&mut watts, &awake, &factors, &mut random);
        for (appliance, _) in APPLIANCES.iter().zip(&self.owns).filter(|(_, owned)| **owned) {
            self.add_appliance(appliance, &mut watts, &awake, &mut random);
        }
        // minutes need no more than single precision
        watts.iter().map(|w: &f64| (w * self.scale * factors.level) as f32).collect()
    }

    /// Mean energy of a year before scaling, from two weeks spread over it.
    fn expected_annual_wh(&self) -> f64 {
        let unscaled = Self { scale: 1.0, ..self.clone() };
        // 14 days, 26 apart: every season and every weekday twice (26 and 7 have no common divisor)
        let sum: f64 = (0..14)
            .map(|n| {
                let day = unscaled.day(Timestamp((20_454 + 26 * n) * 86_400));
                day.iter().map(|&w| f64::from(w)).sum::<f64>() / 60.0
            })
            .sum();
        (sum / 14.0 * 365.25).max(1.0)
    }

    /// For each minute how much of the household is awake at home, 0 to 1.
    fn presence(&self, day: i64, random: &mut Random) -> Vec<f64> {
        let weekend = (day + 3).rem_euclid(7) >= 5;
        let away = random.chance(0.03);
        let wakes = (self.wakes + if weekend { 1.4 } else { 0.0 } + 0.3 * random.normal()) * 60.0;
        let sleeps = (self.sleeps + if weekend { 0.5 } else { 0.0 } + 0.3 * random.normal()) * 60.0;
        let out = self.works && !weekend;
        let leaves = if out { (self.wakes + 1.3 + 0.2 * random.normal()) * 60.0 } else { random.between(600.0, 900.0) };
        let returns = if out { (16.6 + 0.8 * random.normal()) * 60.0 } else { leaves + random.between(30.0, 200.0) };
        (0..MINUTES)
            .map(|minute| {
                let minute = minute as f64;
                if away || minute < wakes || minute > sleeps {
                    0.0
                } else if minute >= leaves && minute < returns {
                    if out { 0.15 } else { 0.3 }
                } else {
                    1.0
                }
            })
            .collect()
    }

    fn add_base(&self, watts: &mut [f64], awake: &[f64], season: &Season, random: &mut Random) {
        let cycle = self.fridge_on + self.fridge_off;
        let mut phase = random.between(0.0, cycle);
        for (minute, (watts, &awake)) in watts.iter_mut().zip(awake).enumerate() {
            phase = if phase >= cycle { phase - cycle } else { phase };
            let fridge = if phase < self.fridge_on { self.fridge_watts } else { 0.0 };
            let light = if awake > 0.0 { season.darkness(minute) * self.lamp_watts * awake } else { 0.0 };
            *watts = self.standby + fridge + light;
            phase += 1.0;
        }
    }

    fn add_appliance(&self, appliance: &Appliance, watts: &mut [f64], awake: &[f64], random: &mut Random) {
        let uses = random.poisson(appliance.uses * self.people.sqrt());
        for _ in 0..uses {
            // bounded tries to find a minute when someone is awake and the time of day suits
            let start = (0..12).find_map(|_| {
                let minute = usize::try_from(random.below(MINUTES as u64)).unwrap_or(0);
                let weight = appliance.when[part_of_day(minute)] / 4.0 * awake[minute];
                random.chance(weight).then_some(minute)
            });
            let Some(start) = start else { continue };
            let minutes = random.between(appliance.minutes.0, appliance.minutes.1);
            let full = minutes * appliance.duty;
            for (elapsed, watts) in watts[start..].iter_mut().take(minutes.ceil() as usize).enumerate() {
                let share = if (elapsed as f64) < full { 1.0 } else { 0.1 };
                *watts += appliance.watts * share;
            }
        }
    }
}

/// Annual use of a home, Wh: lognormal around the median, held between 0.8 and 12 MWh.
pub fn draw_annual(seed: u64, index: u64) -> f64 {
    draw_annual_wh(&mut Random::of(seed, Stream::Homes, index, 0))
}

fn draw_annual_wh(random: &mut Random) -> f64 {
    (ANNUAL_MEDIAN_WH * (ANNUAL_LOG_SD * random.normal()).exp()).clamp(800_000.0, 12_000_000.0)
}

/// Night, morning, day, evening.
const fn part_of_day(minute: usize) -> usize {
    match minute / 60 {
        0..=4 => 0,
        5..=9 => 1,
        10..=15 => 2,
        16..=22 => 3,
        _ => 0,
    }
}

/// How a day lies in the year (northern middle latitudes).
struct Season {
    sunrise: f64,
    sunset: f64,
    level: f64,
}

impl Season {
    fn of(day: i64) -> Self {
        // day 20,454 is 2026-01-01; the shortest day is ten days before
        let angle = (day - 20_454 + 10) as f64 / 365.25 * TAU;
        let winter = angle.cos();
        Self { sunrise: (6.0 + 2.0 * winter) * 60.0, sunset: (18.5 - 2.0 * winter) * 60.0, level: 1.0 + 0.12 * winter }
    }

    /// 1 in the dark, 0 in daylight, an hour of dusk between.
    fn darkness(&self, minute: usize) -> f64 {
        let minute = minute as f64;
        let lit = ((minute - self.sunrise) / 60.0).min((self.sunset - minute) / 60.0);
        (0.5 - lit).clamp(0.0, 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::DEMO_START;

    #[test]
    fn homes_peak_in_the_evening_rest_at_night_and_use_what_they_drew() {
        let homes: Vec<Household> = (0..60).map(|i| Household::draw(7, i)).collect();
        let mut hours = [0.0f64; 24];
        let mut total = 0.0;
        for home in &homes {
            for day in 0..14 {
                for (minute, watts) in home.day(DEMO_START.plus(day * 26 * 86_400)).iter().enumerate() {
                    hours[minute / 60] += f64::from(*watts);
                    total += f64::from(*watts) / 60.0;
                }
            }
        }
        let mean = hours.iter().sum::<f64>() / 24.0;
        let evening = hours[18..21].iter().copied().fold(0.0, f64::max) / mean;
        let night = hours[2..5].iter().sum::<f64>() / 3.0 / mean;
        assert!((1.5..2.6).contains(&evening), "evening peak {evening}");
        assert!((0.25..0.6).contains(&night), "night trough {night}");
        let expected = homes.iter().map(Household::annual_wh).sum::<f64>() / 365.25 * 14.0;
        assert!((total / expected - 1.0).abs() < 0.05, "used {total}, drawn {expected}");
    }

    #[test]
    fn annual_uses_have_the_median() {
        let mut annual: Vec<f64> = (0..2_000).map(|i| draw_annual(3, i)).collect();
        annual.sort_by(f64::total_cmp);
        assert!((annual[1_000] / ANNUAL_MEDIAN_WH - 1.0).abs() < 0.06, "{}", annual[1_000]);
    }

    #[test]
    fn a_day_depends_on_seed_home_and_day_only() {
        let home = Household::draw(1, 2);
        assert_eq!(home.day(DEMO_START), Household::draw(1, 2).day(DEMO_START.plus(3_600)));
        assert_ne!(home.day(DEMO_START), home.day(DEMO_START.plus(86_400)));
        assert_ne!(home.day(DEMO_START), Household::draw(2, 2).day(DEMO_START));
    }
}
