//! From a window of the metrology core to what the meter feels: units, signs, and what a quiet connection reads.

use metering::{Milliamps, Millihertz, Millivolts, unit::PerMille};
use metrology::window::WindowReport;

use crate::inputs::Inputs;

/// Highest order that counts for the distortion of the voltage (EN 50160).
const THD_ORDER: usize = 40;

/// The quantities of a window; switches, contact and load voltage stay as in `switches`.
pub fn inputs_of(report: &WindowReport, switches: Inputs) -> Inputs {
    let ppm_to_permille = |ppm: i64| PerMille(i16::try_from(ppm / 1_000).unwrap_or(i16::MAX));
    let current_dc = (report.irms_ua > 0)
        .then(|| i64::from(report.i_dc_ua) * 1_000_000 / i64::from(report.irms_ua))
        .map_or(0, |ppm| ppm.clamp(-10_000_000, 10_000_000));
    Inputs {
        voltage: Millivolts(report.vrms_uv / 1_000),
        current: Milliamps(if report.no_load { 0 } else { report.irms_ua / 1_000 }),
        active_mw: if report.no_load { 0 } else { report.p_uw / 1_000 },
        reactive_mvar: if report.no_load { 0 } else { report.q1_uvar / 1_000 },
        power_factor: report.pf_ppm().map_or(PerMille(1_000), |ppm| ppm_to_permille(i64::from(ppm))),
        frequency: Millihertz(report.frequency_uhz.unwrap_or(0) / 1_000),
        neutral: switches.neutral.map(|_| Milliamps(report.neutral_ua / 1_000)),
        voltage_thd: ppm_to_permille(report.voltage.thd_ppm(THD_ORDER).map_or(0, i64::from)),
        current_dc: if report.no_load { PerMille(0) } else { ppm_to_permille(current_dc) },
        unsampled_us: report.lost_us,
        ..switches
    }
}
