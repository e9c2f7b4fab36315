//! The consumer's side: display, buzzer, energy pulse.

use alloc::{format, string::String};

use board::display::{self, Nibble};
use embassy_time::Timer;
use esp_hal::gpio::Output;
use metrology::window::WindowReport;

/// Seconds that a page stays.
pub const PAGE_SECONDS: u64 = 6;
/// Energy of one pulse of the light: 3,200 a kilowatt-hour.
pub const PULSE_MWH: u64 = 1_000_000 / 3_200;

/// Wires of the display.
pub struct Lcd {
    pub rs: Output<'static>,
    pub enable: Output<'static>,
    pub data: [Output<'static>; 4],
}

impl Lcd {
    async fn put(&mut self, nibble: Nibble) {
        self.rs.set_level(nibble.text.into());
        for (bit, wire) in self.data.iter_mut().enumerate() {
            wire.set_level((nibble.bits >> bit & 1 == 1).into());
        }
        self.enable.set_high();
        Timer::after_micros(1).await;
        self.enable.set_low();
        Timer::after_micros(u64::from(nibble.wait_us)).await;
    }

    /// Starts the controller.
    pub async fn start(&mut self) {
        Timer::after_millis(50).await;
        for nibble in display::start() {
            self.put(nibble).await;
        }
    }

    /// Shows two lines.
    pub async fn show(&mut self, lines: [&str; 2]) {
        for nibble in display::show(lines) {
            self.put(nibble).await;
        }
    }
}

fn micro(value: i64, decimals: u32, per_unit: i64) -> String {
    let scale = 10_i64.pow(decimals);
    let scaled = (i128::from(value) * i128::from(scale) / i128::from(per_unit)) as i64;
    let sign = if scaled < 0 { "-" } else { "" };
    let (whole, rest) = (scaled.abs() / scale, scaled.abs() % scale);
    format!("{sign}{whole}.{rest:0width$}", width = decimals as usize)
}

/// The lines of page `number` of the scroll.
pub fn page(number: u64, window: Option<&WindowReport>, import_wh: u64) -> [String; 2] {
    let kwh =
        [String::from("1.0.1.8.0 kWh"), format!("{:>16}", format!("{}.{:03}", import_wh / 1_000, import_wh % 1_000))];
    let Some(w) = window else { return kwh };
    let pf = w.pf_ppm().map_or(String::from("--"), |pf| micro(i64::from(pf), 3, 1_000_000));
    let hertz = w.frequency_uhz.map_or(String::from("--"), |f| micro(i64::from(f), 2, 1_000_000));
    let (name, value) = match number % 6 {
        1 => ("1.0.32.7.0  V", micro(i64::from(w.vrms_uv), 1, 1_000_000)),
        2 => ("1.0.31.7.0  A", micro(i64::from(w.irms_ua), 3, 1_000_000)),
        3 => ("1.0.1.7.0  kW", micro(w.p_uw, 3, 1_000_000_000)),
        4 => ("1.0.13.7.0 PF", pf),
        5 => ("1.0.14.7.0 Hz", hertz),
        _ => return kwh,
    };
    [String::from(name), format!("{value:>16}")]
}
