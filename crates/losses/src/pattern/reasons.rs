//! Why a customer is suspected, in words: the features that raised the score most (contributions of the trees), each said
//! with the customer's own numbers, and the honest alternative where one would look alike.

use std::collections::BTreeMap;

/// Contributions below this (log-odds) are not worth a word.
const LEAST: f64 = 0.05;
/// Most reasons named.
const MOST: usize = 3;

/// Finds features by name in a row.
pub struct Reader<'a> {
    index: BTreeMap<&'a str, usize>,
    names: &'a [String],
}

impl<'a> Reader<'a> {
    /// For rows whose columns are called `names`.
    pub fn new(names: &'a [String]) -> Self {
        Self { index: names.iter().enumerate().map(|(i, n)| (n.as_str(), i)).collect(), names }
    }

    fn value(&self, row: &[f64], name: &str) -> f64 {
        self.index.get(name).map_or(f64::NAN, |&i| row[i])
    }

    /// Words for a row with the contribution of each column to the score. `busiest_day` is where the sequence model looks.
    pub fn explain(&self, row: &[f64], contributions: &[f64], busiest_day: Option<usize>) -> String {
        let mut by_topic: BTreeMap<Topic, f64> = BTreeMap::new();
        for (name, contribution) in self.names.iter().zip(contributions) {
            *by_topic.entry(topic(name)).or_default() += contribution;
        }
        let mut ranked: Vec<(Topic, f64)> = by_topic.into_iter().filter(|(_, c)| *c > LEAST).collect();
        ranked.sort_by(|a, b| b.1.total_cmp(&a.1));
        let mut words: Vec<String> =
            ranked.iter().filter_map(|(topic, _)| self.words(*topic, row)).take(MOST).collect();
        if words.is_empty() {
            words.push("several weak signs together, none of them telling alone".to_owned());
        }
        if let Some(day) = busiest_day {
            words.push(format!("the course of the weeks around day {day} weighs most"));
        }
        if let Some(alternative) = self.alternative(row) {
            words.push(alternative);
        }
        words.join("; ")
    }

    fn words(&self, topic: Topic, row: &[f64]) -> Option<String> {
        let v = |name: &str| self.value(row, name);
        let percent = |log: f64| (1.0 - (-log).exp()) * 100.0;
        let words = match topic {
            Topic::Fall => {
                let (size, week) = (v("log_drop_size"), v("log_drop_position"));
                if size > 0.05 {
                    format!("use fell by {:.0} % around day {:.0} against the season", percent(size), week * 7.0)
                } else {
                    "the level against the season shifted".to_owned()
                }
            }
            Topic::Decline => {
                let slope = v("log_slope") * 52.0;
                if slope < 0.0 {
                    format!("use declines against the season by {:.0} % a year", percent(-slope))
                } else {
                    "the trend against the season is unusual".to_owned()
                }
            }
            Topic::Year => {
                let change = v("year_over_year");
                if change.is_nan() {
                    return None;
                }
                let word = if change < 0.0 { "less" } else { "more" };
                format!("{:.0} % {word} than on the same days a year before", (change.exp() - 1.0).abs() * 100.0)
            }
            Topic::Spells => {
                let runs = v("deep_runs");
                format!("{runs:.0} spells far below the usual level, {:.0} % of all days", v("deep_share") * 100.0)
            }
            Topic::Rhythm => format!(
                "the rhythm of days and weeks is unusual (day-to-day memory {:.2}, least in eight weeks {:.2})",
                v("autocorrelation_1"),
                v("window_memory_min")
            ),
            Topic::Reaction => format!(
                "reacts little to what moves all neighbours (correlation of daily steps {:.2})",
                v("season_step_correlation")
            ),
            Topic::Even => format!("readings are unusually even ({:.0} % of steps flat)", v("flat_share") * 100.0),
            Topic::Spread => format!("the spread of daily use is unusual (variation {:.2} of the mean)", v("cv")),
            Topic::Record => format!("the record itself is unusual ({:.0} % gaps)", v("gap_share") * 100.0),
            Topic::Zone => {
                let (z, kwh) = (v("zone_best_z"), v("zone_kwh_log").exp_m1());
                if z.is_nan() {
                    return None;
                }
                format!(
                    "the zone's missing energy follows this meter's readings day by day (z {z:.1}, about {kwh:.0} kWh)"
                )
            }
        };
        Some(words)
    }

    fn alternative(&self, row: &[f64]) -> Option<String> {
        let empty = self.value(row, "longest_zero_run");
        let gaps = self.value(row, "longest_gap");
        if empty >= 21.0 {
            Some(format!("an empty home would look alike ({empty:.0} days near zero)"))
        } else if gaps >= 28.0 {
            Some(format!("the meter was silent for {gaps:.0} days, a fault is possible"))
        } else {
            None
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Topic {
    Fall,
    Decline,
    Year,
    Spells,
    Rhythm,
    Reaction,
    Even,
    Spread,
    Record,
    Zone,
}

fn topic(name: &str) -> Topic {
    let starts = |prefixes: &[&str]| prefixes.iter().any(|p| name.starts_with(p));
    let ends = |suffixes: &[&str]| suffixes.iter().any(|s| name.ends_with(s));
    if starts(&["zone_"]) {
        Topic::Zone
    } else if starts(&["year_"]) {
        Topic::Year
    } else if starts(&["deep_", "low_", "zero_", "longest_zero", "longest_low", "two_level"]) {
        Topic::Spells
    } else if ends(&["flat_share", "flat_after", "flat_max"]) {
        Topic::Even
    } else if name.contains("reaction") || starts(&["season_", "quarter_step", "temperature", "reversal"]) {
        Topic::Reaction
    } else if name.contains("memory") || name.contains("weekday") || starts(&["autocorrelation"]) {
        Topic::Rhythm
    } else if ends(&["slope"]) || starts(&["ramp_"]) {
        Topic::Decline
    } else if starts(&["days", "first_day", "last_day", "gap_", "longest_gap"]) {
        Topic::Record
    } else if starts(&["cv", "skew", "kurtosis", "q", "step_", "window_noise", "split_noise", "mean"]) {
        Topic::Spread
    } else {
        Topic::Fall
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pattern::assemble::names;

    #[test]
    fn the_strongest_topic_comes_first_with_its_numbers() {
        let names = names(true);
        let reader = Reader::new(&names);
        let at = |name: &str| names.iter().position(|n| n == name).expect("a feature of that name");
        let mut row = vec![0.0; names.len()];
        row[at("log_drop_size")] = 1.0;
        row[at("log_drop_position")] = 40.0;
        row[at("zone_best_z")] = 12.0;
        row[at("zone_kwh_log")] = 1_000f64.ln();
        row[at("longest_zero_run")] = 30.0;
        let mut contributions = vec![0.0; names.len()];
        contributions[at("log_drop_size")] = 0.5;
        contributions[at("zone_best_z")] = 1.5;
        let words = reader.explain(&row, &contributions, None);
        assert_eq!(
            words,
            "the zone's missing energy follows this meter's readings day by day (z 12.0, about 999 kWh); use fell by 63 % \
             around day 280 against the season; an empty home would look alike (30 days near zero)"
        );
    }
}
