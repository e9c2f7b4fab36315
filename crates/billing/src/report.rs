//! Bills as `gridtally-expected/1`: what `gridtally bill case` prints. Wire types only.
//!
//! Money is integers in minor units; quantities have at most 6 decimals and prices 8, halves away from zero: the amounts come from the exact
//! values, not from these.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::{
    bill::{Bill, Line, Part, written},
    calendar::write_instant,
    prepaid::{Event, EventKind, PrepaidResult},
    vend::Token,
};

/// The schema of the output.
pub const SCHEMA: &str = "gridtally-expected/1";

/// Results of a case.
#[derive(Debug, Serialize)]
pub struct Expected {
    /// Always [`SCHEMA`].
    pub schema: &'static str,
    /// ISO 4217.
    pub currency: String,
    /// Digits of the minor unit.
    pub minor_digits: u32,
    /// In the order of the case.
    pub bills: Vec<ResultView>,
}

/// One result.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum ResultView {
    /// A bill.
    Bill(BillView),
    /// A token sale.
    Token(TokenView),
    /// Days under prepayment.
    Prepaid(PrepaidView),
}

/// A bill.
#[derive(Debug, Serialize)]
pub struct BillView {
    id: String,
    from: String,
    to: String,
    /// Lines.
    pub lines: Vec<LineView>,
    /// Total, minor units.
    pub total: i64,
    carry: CarryView,
    facts: FactsView,
    readings: ReadingsView,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    rerated: Vec<CorrectionView>,
}

/// A line.
#[derive(Debug, Serialize)]
pub struct LineView {
    code: String,
    description: String,
    quantity: String,
    unit: String,
    unit_price: Option<String>,
    amount: i64,
    rounding: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    period: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    block: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<String>,
}

#[derive(Debug, Serialize)]
struct CarryView {
    money: i64,
    kwh: BTreeMap<String, String>,
}

#[derive(Debug, Serialize)]
struct FactsView {
    #[serde(skip_serializing_if = "Option::is_none")]
    pf: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    demand_kw: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    demand_kva: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    net_metering: BTreeMap<String, PotView>,
}

/// How good the readings of a bill are.
#[derive(Debug, Serialize)]
struct ReadingsView {
    estimated: bool,
    estimates_in_a_row: u32,
    missing_s: i64,
}

#[derive(Debug, Serialize)]
struct PotView {
    import_kwh: String,
    export_kwh: String,
    credit_in_kwh: String,
}

#[derive(Debug, Serialize)]
struct CorrectionView {
    bill: String,
    billed: i64,
    corrected: i64,
    difference: i64,
    corrected_lines: Vec<LineView>,
}

/// A token sale.
#[derive(Debug, Serialize)]
pub struct TokenView {
    id: String,
    kind: &'static str,
    token_kwh: String,
    lines: Vec<LineView>,
    total: i64,
}

/// Days under prepayment.
#[derive(Debug, Serialize)]
pub struct PrepaidView {
    id: String,
    kind: &'static str,
    ledger: Vec<DebitView>,
    events: Vec<EventView>,
    total: i64,
    closing_balance: i64,
    connected: bool,
}

#[derive(Debug, Serialize)]
struct DebitView {
    date: String,
    kwh: String,
    lines: Vec<LedgerLineView>,
    debit: i64,
    balance: i64,
}

/// A line of a daily debit: short, the description names period and block.
#[derive(Debug, Serialize)]
struct LedgerLineView {
    code: String,
    description: String,
    quantity: String,
    unit: String,
    unit_price: Option<String>,
    amount: i64,
}

#[derive(Debug, Serialize)]
struct EventView {
    time: String,
    event: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    amount: Option<i64>,
    balance: i64,
}

impl ResultView {
    /// As rows on paper.
    pub fn words(&self, digits: u32) -> Vec<String> {
        let total = |amount: i64| format!("  {:<60} {:>14}", "total", written(amount, digits));
        let rows =
            |lines: &[LineView]| lines.iter().map(|line| format!("  {}", line.words(digits))).collect::<Vec<_>>();
        match self {
            ResultView::Bill(bill) => {
                let estimated = if bill.readings.estimated { ", estimated" } else { "" };
                let mut said = vec![format!("{} {} to {}{estimated}", bill.id, bill.from, bill.to)];
                said.extend(rows(&bill.lines));
                said.push(total(bill.total));
                said
            }
            ResultView::Token(token) => {
                let mut said = vec![format!("{} token of {} kWh", token.id, token.token_kwh)];
                said.extend(rows(&token.lines));
                said.push(total(token.total));
                said
            }
            ResultView::Prepaid(prepaid) => prepaid.words(digits),
        }
    }
}

impl PrepaidView {
    fn words(&self, digits: u32) -> Vec<String> {
        let mut said = vec![format!("{} paid in advance", self.id)];
        said.extend(self.ledger.iter().map(|day| {
            let (debit, balance) = (written(day.debit, digits), written(day.balance, digits));
            format!("  {} {:>12} kWh {debit:>14} debited, {balance:>14} left", day.date, day.kwh)
        }));
        said.extend(self.events.iter().map(|event| {
            let amount = event.amount.map(|amount| format!(" of {}", written(amount, digits))).unwrap_or_default();
            format!(
                "  {} {}{amount}, {} left",
                event.time,
                if event.event == "topup" { "top-up" } else { event.event },
                written(event.balance, digits)
            )
        }));
        let supply = if self.connected { "supply is on" } else { "supply is off" };
        let (total, left) = (written(self.total, digits), written(self.closing_balance, digits));
        said.push(format!("  {total} debited in all, {left} left, {supply}"));
        said
    }
}

impl LineView {
    /// As a row of a bill on paper.
    pub fn words(&self, digits: u32) -> String {
        let price = self.unit_price.as_ref().map(|price| format!(" × {price}")).unwrap_or_default();
        let what = format!("{} – {}", self.code, self.description);
        // Lines of money have no unit, and nothing but their amount to say.
        let quantity =
            if self.unit.is_empty() { String::new() } else { format!("{} {}{price}", self.quantity, self.unit) };
        format!("{what:<60} {:>14}  {quantity}", written(self.amount, digits)).trim_end().to_owned()
    }
}

/// A line; `span` of its part if the bill is split.
pub fn line(line: &Line, span: Option<&Part>) -> LineView {
    LineView {
        code: line.code.clone(),
        description: line.description.clone(),
        quantity: line.quantity.to_decimal(6),
        unit: line.unit.clone(),
        unit_price: line.unit_price.as_ref().map(|price| price.to_decimal(8)),
        amount: line.amount,
        rounding: line.rounding.as_ref().map_or_else(|| "none".to_owned(), crate::rounding::Rounding::label),
        period: line.period.clone(),
        block: line.block,
        from: span.map(|part| part.from.to_string()),
        to: span.map(|part| part.to.to_string()),
    }
}

fn lines_of(parts: &[Part]) -> Vec<LineView> {
    let split = parts.len() > 1;
    parts.iter().flat_map(|part| part.lines.iter().map(move |own| line(own, split.then_some(part)))).collect()
}

/// A bill.
pub fn bill(bill: &Bill) -> ResultView {
    let mut lines = lines_of(&bill.parts);
    lines.extend(bill.closing.iter().map(|own| line(own, None)));
    let decimal = |value: &crate::exact::Exact| value.to_decimal(6);
    let pots = bill.parts.iter().flat_map(|part| &part.netting).map(|pot| {
        let view = PotView {
            import_kwh: decimal(&pot.import),
            export_kwh: decimal(&pot.export),
            credit_in_kwh: decimal(&pot.credit_in),
        };
        (pot.name.clone(), view)
    });
    let corrections = bill.corrections.iter().map(|correction| {
        let mut corrected_lines = lines_of(&correction.parts);
        corrected_lines.extend(correction.round_line.iter().map(|own| line(own, None)));
        CorrectionView {
            bill: correction.bill.clone(),
            billed: correction.billed,
            corrected: correction.corrected,
            difference: correction.corrected - correction.billed,
            corrected_lines,
        }
    });
    ResultView::Bill(BillView {
        id: bill.id.clone(),
        from: bill.from.to_string(),
        to: bill.to.to_string(),
        lines,
        total: bill.total,
        carry: CarryView {
            money: bill.carry.money,
            kwh: bill.carry.kwh.iter().map(|(name, kwh)| (name.clone(), decimal(kwh))).collect(),
        },
        facts: FactsView {
            pf: bill.parts.iter().rev().find_map(|part| part.power_factor.as_ref()).map(decimal),
            demand_kw: bill.demand.kilowatts.as_ref().map(decimal),
            demand_kva: bill.demand.kilovolt_amperes.as_ref().map(decimal),
            net_metering: pots.collect(),
        },
        readings: ReadingsView {
            estimated: bill.quality.estimated,
            estimates_in_a_row: bill.estimates_in_a_row,
            missing_s: bill.quality.missing_s,
        },
        rerated: corrections.collect(),
    })
}

/// A token sale. Its receipt shows units and prices, not the position on the ladder.
pub fn token(id: &str, token: &Token) -> ResultView {
    let receipt = |own: &Line| LineView { period: None, block: None, ..line(own, None) };
    ResultView::Token(TokenView {
        id: id.to_owned(),
        kind: "vend",
        token_kwh: token.kwh.to_decimal(6),
        lines: token.lines.iter().map(receipt).collect(),
        total: token.total,
    })
}

/// Days under prepayment.
pub fn prepaid(result: &PrepaidResult) -> ResultView {
    let ledger = result.ledger.iter().map(|debit| DebitView {
        date: debit.date.to_string(),
        kwh: debit.kwh.to_decimal(6),
        lines: debit.lines.iter().map(ledger_line).collect(),
        debit: debit.debit,
        balance: debit.balance,
    });
    ResultView::Prepaid(PrepaidView {
        id: result.id.clone(),
        kind: "prepaid",
        ledger: ledger.collect(),
        events: result.events.iter().map(event).collect(),
        total: result.total,
        closing_balance: result.closing_balance,
        connected: result.connected,
    })
}

fn ledger_line(own: &Line) -> LedgerLineView {
    LedgerLineView {
        code: own.code.clone(),
        description: own.description.clone(),
        quantity: own.quantity.to_decimal(6),
        unit: own.unit.clone(),
        unit_price: own.unit_price.as_ref().map(|price| price.to_decimal(8)),
        amount: own.amount,
    }
}

fn event(event: &Event) -> EventView {
    let (word, amount) = match event.kind {
        EventKind::TopUp(amount) => ("topup", Some(amount)),
        EventKind::Disconnect => ("disconnect", None),
        EventKind::Reconnect => ("reconnect", None),
    };
    EventView { time: write_instant(event.at_s), event: word, amount, balance: event.balance }
}
