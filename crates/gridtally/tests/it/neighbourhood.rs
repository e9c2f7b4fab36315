//! Two transformers with twelve homes each, and one theft.

use sim::{SimConfig, TheftKind, TheftPlan, config::DEMO_START};

pub const DAY: i64 = 86_400;
/// Honest days before the theft begins.
pub const HISTORY_DAYS: u32 = 10;
/// Homes of a transformer.
pub const HOMES: u16 = 12;

/// A wire around the meter and its relay at the fourth home of the first transformer: the phase's sensor sees a tenth, the neutral's
/// sees all.
pub fn with_a_wire_around(verifying_key: [u8; 32]) -> SimConfig {
    let theft = TheftPlan {
        kind: TheftKind::WireAround { kept: 0.1 },
        transformer: 0,
        home: Some(3),
        start: DEMO_START.plus(i64::from(HISTORY_DAYS) * DAY + 6 * 3_600),
        end: None,
        zone_share: Some(0.25),
    };
    SimConfig {
        transformers: 2,
        homes_per_transformer: HOMES,
        thefts: vec![theft],
        link_losses_per_month: 0.0,
        verifying_key: Some(verifying_key),
        ..SimConfig::honest(5, HISTORY_DAYS)
    }
}
