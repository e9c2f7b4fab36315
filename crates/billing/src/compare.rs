//! Two bills of one period, line by line: before and after a late reading, or under another tariff.

use serde::Serialize;

use crate::bill::{Line, Part};

/// A line of either bill.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// Code.
    pub code: String,
    /// Period.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub period: Option<String>,
    /// Block.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub block: Option<u32>,
    /// First day of the part, where the bill is split.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Quantity before, if the line was there.
    pub quantity_before: Option<String>,
    /// Quantity after, if the line is there.
    pub quantity_after: Option<String>,
    /// Amount before, minor units; zero if the line was not there.
    pub before: i64,
    /// Amount after.
    pub after: i64,
    /// After less before.
    pub difference: i64,
}

/// Two bills.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Comparison {
    /// Which bill.
    pub bill: String,
    /// Total before, minor units.
    pub before: i64,
    /// Total after.
    pub after: i64,
    /// After less before.
    pub difference: i64,
    /// Lines that are in either, in the order of the first, then of the second.
    pub lines: Vec<Difference>,
}

type Key<'a> = (&'a str, Option<&'a str>, Option<u32>, Option<String>);

fn keyed(parts: &[Part]) -> Vec<(Key<'_>, &Line)> {
    let split = parts.len() > 1;
    let of = |part: &Part| split.then(|| part.from.to_string());
    parts
        .iter()
        .flat_map(|part| {
            let from = of(part);
            part.lines
                .iter()
                .map(move |line| ((line.code.as_str(), line.period.as_deref(), line.block, from.clone()), line))
        })
        .collect()
}

/// Compares. Lines belong together if code, period, block and part are the same; several such lines pair in order.
pub fn bills(bill: &str, before: (&[Part], i64), after: (&[Part], i64)) -> Comparison {
    let old = keyed(before.0);
    let mut new: Vec<(Key<'_>, &Line, bool)> =
        keyed(after.0).into_iter().map(|(key, line)| (key, line, false)).collect();
    let mut lines = Vec::new();
    for (key, line) in &old {
        let partner = new.iter_mut().find(|(other, _, taken)| other == key && !taken);
        let partner = partner.map(|found| {
            found.2 = true;
            found.1
        });
        lines.push(difference(key, Some(line), partner));
    }
    lines.extend(new.iter().filter(|(_, _, taken)| !taken).map(|(key, line, _)| difference(key, None, Some(line))));
    Comparison { bill: bill.to_owned(), before: before.1, after: after.1, difference: after.1 - before.1, lines }
}

fn difference(key: &Key<'_>, before: Option<&Line>, after: Option<&Line>) -> Difference {
    let amount = |line: Option<&Line>| line.map_or(0, |line| line.amount);
    let quantity = |line: Option<&Line>| line.map(|line| line.quantity.to_decimal(6));
    Difference {
        code: key.0.to_owned(),
        period: key.1.map(str::to_owned),
        block: key.2,
        from: key.3.clone(),
        quantity_before: quantity(before),
        quantity_after: quantity(after),
        before: amount(before),
        after: amount(after),
        difference: amount(after) - amount(before),
    }
}
