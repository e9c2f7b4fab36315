//! What is wired to which pin, by chip (docs/hardware has the tables).
//!
//! The C3 brings out 13 usable pins, too few for the display: there it goes without, and everything else is the same.

use embassy_time::{Duration, Timer};
use esp_hal::{
    gpio::{AnyPin, Input, InputConfig, Level, Output, OutputConfig, Pull},
    peripherals,
};
use meter::{Inputs, relay::Pulse};
use metering::Milliamps;

use crate::panel::Lcd;

/// Hardware number in the headers of images.
#[cfg(feature = "esp32c6")]
pub const HARDWARE: u16 = 6;
/// Hardware number in the headers of images.
#[cfg(feature = "esp32c3")]
pub const HARDWARE: u16 = 3;

pub type Voltage = peripherals::GPIO0<'static>;
pub type Phase = peripherals::GPIO1<'static>;
#[cfg(feature = "esp32c6")]
pub type Neutral = peripherals::GPIO2<'static>;
/// Not GPIO2: the C3 reads it while it starts.
#[cfg(feature = "esp32c3")]
pub type Neutral = peripherals::GPIO3<'static>;

/// Length of a relay pulse.
const PULSE: Duration = Duration::from_millis(100);

/// Everything that is wired.
pub struct Wiring {
    pub analog: (Voltage, Phase, Neutral),
    pub switches: Switches,
    pub signals: Signals,
    pub lcd: Option<Lcd>,
    pub jumper: Input<'static>,
}

/// What the meter feels and moves.
pub struct Switches {
    pub relay_set: Output<'static>,
    pub relay_reset: Output<'static>,
    pub contact: Input<'static>,
    pub lid: Input<'static>,
    pub magnet: Input<'static>,
    pub button: Input<'static>,
}

/// What the consumer hears and sees beside the display.
pub struct Signals {
    pub buzzer: Output<'static>,
    pub light: Output<'static>,
}

pub fn output(pin: impl Into<AnyPin<'static>>) -> Output<'static> {
    Output::new(pin.into(), Level::Low, OutputConfig::default())
}

pub fn switch(pin: impl Into<AnyPin<'static>>) -> Input<'static> {
    Input::new(pin.into(), InputConfig::default().with_pull(Pull::Up))
}

/// The wiring out of the chip's peripherals.
#[cfg(feature = "esp32c6")]
macro_rules! wiring {
    ($p:ident) => {
        $crate::pins::Wiring {
            analog: ($p.GPIO0, $p.GPIO1, $p.GPIO2),
            switches: $crate::pins::Switches {
                relay_set: $crate::pins::output($p.GPIO10),
                relay_reset: $crate::pins::output($p.GPIO11),
                contact: $crate::pins::switch($p.GPIO18),
                lid: $crate::pins::switch($p.GPIO22),
                magnet: $crate::pins::switch($p.GPIO23),
                button: $crate::pins::switch($p.GPIO8),
            },
            signals: $crate::pins::Signals {
                buzzer: $crate::pins::output($p.GPIO15),
                light: $crate::pins::output($p.GPIO14),
            },
            lcd: Some($crate::panel::Lcd {
                rs: $crate::pins::output($p.GPIO3),
                enable: $crate::pins::output($p.GPIO4),
                data: [
                    $crate::pins::output($p.GPIO5),
                    $crate::pins::output($p.GPIO6),
                    $crate::pins::output($p.GPIO7),
                    $crate::pins::output($p.GPIO19),
                ],
            }),
            jumper: $crate::pins::switch($p.GPIO9),
        }
    };
}

/// The wiring out of the chip's peripherals.
#[cfg(feature = "esp32c3")]
macro_rules! wiring {
    ($p:ident) => {
        $crate::pins::Wiring {
            analog: ($p.GPIO0, $p.GPIO1, $p.GPIO3),
            switches: $crate::pins::Switches {
                relay_set: $crate::pins::output($p.GPIO4),
                relay_reset: $crate::pins::output($p.GPIO5),
                contact: $crate::pins::switch($p.GPIO6),
                lid: $crate::pins::switch($p.GPIO7),
                magnet: $crate::pins::switch($p.GPIO10),
                button: $crate::pins::switch($p.GPIO8),
            },
            signals: $crate::pins::Signals {
                buzzer: $crate::pins::output($p.GPIO20),
                light: $crate::pins::output($p.GPIO21),
            },
            lcd: None,
            jumper: $crate::pins::switch($p.GPIO9),
        }
    };
}

pub(crate) use wiring;

impl Switches {
    /// As they are now; the quantities are those of a quiet connection.
    pub fn inputs(&self) -> Inputs {
        Inputs {
            neutral: Some(Milliamps(0)),
            load_voltage: None,
            cover_open: self.lid.is_high(),
            magnet: self.magnet.is_low(),
            button: self.button.is_low(),
            contact_closed: Some(self.contact.is_low()),
            ..Inputs::default()
        }
    }

    /// Gives the relay its pulse.
    pub async fn pulse(&mut self, pulse: Option<Pulse>) {
        let coil = match pulse {
            Some(Pulse::Close) => &mut self.relay_set,
            Some(Pulse::Open) => &mut self.relay_reset,
            None => return,
        };
        coil.set_high();
        Timer::after(PULSE).await;
        coil.set_low();
    }
}
