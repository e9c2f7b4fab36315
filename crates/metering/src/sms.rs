//! Short signed texts, for SMS when no data connection is to be had: the daily register, an alert, an order, its answer.
//!
//! A text is one line of at most 160 characters of the GSM alphabet, readable by a person, and ends in a code: the first 80 bits
//! of HMAC-SHA-256 over everything before it, in base 32. An Ed25519 signature does not fit beside the content. The key is shared
//! by meter and server and made from the meter's secret, so that nothing more has to be handed out. Each side counts
//! its texts: a text whose counter is not above the last one is a repetition.
//!
//! An order to disconnect cannot be given by text: it needs two signatures.

use alloc::{
    format,
    string::{String, ToString},
};
use core::{fmt, str::SplitAsciiWhitespace};

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::{
    control::ReplyOutcome,
    event::EventKind,
    id::MeterId,
    reading::RecordFlags,
    time::{IntervalLength, Timestamp},
    unit::WattHours,
};

/// Longest text, characters.
pub const TEXT_MAX: usize = 160;
const CODE_BYTES: usize = 10;
const DIGITS: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// The key of a meter's texts.
#[derive(Clone, PartialEq, Eq)]
pub struct TextKey([u8; 32]);

impl fmt::Debug for TextKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TextKey(..)")
    }
}

impl TextKey {
    /// The key that belongs to a meter's secret. Not made from the hash that servers keep of it: who reads that hash must not be
    /// able to write texts.
    pub fn from_secret(secret: &[u8; 32]) -> Self {
        Self(authenticate(secret, &[b"gridtally text 2"]))
    }

    /// A key as it was kept, see [`TextKey::to_bytes`].
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The key itself, to be kept sealed.
    pub const fn to_bytes(&self) -> [u8; 32] {
        self.0
    }

    fn code(&self, line: &str) -> [u8; CODE_BYTES] {
        let whole = authenticate(&self.0, &[line.as_bytes()]);
        let mut code = [0; CODE_BYTES];
        code.copy_from_slice(&whole[..CODE_BYTES]);
        code
    }
}

/// HMAC-SHA-256 of the parts together.
pub(crate) fn authenticate(key: &[u8; 32], parts: &[&[u8]]) -> [u8; 32] {
    // a key shorter than the block is padded with zeros (RFC 2104)
    let mut block = [0; 64];
    block[..32].copy_from_slice(key);
    let mut mac = Hmac::<Sha256>::new(&block.into());
    parts.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().into()
}

/// What may be ordered by text: nothing that cuts anybody off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextOrder {
    /// Send the register.
    Status,
    /// Arm the relay; the button closes it.
    Reconnect,
    /// Lift the load limit.
    LiftLimit,
}

impl TextOrder {
    const ALL: [(Self, &'static str); 3] =
        [(Self::Status, "STATUS"), (Self::Reconnect, "RECONNECT"), (Self::LiftLimit, "LIFTLIMIT")];

    const fn word(self) -> &'static str {
        match self {
            Self::Status => "STATUS",
            Self::Reconnect => "RECONNECT",
            Self::LiftLimit => "LIFTLIMIT",
        }
    }
}

/// What a text says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextBody {
    /// From the meter: its registers at the end of an interval, as in its load profile.
    Register {
        /// End of the interval.
        end: Timestamp,
        /// Its length.
        length: IntervalLength,
        /// What the meter says about the interval.
        flags: RecordFlags,
        /// Import register then.
        import_wh: WattHours,
        /// Export register then.
        export_wh: WattHours,
    },
    /// From the meter: something happened.
    Alert {
        /// When.
        at: Timestamp,
        /// What.
        kind: EventKind,
        /// Import register then.
        import_wh: WattHours,
    },
    /// From the server.
    Order {
        /// Not to be carried out later.
        expires: Timestamp,
        /// What to do.
        order: TextOrder,
    },
    /// From the meter: how an order went.
    Answer {
        /// Counter of the order.
        to: u64,
        /// How it went.
        outcome: ReplyOutcome,
    },
}

/// A text whose code was right, or that is to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Text {
    /// The meter it comes from or goes to.
    pub meter: MeterId,
    /// Counts the texts of one direction.
    pub counter: u64,
    /// What it says.
    pub body: TextBody,
}

/// Why a line is not a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextError {
    /// It does not begin with `GT1`: somebody else's message.
    Foreign,
    /// It does, but its fields are wrong.
    Malformed,
    /// The code is wrong: damaged, forged, or another meter's key.
    Code,
}

impl fmt::Display for TextError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Foreign => "not a text of a meter (those begin with GT1)",
            Self::Malformed => "a text of a meter with missing or impossible fields",
            Self::Code => "the code at the end is wrong: the text is damaged, forged or of another meter",
        })
    }
}

impl core::error::Error for TextError {}

impl Text {
    /// The line to send.
    pub fn write(&self, key: &TextKey) -> String {
        let (letter, fields) = match self.body {
            TextBody::Register { end, length, flags, import_wh, export_wh } => {
                let minutes = length.minutes();
                ('R', format!("{} {minutes} {} {} {}", end.0, flags.0, import_wh.0, export_wh.0))
            }
            TextBody::Alert { at, kind, import_wh } => ('E', format!("{} {} {}", at.0, kind.code(), import_wh.0)),
            TextBody::Order { expires, order } => ('C', format!("{} {}", expires.0, order.word())),
            TextBody::Answer { to, outcome } => ('A', format!("{to} {}", outcome.code())),
        };
        let line = format!("GT1 {letter} {} {} {fields}", self.meter, self.counter);
        let code = base32(&key.code(&line));
        format!("{line} {code}")
    }

    /// The meter that a line names; nothing is proved by it.
    pub fn meter_of(line: &str) -> Result<MeterId, TextError> {
        let mut fields = line.split_ascii_whitespace();
        if fields.next() != Some("GT1") {
            return Err(TextError::Foreign);
        }
        fields.nth(1).and_then(|id| MeterId::new(id).ok()).ok_or(TextError::Malformed)
    }

    /// Reads a line and proves it.
    pub fn read(line: &str, key: &TextKey) -> Result<Self, TextError> {
        let line = line.trim();
        let meter = Self::meter_of(line)?;
        let (content, code) = line.rsplit_once(' ').ok_or(TextError::Malformed)?;
        if line.len() > TEXT_MAX || !same(base32(&key.code(content)).as_bytes(), code.as_bytes()) {
            return Err(TextError::Code);
        }
        Self::fields(meter, content).ok_or(TextError::Malformed)
    }

    fn fields(meter: MeterId, content: &str) -> Option<Self> {
        let mut fields = content.split_ascii_whitespace();
        let letter = fields.nth(1)?;
        let counter = number(&mut { fields.nth(1)? }.split_ascii_whitespace())?;
        let body = match letter {
            "R" => TextBody::Register {
                end: Timestamp(number(&mut fields)?),
                length: IntervalLength::try_from(number::<u16>(&mut fields)?).ok()?,
                flags: RecordFlags(number(&mut fields)?),
                import_wh: WattHours(number(&mut fields)?),
                export_wh: WattHours(number(&mut fields)?),
            },
            "E" => TextBody::Alert {
                at: Timestamp(number(&mut fields)?),
                kind: EventKind::from_code(number(&mut fields)?),
                import_wh: WattHours(number(&mut fields)?),
            },
            "C" => {
                let expires = Timestamp(number(&mut fields)?);
                let word = fields.next()?;
                let order = TextOrder::ALL.into_iter().find(|(_, name)| *name == word)?.0;
                TextBody::Order { expires, order }
            }
            "A" => {
                TextBody::Answer { to: number(&mut fields)?, outcome: ReplyOutcome::from_code(number(&mut fields)?)? }
            }
            _ => return None,
        };
        fields.next().is_none().then_some(Self { meter, counter, body })
    }
}

fn number<T: core::str::FromStr>(fields: &mut SplitAsciiWhitespace<'_>) -> Option<T> {
    fields.next()?.parse().ok()
}

fn base32(bytes: &[u8; CODE_BYTES]) -> String {
    let mut text = String::new();
    for chunk in bytes.chunks(5) {
        let bits = chunk.iter().fold(0u64, |sum, byte| sum << 8 | u64::from(*byte));
        for place in (0..8).rev() {
            let digit = usize::from((bits >> (5 * place)).to_le_bytes()[0] & 31);
            text.push(char::from(DIGITS[digit]));
        }
    }
    text
}

/// Equality whose time does not depend on where two codes differ.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |sum, (x, y)| core::hint::black_box(sum | (x ^ y))) == 0
}

impl fmt::Display for TextBody {
    /// What a person reads in a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Register { end, import_wh, .. } => write!(f, "register {import_wh} at {end}"),
            Self::Alert { at, kind, .. } => write!(f, "{} at {at}", kind.word()),
            Self::Order { order, .. } => f.write_str(order.word()),
            Self::Answer { to, outcome } => f.write_str(&[&to.to_string(), ": ", outcome.word()].concat()),
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    fn key() -> TextKey {
        TextKey::from_secret(&[7; 32])
    }

    fn texts() -> Vec<Text> {
        let meter = MeterId::new("M-0001").expect("valid");
        let bodies = [
            TextBody::Register {
                end: Timestamp(1_772_496_000),
                length: IntervalLength::M15,
                flags: RecordFlags::TAMPER,
                import_wh: WattHours(12_345_678),
                export_wh: WattHours(42),
            },
            TextBody::Alert { at: Timestamp(1_772_496_123), kind: EventKind::CoverOpen, import_wh: WattHours(9) },
            TextBody::Order { expires: Timestamp(1_772_500_000), order: TextOrder::Reconnect },
            TextBody::Answer { to: 3, outcome: ReplyOutcome::BackFeed },
        ];
        bodies.into_iter().zip(17..).map(|(body, counter)| Text { meter, counter, body }).collect()
    }

    #[test]
    fn golden_lines() {
        let lines: Vec<String> = texts().iter().map(|text| text.write(&key())).collect();
        expect_test::expect![[r#"
            GT1 R M-0001 17 1772496000 15 8 12345678 42 FGEKI7JXQWO5QV6M
            GT1 E M-0001 18 1772496123 251 9 KI6ME6EDVGTLN5LB
            GT1 C M-0001 19 1772500000 RECONNECT FS4KCQH2AWMG5MAN
            GT1 A M-0001 20 3 5 IPPJC6XRDMOMGESQ"#]]
        .assert_eq(&lines.join("\n"));
    }

    #[test]
    fn hmac_of_rfc_4231() {
        let mut long = [0; 32];
        long[..20].fill(0x0b);
        // a key padded with zeros is the same key
        let mac = authenticate(&long, &[b"Hi ", b"There"]);
        assert_eq!(mac[..8], [0xb0, 0x34, 0x4c, 0x61, 0xd8, 0xdb, 0x38, 0x53]);
    }

    #[test]
    fn texts_return_and_the_longest_fits_one_message() {
        for text in texts() {
            let line = text.write(&key());
            assert_eq!(Text::read(&line, &key()), Ok(text), "{line}");
            assert_eq!(Text::read(&line, &TextKey::from_secret(&[8; 32])), Err(TextError::Code));
        }
        let longest = Text {
            meter: MeterId::new(&"M".repeat(32)).expect("valid"),
            counter: 9_999_999_999,
            body: TextBody::Register {
                end: Timestamp(9_999_999_999),
                length: IntervalLength::M60,
                flags: RecordFlags(u16::MAX),
                import_wh: WattHours(u64::MAX),
                export_wh: WattHours(u64::MAX),
            },
        };
        assert!(longest.write(&key()).len() <= TEXT_MAX);
        assert_eq!(Text::read("hello", &key()), Err(TextError::Foreign));
        assert_eq!(Text::read("GT1 R", &key()), Err(TextError::Malformed));
    }

    proptest! {
        /// No change of a character passes.
        #[test]
        fn a_changed_text_is_refused(which in 0usize..4, at in 0usize..160, to in 32u8..127) {
            let text = texts()[which];
            let mut line = text.write(&key()).into_bytes();
            let at = at % line.len();
            prop_assume!(line[at] != to);
            line[at] = to;
            let line = String::from_utf8(line).expect("ASCII");
            prop_assert_ne!(Text::read(&line, &key()), Ok(text));
            prop_assert!(Text::read(&line, &key()).is_err());
        }

        #[test]
        fn any_line_is_read_without_panic(line in "\\PC{0,200}") {
            let _ = Text::read(&line, &key());
            let _ = Text::read(&format!("GT1 R M-1 {line}"), &key());
        }
    }
}
