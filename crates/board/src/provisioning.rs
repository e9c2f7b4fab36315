//! What a board must be told before it is a meter, and the lines over the serial port that tell it.
//!
//! `set NAME VALUE`, `show`, `save`, `lock`, and what [`crate::service`] carries out: `bench`, `calibrate`, `image`, `part`, `install`,
//! `format`; one answer line each, `ok …` or `error …`. Secrets are never shown again. A locked board takes only `show` until its
//! jumper is closed. Not for the field: there, settings come from the server, signed.

use alloc::{format, string::String, vec::Vec};

use metering::MeterId;
use minicbor::{Decode, Encode};

/// Longest line.
pub const LINE_BYTES_MAX: usize = 256;
/// Largest certificate of an authority, bytes of DER.
pub const AUTHORITY_BYTES_MAX: usize = 1_024;

/// What the board is told.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Provision {
    /// The meter's name.
    #[n(0)]
    pub meter: String,
    /// Its secret at the server, 64 hexadecimal digits.
    #[n(1)]
    pub secret: String,
    /// Network name.
    #[n(2)]
    pub ssid: String,
    /// Network password.
    #[n(3)]
    pub password: String,
    /// The server's name or address.
    #[n(4)]
    pub server: String,
    /// Its port.
    #[n(5)]
    pub port: u16,
    /// The server's Ed25519 key, which signs controls.
    #[n(6)]
    pub control_key: Option<[u8; 32]>,
    /// The maker's Ed25519 key, which signs firmware.
    #[n(7)]
    pub firmware_key: Option<[u8; 32]>,
    /// The authority of the server's certificate, DER.
    #[n(8)]
    #[cbor(with = "minicbor::bytes")]
    pub authority: Vec<u8>,
    /// Whether `set` needs the jumper.
    #[n(9)]
    pub locked: bool,
    /// The calibration bench's Ed25519 key, which signs calibration records; without it the meter counts as not calibrated.
    #[n(10)]
    pub calibration_key: Option<[u8; 32]>,
}

/// What is to be done after a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Nothing.
    None,
    /// Write the provision to flash and start again.
    Save,
    /// A step of a calibration at the bench.
    Bench(String),
    /// These bytes of a calibration record have come; `true`: they are its first.
    Calibrate(bool, Vec<u8>),
    /// The header of an image has come.
    Image(Vec<u8>),
    /// These bytes of its program have come, which begin there.
    Part(u32, Vec<u8>),
    /// The program is whole: check it and try it.
    Install,
    /// Erase the meter's memory and start again.
    Format,
}

fn hex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    if !digits.len().is_multiple_of(2) {
        return None;
    }
    let nibble = |d: &u8| char::from(*d).to_digit(16).map(|n| n as u8);
    digits.chunks_exact(2).map(|pair| Some(nibble(&pair[0])? << 4 | nibble(&pair[1])?)).collect()
}

fn key(value: &str) -> Result<Option<[u8; 32]>, &'static str> {
    let bytes = hex(value).and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
    bytes.map(Some).ok_or("a key is 64 hexadecimal digits")
}

impl Provision {
    /// What is missing before the board can be a meter; empty when it can.
    pub fn missing(&self) -> Vec<&'static str> {
        let wanted = [
            ("meter", self.meter.is_empty()),
            ("secret", self.secret.is_empty()),
            ("ssid", self.ssid.is_empty()),
            ("server", self.server.is_empty()),
            ("port", self.port == 0),
            ("control-key", self.control_key.is_none()),
            ("firmware-key", self.firmware_key.is_none()),
            ("authority", self.authority.is_empty()),
        ];
        wanted.into_iter().filter(|(_, missing)| *missing).map(|(name, _)| name).collect()
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), &'static str> {
        let short =
            |value: &str, most: usize, why| if value.len() <= most { Ok(String::from(value)) } else { Err(why) };
        match name {
            "meter" => {
                MeterId::new(value).map_err(|_| "not a meter's name")?;
                self.meter = value.into();
            }
            "secret" => {
                key(value).map_err(|_| "a secret is 64 hexadecimal digits")?;
                self.secret = value.into();
            }
            "ssid" => self.ssid = short(value, 32, "a network name has at most 32 bytes")?,
            "password" => self.password = short(value, 63, "a network password has at most 63 bytes")?,
            "server" => self.server = short(value, 63, "a server name has at most 63 bytes")?,
            "port" => self.port = value.parse().ok().filter(|&p| p > 0).ok_or("a port is 1 to 65535")?,
            "control-key" => self.control_key = key(value)?,
            "firmware-key" => self.firmware_key = key(value)?,
            "calibration-key" => self.calibration_key = key(value)?,
            // longer than a line: the first piece replaces, `authority+` adds
            "authority" | "authority+" => {
                let piece = hex(value).ok_or("a certificate is given in hexadecimal, in pieces of a line each")?;
                let kept = if name == "authority" { 0 } else { self.authority.len() };
                if kept + piece.len() > AUTHORITY_BYTES_MAX {
                    return Err("the certificate is larger than 1,024 bytes");
                }
                self.authority.truncate(kept);
                self.authority.extend_from_slice(&piece);
            }
            _ => return Err("unknown name; see show"),
        }
        Ok(())
    }

    fn show(&self) -> String {
        let secret = |text: &str| if text.is_empty() { "missing" } else { "set" };
        format!(
            "ok meter={} secret={} ssid={} password={} server={}:{} control-key={} firmware-key={} calibration-key={} authority={} bytes locked={} missing={}",
            self.meter,
            secret(&self.secret),
            self.ssid,
            secret(&self.password),
            self.server,
            self.port,
            if self.control_key.is_some() { "set" } else { "missing" },
            if self.firmware_key.is_some() { "set" } else { "missing" },
            if self.calibration_key.is_some() { "set" } else { "missing" },
            self.authority.len(),
            self.locked,
            self.missing().join(",")
        )
    }

    /// Takes a line (without its end) and gives the answer and what to do; the answer is empty where what is done gives it. `jumper`: the calibration jumper is closed.
    pub fn line(&mut self, line: &str, jumper: bool) -> (String, Effect) {
        let error = |why: &str| (format!("error {why}"), Effect::None);
        if line.len() > LINE_BYTES_MAX {
            return error("the line is longer than 256 bytes");
        }
        let (word, rest) = line.trim().split_once(' ').unwrap_or((line.trim(), ""));
        let bytes = |text: &str, effect: fn(Vec<u8>) -> Effect| match hex(text) {
            Some(bytes) => (String::new(), effect(bytes)),
            None => error("bytes are given in hexadecimal"),
        };
        match word {
            "show" => (self.show(), Effect::None),
            _ if self.locked && !jumper => error("locked: close the jumper first"),
            "set" => {
                let (name, value) = rest.split_once(' ').unwrap_or((rest, ""));
                match self.set(name, value) {
                    Ok(()) => (format!("ok {name}"), Effect::None),
                    Err(why) => error(why),
                }
            }
            "save" | "lock" => {
                let missing = self.missing();
                if !missing.is_empty() {
                    return error(&format!("missing: {}", missing.join(",")));
                }
                self.locked |= word == "lock";
                (String::from("ok starting again"), Effect::Save)
            }
            "bench" => (String::new(), Effect::Bench(rest.into())),
            "calibrate" => bytes(rest, |bytes| Effect::Calibrate(true, bytes)),
            "calibrate+" => bytes(rest, |bytes| Effect::Calibrate(false, bytes)),
            "image" => bytes(rest, Effect::Image),
            "part" => match rest.split_once(' ').and_then(|(at, text)| Some((at.parse().ok()?, hex(text)?))) {
                Some((at, bytes)) => (String::new(), Effect::Part(at, bytes)),
                None => error("say: part BYTE HEX"),
            },
            "install" => (String::new(), Effect::Install),
            "format" => (String::new(), Effect::Format),
            _ => error("say: set NAME VALUE, show, save, lock, bench, calibrate, image, part, install or format"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LINES: [&str; 9] = [
        "set meter M-101",
        "set secret 00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff",
        "set ssid Our Net",
        "set password correct horse",
        "set server meters.example",
        "set port 8883",
        "set control-key 00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff",
        "set firmware-key 00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff",
        "set authority 3082010a",
    ];

    #[test]
    fn a_board_is_told_everything_once_and_then_locked() {
        let mut board = Provision::default();
        assert!(board.line("lock", false).0.starts_with("error missing: meter,secret"));
        for line in LINES {
            assert!(board.line(line, false).0.starts_with("ok"), "{line}");
        }
        assert_eq!(board.line("set authority+ 0b0c", false).0, "ok authority+");
        assert_eq!((board.ssid.as_str(), board.authority.len()), ("Our Net", 6));
        let shown = board.line("show", false).0;
        assert!(!shown.contains("horse") && !shown.contains("00112233"), "{shown}");
        assert_eq!(board.line("lock", false).1, Effect::Save);
        assert_eq!(board.line("set meter M-9", false).0, "error locked: close the jumper first");
        assert_eq!(board.line("set meter M-9", true).0, "ok meter");
        let bytes = minicbor::to_vec(&board).expect("memory");
        assert_eq!(minicbor::decode::<Provision>(&bytes).expect("own bytes"), board);
    }

    #[test]
    fn wrong_values_say_why() {
        let mut board = Provision::default();
        for line in ["set port 0", "set secret abc", "set meter a/b", "set nothing x", "set authority xyz", "hello"] {
            let (answer, effect) = board.line(line, false);
            assert!(answer.starts_with("error ") && effect == Effect::None, "{line}: {answer}");
        }
        assert_eq!(board, Provision::default());
    }

    proptest! {
        #[test]
        fn no_line_panics_or_unlocks(lines in prop::collection::vec(".{0,80}", 0..20)) {
            let mut board = Provision { locked: true, ..Provision::default() };
            for line in &lines {
                board.line(line, false);
            }
            prop_assert_eq!(board, Provision { locked: true, ..Provision::default() });
        }
    }
}
