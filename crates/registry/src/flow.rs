//! What a meter counted over an interval.

use metering::{WattHours, reading::energy_between};
use serde::{Deserialize, Serialize};

/// What a meter counted over an interval: differences of its registers, before the ratio of its transformers, Wh.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flow {
    /// Import.
    pub import_wh: WattHours,
    /// Export.
    pub export_wh: WattHours,
}

impl Flow {
    /// Between two readings of (import, export); `None` when a register went back.
    pub fn between(first: (WattHours, WattHours), last: (WattHours, WattHours)) -> Option<Self> {
        Some(Self { import_wh: energy_between(first.0, last.0)?, export_wh: energy_between(first.1, last.1)? })
    }

    /// Import less export at the primary side of transformers with this ratio, Wh. A multiple of 2⁻¹⁰ Wh.
    pub fn net_wh(self, ct_ratio: f64) -> f64 {
        // Energies of an interval are far below 2^53 Wh, where f64 is exact.
        #[allow(clippy::cast_precision_loss)]
        let net = self.import_wh.0 as f64 - self.export_wh.0 as f64;
        if ct_ratio == 1.0 { net } else { on_grid(net * ct_ratio) }
    }
}

/// The nearest multiple of 2⁻¹⁰ Wh: sums and differences of such numbers below 2⁴² Wh are exact.
pub fn on_grid(wh: f64) -> f64 {
    (wh * 1024.0).round() / 1024.0
}
