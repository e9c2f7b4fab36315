//! Lines over USB, for provisioning, calibration and images (`board::service`).

use alloc::{string::String, vec::Vec};

use board::{
    provisioning::LINE_BYTES_MAX,
    service::{After, Service},
};
use embedded_io_async::{Read, Write};
use esp_hal::{Async, gpio::Input, usb::usb_serial_jtag::UsbSerialJtag};

use crate::measure;

use crate::flash::Chip;

#[embassy_executor::task]
pub async fn run(mut port: UsbSerialJtag<'static, Async>, mut service: Service<Chip>, jumper: Input<'static>) {
    let mut line = Vec::new();
    loop {
        let mut part = [0; 64];
        let Ok(count) = port.read(&mut part).await;
        for byte in &part[..count] {
            if !matches!(byte, b'\n' | b'\r') {
                // one more than the limit, so that the answer says so
                if line.len() <= LINE_BYTES_MAX {
                    line.push(*byte);
                }
                continue;
            }
            if line.is_empty() {
                continue;
            }
            let reading = measure::NEWEST.lock(|newest| newest.get());
            let (answer, after) = service.line(&String::from_utf8_lossy(&line), jumper.is_low(), reading.as_ref());
            line.clear();
            let _ = port.write_all(answer.as_bytes()).await;
            let _ = port.write_all(b"\r\n").await;
            match after {
                After::Stay => {}
                After::Measure(front_end) => measure::FOUND.signal(front_end),
                After::Restart => {
                    let _ = port.flush().await;
                    esp_hal::system::software_reset();
                }
            }
        }
    }
}
