//! Outage grouping over years of simulated feeders: `simulate_outages [TRANSFORMER_YEARS] [OUTAGES]`.
//!
//! Twelve transformers of two branches with ten meters each, looked at every quarter of an hour. Links come and go (silent 2 % of
//! the time, an hour on average), one meter in fifty is silent 40 % of the time, each concentrator fails once a month for one to four hours
//! and its meters come back one after the other within an hour. Outages: at any element, seven of ten meters gasp within 20 s.
#![allow(clippy::print_stdout, reason = "an example talks to the person who runs it")]

use std::error::Error;

use forecast::outage::{Element, Sign, group};
use forecast::trees::Draws;

const TRANSFORMERS: usize = 12;
const QUARTER_S: i64 = 900;
const LOOKS_A_YEAR: usize = 35_064;

fn feeder(draws: &mut Draws) -> Vec<Element> {
    let node = |parent| Element { parent, silence_rate: None, concentrator: None };
    let mut all = vec![node(None)];
    for t in 0..TRANSFORMERS {
        let transformer = all.len();
        all.push(node(Some(0)));
        for _ in 0..2 {
            let branch = all.len();
            all.push(node(Some(transformer)));
            for _ in 0..10 {
                let rate = if draws.unit() < 0.02 { 0.4 } else { 0.02 };
                all.push(Element { parent: Some(branch), silence_rate: Some(rate), concentrator: Some(t) });
            }
        }
    }
    all
}

/// The links of a feeder, quarter of an hour after quarter.
struct Links {
    /// Begin of each meter's silence.
    silent_since: Vec<Option<i64>>,
    /// End of each concentrator's fault.
    faults: [i64; TRANSFORMERS],
}

impl Links {
    /// Spells of four quarters on average; three quarters of silence before it counts.
    fn step(&mut self, elements: &[Element], now: i64, draws: &mut Draws) {
        for fault in &mut self.faults {
            if now > *fault + 3_600 && draws.unit() < 1.0 / (30.0 * 96.0) {
                *fault = now + QUARTER_S * (4 + (draws.unit() * 12.0) as i64);
            }
        }
        for (element, since) in elements.iter().zip(&mut self.silent_since) {
            let Some(rate) = element.silence_rate else { continue };
            let rate = rate as f32;
            let fault = element.concentrator.map_or(i64::MIN, |c| self.faults[c]);
            let cut = now < fault;
            // once the concentrator is back, each quarter a third of those still silent report
            let again = if now < fault + 3_600 { 0.35 } else { 0.25 };
            *since = match *since {
                None if cut || draws.unit() < 0.25 * rate / (1.0 - rate) => Some(now - (draws.unit() * 60.0) as i64),
                Some(_) if !cut && draws.unit() < again => None,
                other => other,
            };
        }
    }

    fn signs(&self, now: i64) -> Vec<Sign> {
        let sign = |since: &Option<i64>| match since {
            Some(at) if now - at >= 3 * QUARTER_S => Sign::Silent(*at),
            _ => Sign::Reports(now),
        };
        self.silent_since.iter().map(sign).collect()
    }
}

fn is_below(elements: &[Element], mut at: usize, top: usize) -> bool {
    while at != top {
        let Some(parent) = elements[at].parent else { return false };
        at = parent;
    }
    true
}

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = std::env::args().collect();
    let years: usize = words.get(1).map_or(Ok(3_600), |w| w.parse())?;
    let outages: usize = words.get(2).map_or(Ok(4_000), |w| w.parse())?;
    let mut draws = Draws::new(11);
    let (mut false_groups, mut gone) = (0, 0usize);
    for _ in 0..years.div_ceil(TRANSFORMERS) {
        let elements = feeder(&mut draws);
        let mut links = Links { silent_since: vec![None; elements.len()], faults: [i64::MIN / 2; TRANSFORMERS] };
        let mut named: Vec<usize> = Vec::new();
        for look in 0..LOOKS_A_YEAR {
            let now = look as i64 * QUARTER_S;
            links.step(&elements, now, &mut draws);
            let found = group(&elements, &links.signs(now)).ok_or("the feeder is a tree")?;
            // one that lasts is one, however often it is looked at
            false_groups += found.iter().filter(|o| !named.contains(&o.element)).count();
            named = found.iter().map(|o| o.element).collect();
        }
        gone += TRANSFORMERS;
    }
    println!("{false_groups} false groups in {gone} transformer-years of flaky links and failing concentrators");
    let (mut right, mut delays) = (0, Vec::new());
    let elements = feeder(&mut draws);
    let nodes: Vec<usize> = (1..elements.len()).filter(|at| elements[*at].silence_rate.is_none()).collect();
    let mut links = Links { silent_since: vec![None; elements.len()], faults: [i64::MIN / 2; TRANSFORMERS] };
    for trial in 0..outages {
        let now = (trial * 7 + 1) as i64 * QUARTER_S;
        (0..7).for_each(|step| links.step(&elements, now + (step - 6) * QUARTER_S, &mut draws));
        let top = nodes[trial % nodes.len()];
        let mut signs = links.signs(now);
        let mut last_gasp = 0;
        for (at, sign) in signs.iter_mut().enumerate() {
            if elements[at].silence_rate.is_some() && is_below(&elements, at, top) && matches!(sign, Sign::Reports(_)) {
                let late = (draws.unit() * 20.0) as i64;
                let gasps = draws.unit() < 0.7;
                *sign = if gasps { Sign::LastGasp(now + late) } else { Sign::Silent(now - late) };
                last_gasp = if gasps { last_gasp.max(late) } else { last_gasp };
            }
        }
        let found = group(&elements, &signs).ok_or("the feeder is a tree")?;
        if found.len() == 1 && found[0].element == top {
            right += 1;
            delays.push((found[0].since - now).abs().max(last_gasp));
        }
    }
    delays.sort_unstable();
    println!(
        "{:.2} % of {outages} outages at the right element; known {} s after the supply went in 95 % (no later than the last gasp)",
        100.0 * f64::from(right) / outages as f64,
        delays.get(delays.len() * 95 / 100).copied().unwrap_or(-1)
    );
    Ok(())
}
