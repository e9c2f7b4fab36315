//! Identifiers: short, printable, safe in an MQTT topic, a URL and a file name; copied by value, never allocated.

use core::{fmt, str::FromStr};

use minicbor::{Decode, Decoder, Encode, Encoder};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Longest identifier, in bytes.
pub const ID_BYTES_MAX: usize = 32;

/// Why a text is not an identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdError {
    /// Nothing stands there.
    Empty,
    /// More than [`ID_BYTES_MAX`] bytes.
    TooLong,
    /// A character outside `A–Z a–z 0–9 - _ .`, or a leading dot.
    Character,
}

impl fmt::Display for IdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "an identifier is empty",
            Self::TooLong => "an identifier is longer than 32 characters",
            Self::Character => "an identifier may hold letters, digits, '-', '_' and '.' only, and not begin with '.'",
        })
    }
}

impl core::error::Error for IdError {}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct ShortText {
    bytes: [u8; ID_BYTES_MAX],
    len: u8,
}

impl ShortText {
    fn new(text: &str) -> Result<Self, IdError> {
        if text.is_empty() {
            return Err(IdError::Empty);
        }
        if text.len() > ID_BYTES_MAX {
            return Err(IdError::TooLong);
        }
        let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        if text.starts_with('.') || !text.bytes().all(allowed) {
            return Err(IdError::Character);
        }
        let mut bytes = [0; ID_BYTES_MAX];
        bytes[..text.len()].copy_from_slice(text.as_bytes());
        Ok(Self { bytes, len: text.len().to_le_bytes()[0] })
    }

    fn as_str(&self) -> &str {
        core::str::from_utf8(&self.bytes[..usize::from(self.len)]).unwrap_or_default()
    }
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(ShortText);

        impl $name {
            /// Checks and takes a text of 1 to 32 characters `A–Z a–z 0–9 - _ .`.
            pub fn new(text: &str) -> Result<Self, IdError> {
                ShortText::new(text).map(Self)
            }

            /// The identifier as text.
            pub fn as_str(&self) -> &str {
                self.0.as_str()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(self.as_str(), f)
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                Self::new(text)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                self.as_str()
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.serialize_str(self.as_str())
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                let text = <alloc::borrow::Cow<'de, str>>::deserialize(from)?;
                Self::new(&text).map_err(de::Error::custom)
            }
        }

        impl<C> Encode<C> for $name {
            fn encode<W: minicbor::encode::Write>(
                &self,
                e: &mut Encoder<W>,
                _: &mut C,
            ) -> Result<(), minicbor::encode::Error<W::Error>> {
                e.str(self.as_str())?.ok()
            }
        }

        impl<'b, C> Decode<'b, C> for $name {
            fn decode(d: &mut Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
                let at = d.position();
                Self::new(d.str()?).map_err(|_| minicbor::decode::Error::message("not an identifier").at(at))
            }
        }
    };
}

text_id! {
    /// A meter: the device that measures and speaks to the server.
    MeterId
}
text_id! {
    /// A place of consumption; meters come and go there.
    UsagePointId
}
text_id! {
    /// A piece of network whose inflow an observer meter measures.
    ZoneId
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_what_is_safe_everywhere_and_refuses_the_rest() {
        assert_eq!(MeterId::new("M-0001_a.b").map(|m| m.as_str().len()), Ok(10));
        assert_eq!(MeterId::new(""), Err(IdError::Empty));
        for bad in ["a/b", "a+b", "#", "a b", "é", "..", ".hidden", "a\0"] {
            assert_eq!(MeterId::new(bad), Err(IdError::Character), "{bad:?}");
        }
        assert_eq!(MeterId::new(&"x".repeat(33)), Err(IdError::TooLong));
        assert!(MeterId::new(&"x".repeat(32)).is_ok());
    }

    #[test]
    fn json_and_cbor_carry_plain_text() {
        let meter = MeterId::new("M-1").expect("valid");
        assert_eq!(serde_json::to_string(&meter).expect("json"), "\"M-1\"");
        assert_eq!(minicbor::to_vec(meter).expect("cbor"), b"\x63M-1");
        assert!(minicbor::decode::<MeterId>(b"\x63M/1").is_err());
    }
}
