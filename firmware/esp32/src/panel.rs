//! The consumer's side: display, buzzer, energy pulse. What they show is `meter::display`.

use alloc::{string::String, vec::Vec};

use board::display::{self, Nibble};
use embassy_time::{Duration, Ticker, Timer};
use esp_hal::gpio::Output;
use meter::display::{buzzer, lights, screen};

use crate::{link::SharedMeter, pins::Signals, uptime};

/// Characters in a row, and rows.
const COLUMNS: usize = 16;
const ROWS: usize = 2;
/// The lights are looked at this often, the display every tenth time.
const LOOK: Duration = Duration::from_millis(25);
const LOOKS_PER_SCREEN: u64 = 10;

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

/// Shows what keeps the meter from running.
pub async fn notice(lcd: Option<Lcd>, lines: [&str; 2]) {
    esp_println::println!("{}: {}", lines[0], lines[1]);
    if let Some(mut lcd) = lcd {
        lcd.start().await;
        lcd.show(lines).await;
    }
}

#[embassy_executor::task]
pub async fn run(mut lcd: Option<Lcd>, mut signals: Signals, meter: &'static SharedMeter) {
    if let Some(lcd) = &mut lcd {
        lcd.start().await;
    }
    let mut shown: Vec<String> = Vec::new();
    let mut ticker = Ticker::every(LOOK);
    for look in 0_u64.. {
        let view = meter.lock().await.view();
        let now = uptime();
        signals.light.set_level(lights(&view, now).impulse.into());
        signals.buzzer.set_level(buzzer(&view, now).into());
        if let Some(lcd) = &mut lcd
            && look % LOOKS_PER_SCREEN == 0
        {
            let lines = screen(&view, now, COLUMNS, ROWS);
            if lines != shown
                && let [first, second] = lines.as_slice()
            {
                lcd.show([first, second]).await;
                shown = lines;
            }
        }
        ticker.next().await;
    }
}
