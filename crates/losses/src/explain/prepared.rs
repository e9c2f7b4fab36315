//! A zone's history made ready: powers in W on common rows, gaps filled, the residual with the sign of the alarm.

use metering::Timestamp;

use super::{MemberHistory, ZoneHistory};
use crate::{alarm::Chart, balance::MeterSlot};

/// Hours before the estimated onset that belong to neither side.
const DOUBTFUL_SECONDS: i64 = 6 * 3_600;

/// Days after the onset before hours of the day are told apart.
const SELECTIVE_DAYS: f64 = 2.5;

/// One slot.
pub(super) struct Row {
    pub(super) end: Timestamp,
    /// Hour of the day (UTC) of its middle, 0–23.
    pub(super) hour: usize,
    /// Directly follows the row before.
    pub(super) follows: bool,
    /// After the onset.
    pub(super) after: bool,
    /// In the hours of the day in which energy is missing.
    pub(super) active: bool,
    /// Residual power with the sign of the alarm, W: positive is what the alarm is about.
    pub(super) residual_w: f64,
    /// Variance of its random error, W².
    pub(super) var_w2: f64,
    pub(super) supplied_w: f64,
}

/// One member on the rows.
pub(super) struct Member<'a> {
    pub(super) history: &'a MemberHistory,
    /// Net power, gaps filled, W.
    pub(super) power_w: Vec<f64>,
    /// Whether the row was measured.
    pub(super) measured: Vec<bool>,
}

pub(super) struct Prepared<'a> {
    pub(super) rows: Vec<Row>,
    pub(super) members: Vec<Member<'a>>,
    pub(super) hours: f64,
    /// Whether energy is missing in some hours of the day only.
    pub(super) selective: bool,
    /// Number of rows after the onset.
    pub(super) rows_after: f64,
    /// Means over the rows after the onset, W.
    pub(super) mean_residual_w: f64,
    pub(super) mean_supplied_w: f64,
}

pub(super) fn prepare(history: &ZoneHistory) -> Prepared<'_> {
    let hours = f64::from(history.minutes) / 60.0;
    let step = i64::from(history.minutes) * 60;
    let standing = history.by == Chart::Standing;
    let mut rows: Vec<Row> = Vec::new();
    let mut kept = Vec::new();
    for (index, balance) in history.balances.iter().enumerate() {
        let after = standing || balance.end > history.onset;
        let doubtful = !after && balance.end > history.onset.plus(-DOUBTFUL_SECONDS);
        let in_order = rows.last().is_none_or(|last| balance.end > last.end);
        if balance.coverage <= 0.0 || doubtful || !in_order {
            continue;
        }
        let middle = balance.end.plus(-step / 2);
        let sd_w = (balance.sigma_random_wh / hours).max(4.0);
        rows.push(Row {
            end: balance.end,
            hour: usize::try_from(middle.second_of_day() / 3_600).unwrap_or(0).min(23),
            follows: rows.last().is_some_and(|last| last.end.plus(step) == balance.end),
            after,
            active: true,
            residual_w: history.kind.sign() * balance.unaccounted_wh / hours,
            var_w2: sd_w * sd_w,
            supplied_w: balance.supplied_wh / hours,
        });
        kept.push(index);
    }
    let members = history.members.iter().map(|member| fill(member, &kept, &rows, hours)).collect();
    let rows_after = rows.iter().filter(|row| row.after).count() as f64;
    let mut data =
        Prepared { rows, members, hours, selective: false, rows_after, mean_residual_w: 0.0, mean_supplied_w: 0.0 };
    subtract_habit(&mut data);
    data.mean_residual_w = mean(data.rows.iter().filter(|r| r.after).map(|r| r.residual_w));
    data.mean_supplied_w = mean(data.rows.iter().filter(|r| r.after).map(|r| r.supplied_w));
    find_active_hours(&mut data);
    data
}

pub(super) fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, n) = values.fold((0.0, 0.0), |(sum, n), v| (sum + v, n + 1.0));
    if n > 0.0 { sum / n } else { 0.0 }
}

/// Powers of a member on the kept slots; gaps by the mean of the same hour (before and after the onset apart), else by the mean.
fn fill<'a>(history: &'a MemberHistory, kept: &[usize], rows: &[Row], hours: f64) -> Member<'a> {
    let value = |index: usize| {
        let flow = history.slots.get(index).copied().flatten();
        MeterSlot { flow, ct_ratio: history.ct_ratio, class: history.class }.net_wh().map(|wh| wh / hours)
    };
    let raw: Vec<Option<f64>> = kept.iter().map(|&index| value(index)).collect();
    let mut sums = [(0.0, 0.0); 48];
    let mut all = (0.0, 0.0);
    let bin = |row: &Row| row.hour + if row.after { 24 } else { 0 };
    for (row, power) in rows.iter().zip(&raw) {
        if let Some(power) = power {
            sums[bin(row)].0 += power;
            sums[bin(row)].1 += 1.0;
            all.0 += power;
            all.1 += 1.0;
        }
    }
    let average = if all.1 > 0.0 { all.0 / all.1 } else { 0.0 };
    let estimate = |row: &Row| {
        let (sum, n) = sums[bin(row)];
        if n > 0.0 { sum / n } else { average }
    };
    let power_w = rows.iter().zip(&raw).map(|(row, power)| power.unwrap_or_else(|| estimate(row))).collect();
    Member { history, power_w, measured: raw.iter().map(Option::is_some).collect() }
}

/// Removes the mean residual before the onset, per four hours of the day, shrunk towards the mean of all.
fn subtract_habit(data: &mut Prepared) {
    let before = |row: &&Row| !row.after;
    let count = data.rows.iter().filter(before).count();
    if count < 48 {
        return;
    }
    let overall = mean(data.rows.iter().filter(before).map(|r| r.residual_w));
    let mut sums = [(0.0, 0.0); 6];
    for row in data.rows.iter().filter(before) {
        sums[row.hour / 4].0 += row.residual_w - overall;
        sums[row.hour / 4].1 += 1.0;
    }
    for row in &mut data.rows {
        let (sum, n) = sums[row.hour / 4];
        row.residual_w -= overall + sum / (n + 16.0);
    }
}

/// Marks the hours of the day in which the residual is above a third of its largest hour.
fn find_active_hours(data: &mut Prepared) {
    let mut sums = [(0.0, 0.0); 24];
    for row in data.rows.iter().filter(|row| row.after) {
        sums[row.hour].0 += row.residual_w;
        sums[row.hour].1 += 1.0;
    }
    let means: Vec<Option<f64>> = sums.iter().map(|(sum, n)| (*n > 0.0).then(|| sum / n)).collect();
    let most = means.iter().flatten().copied().fold(0.0, f64::max);
    let is_active = |hour: usize| means[hour].is_some_and(|m| m > most / 3.0);
    let active = (0..24).filter(|&hour| is_active(hour)).count();
    let seen = means.iter().flatten().count();
    let days = data.rows_after * data.hours / 24.0;
    data.selective = seen == 24 && days >= SELECTIVE_DAYS && most > 0.0 && active <= 14;
    if data.selective {
        for row in &mut data.rows {
            row.active = is_active(row.hour);
        }
    }
}
