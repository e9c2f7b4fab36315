//! The database's schedules, 12 months by 24 hours of period numbers, as calendars of a tariff.

use serde_json::{Map, Value, json};

use super::{UrdbError, wrong};

type Hours = Vec<usize>;

fn months_of(field: &str, schedule: Option<&Value>, periods: usize) -> Result<Vec<Hours>, UrdbError> {
    let Some(schedule) = schedule else { return Ok(vec![vec![0; 24]; 12]) };
    let months = schedule.as_array().filter(|months| months.len() == 12);
    let months = months.ok_or_else(|| wrong(field, "does not have 12 months"))?;
    months
        .iter()
        .enumerate()
        .map(|(month, hours)| {
            let hours = hours.as_array().filter(|hours| hours.len() == 24);
            let hours = hours.ok_or_else(|| wrong(format!("{field}[{month}]"), "does not have 24 hours"))?;
            hours.iter().map(|hour| number(&format!("{field}[{month}]"), hour, periods)).collect()
        })
        .collect()
}

fn number(field: &str, value: &Value, periods: usize) -> Result<usize, UrdbError> {
    let found =
        super::structure::decimal(value).and_then(|text| text.parse::<usize>().ok()).filter(|index| *index < periods);
    found.ok_or_else(|| wrong(field, "names a period that the structure does not have"))
}

/// Runs of equal hours of a period in a day: from hour, to hour.
fn runs(hours: &Hours, period: usize) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut hour = 0;
    while hour < 24 {
        let end = (hour..24).find(|h| hours[*h] != hours[hour]).unwrap_or(24);
        if hours[hour] == period {
            found.push((hour, end));
        }
        hour = end;
    }
    found
}

/// A calendar from weekday and weekend schedules. Periods that never run are left out.
pub fn calendar(
    name: &str,
    prefix: &str,
    weekday: Option<&Value>,
    weekend: Option<&Value>,
    periods: usize,
) -> Result<Value, UrdbError> {
    let weekdays = months_of(&format!("{name}weekdayschedule"), weekday, periods)?;
    let weekends = match weekend {
        None => weekdays.clone(),
        Some(_) => months_of(&format!("{name}weekendschedule"), weekend, periods)?,
    };
    let mut list = Vec::new();
    for period in 0..periods {
        let mut when = Vec::new();
        let mut seen: Vec<(&Hours, &Hours)> = Vec::new();
        for month in 0..12 {
            let pair = (&weekdays[month], &weekends[month]);
            if seen.contains(&pair) {
                continue;
            }
            seen.push(pair);
            let months: Vec<usize> =
                (0..12).filter(|m| (&weekdays[*m], &weekends[*m]) == pair).map(|m| m + 1).collect();
            let kinds: &[(Option<&str>, &Hours)] = if pair.0 == pair.1 {
                &[(None, pair.0)]
            } else {
                &[(Some("weekday"), pair.0), (Some("weekend"), pair.1)]
            };
            for (days, hours) in kinds {
                for (from, to) in runs(hours, period) {
                    when.push(one_when(&months, *days, (from, to)));
                }
            }
        }
        if !when.is_empty() {
            list.push(json!({ "name": format!("{prefix}{period}"), "when": when }));
        }
    }
    Ok(Value::Array(list))
}

fn one_when(months: &[usize], days: Option<&str>, (from, to): (usize, usize)) -> Value {
    let mut when = Map::new();
    if months.len() < 12 {
        when.insert("months".into(), json!(months));
    }
    if let Some(days) = days {
        when.insert("days".into(), json!([days]));
    }
    if (from, to) != (0, 24) {
        when.insert("from".into(), format!("{from:02}:00").into());
        when.insert("to".into(), format!("{to:02}:00").into());
    }
    Value::Object(when)
}

/// A calendar from a list of 12 period numbers.
pub fn months_calendar(schedule: Option<&Value>, periods: usize) -> Result<Value, UrdbError> {
    let field = "flatdemandmonths";
    let months = schedule.and_then(Value::as_array).filter(|months| months.len() == 12);
    let months = months.ok_or_else(|| wrong(field, "does not have 12 months"))?;
    let numbers = months.iter().map(|month| number(field, month, periods)).collect::<Result<Vec<_>, _>>()?;
    let named = |period: usize| {
        let own: Vec<usize> = (0..12).filter(|month| numbers[*month] == period).map(|month| month + 1).collect();
        (!own.is_empty()).then(|| json!({ "name": format!("f{period}"), "when": [one_when(&own, None, (0, 24))] }))
    };
    Ok(Value::Array((0..periods).filter_map(named).collect()))
}
