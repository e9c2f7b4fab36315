//! Controls: what a server may ask a meter to do, how it is signed, and the states every one of them ends in.
//!
//! The only road to a relay is an [`Approval`], given by a person or by a written policy: [`ApprovedControl`] cannot be made
//! without one.

use alloc::{string::String, vec::Vec};

use ed25519_dalek::{Signature, Signer, SigningKey, Verifier, VerifyingKey};
use minicbor::{Decode, Encode};
use serde::{Deserialize, Serialize};

use crate::{id::MeterId, time::Timestamp, unit::Watts};

/// Most signatures a control carries.
pub const SIGNATURES_MAX: usize = 2;

/// What the meter shall do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, Encode, Decode)]
#[serde(rename_all = "snake_case")]
pub enum ControlKind {
    /// Open the relay.
    #[n(0)]
    Disconnect,
    /// Arm the relay; the consumer's button closes it, unless configured otherwise.
    #[n(1)]
    Reconnect,
    /// Open the relay when the load stays above a limit.
    #[n(2)]
    #[cbor(map)]
    LoadLimit {
        /// Largest permitted import; `None` lifts the limit.
        #[n(0)]
        limit_w: Option<Watts>,
    },
    /// Report registers and power at one agreed second.
    #[n(3)]
    #[cbor(map)]
    SnapshotAt {
        /// The second to report.
        #[n(0)]
        at: Timestamp,
    },
}

impl ControlKind {
    /// The word in reports and on pages.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Disconnect => "disconnect",
            Self::Reconnect => "reconnect",
            Self::LoadLimit { .. } => "load_limit",
            Self::SnapshotAt { .. } => "snapshot_at",
        }
    }
}

/// A control as it travels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
#[cbor(map)]
pub struct Control {
    /// Identifier, unique for the server; the reply repeats it.
    #[n(0)]
    pub id: u64,
    /// What to do.
    #[n(1)]
    pub kind: ControlKind,
    /// After this time the meter refuses it.
    #[n(2)]
    pub expires: Timestamp,
    /// Grows with every control to this meter; the meter refuses one that does not.
    #[n(3)]
    pub counter: u64,
    /// Ed25519 signatures over [`Control::signed_bytes`], at most two; 64 bytes each, hexadecimal in JSON.
    #[n(4)]
    #[serde(default, with = "signatures_as_hex")]
    #[cbor(default, decode_with = "crate::absent::in_cbor")]
    pub signatures: Vec<SignatureBytes>,
}

/// One Ed25519 signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(transparent)]
pub struct SignatureBytes(
    #[n(0)]
    #[cbor(with = "minicbor::bytes")]
    pub [u8; 64],
);

impl Control {
    /// What is signed: a domain word, the meter, and every field but the signatures, in CBOR.
    pub fn signed_bytes(&self, meter: MeterId) -> Vec<u8> {
        let unsigned = (("gridtally control 1", meter), (self.id, self.kind, self.expires, self.counter));
        crate::cbor(unsigned)
    }

    /// Adds a signature. Keeps at most [`SIGNATURES_MAX`].
    pub fn sign(&mut self, meter: MeterId, key: &SigningKey) {
        if self.signatures.len() < SIGNATURES_MAX {
            let signature = key.sign(&self.signed_bytes(meter));
            self.signatures.push(SignatureBytes(signature.to_bytes()));
        }
    }

    /// Whether at least one signature is by `key`, for this meter.
    pub fn is_signed_by(&self, meter: MeterId, key: &VerifyingKey) -> bool {
        let bytes = self.signed_bytes(meter);
        self.signatures.iter().take(SIGNATURES_MAX).any(|s| key.verify(&bytes, &Signature::from_bytes(&s.0)).is_ok())
    }
}

/// How the meter answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, Encode, Decode)]
#[serde(rename_all = "snake_case")]
pub enum ReplyOutcome {
    /// Carried out.
    #[n(0)]
    Done,
    /// The relay is armed and waits for the consumer's button.
    #[n(1)]
    Armed,
    /// Refused: it had expired.
    #[n(2)]
    Expired,
    /// Refused: its counter is not above the last one.
    #[n(3)]
    Counter,
    /// Refused: no valid signature.
    #[n(4)]
    Signature,
    /// Refused: voltage stands on the load side, closing could hurt someone.
    #[n(5)]
    BackFeed,
    /// Refused: too many relay operations in a short time.
    #[n(6)]
    RateLimit,
    /// Refused: the meter cannot do this.
    #[n(7)]
    Unsupported,
    /// Tried, and the contact did not follow.
    #[n(8)]
    ContactFault,
    /// Refused: the meter has no valid clock, so expiry cannot be judged.
    #[n(9)]
    ClockUnset,
    /// Not carried out: a newer control took it back, or the meter lost power before the relay moved.
    #[n(10)]
    Overtaken,
}

impl ReplyOutcome {
    /// Every outcome, in the order of their codes.
    pub const ALL: [Self; 11] = [
        Self::Done,
        Self::Armed,
        Self::Expired,
        Self::Counter,
        Self::Signature,
        Self::BackFeed,
        Self::RateLimit,
        Self::Unsupported,
        Self::ContactFault,
        Self::ClockUnset,
        Self::Overtaken,
    ];

    /// The number on the wire.
    pub fn code(self) -> u8 {
        Self::ALL.iter().zip(0..).find(|(outcome, _)| **outcome == self).map_or(u8::MAX, |(_, code)| code)
    }

    /// The outcome of a number.
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.get(usize::from(code)).copied()
    }

    /// Whether the meter carried the control out or armed for it.
    pub const fn accepted(self) -> bool {
        matches!(self, Self::Done | Self::Armed)
    }

    /// In words.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Armed => "armed, waits for the button",
            Self::Expired => "expired",
            Self::Counter => "counter not above the last one",
            Self::Signature => "no valid signature",
            Self::BackFeed => "voltage on the load side",
            Self::RateLimit => "too many relay operations",
            Self::Unsupported => "not supported",
            Self::ContactFault => "contact did not follow",
            Self::ClockUnset => "meter clock not set",
            Self::Overtaken => "taken back by a newer control or by a power failure",
        }
    }
}

/// Where a control stands. It always ends in one of the last four.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "state", content = "reason")]
pub enum ControlState {
    /// Asked for, not yet approved.
    Requested,
    /// Approved by a person or a policy; waits to be sent.
    Approved,
    /// Handed to the connection of the meter.
    Sent,
    /// The meter has answered that it did it (disconnect) or armed (reconnect).
    Acknowledged,
    /// Seen by reading back.
    Verified,
    /// Not carried out: policy, approver or meter said no.
    Refused(String),
    /// Not carried out in time.
    Expired,
    /// Carried out or tried, and reading back says otherwise.
    Failed(String),
    /// Carried out, as the meter says; it declared that it has no sense by which that could be read back.
    Unseen(String),
}

impl ControlState {
    /// Whether nothing further will happen.
    pub const fn is_final(&self) -> bool {
        matches!(self, Self::Verified | Self::Refused(_) | Self::Expired | Self::Failed(_) | Self::Unseen(_))
    }

    /// The word in storage and reports.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Requested => "Requested",
            Self::Approved => "Approved",
            Self::Sent => "Sent",
            Self::Acknowledged => "Acknowledged",
            Self::Verified => "Verified",
            Self::Refused(_) => "Refused",
            Self::Expired => "Expired",
            Self::Failed(_) => "Failed",
            Self::Unseen(_) => "Unseen",
        }
    }

    /// The reason of a refusal or failure, or why nothing could be seen; empty otherwise.
    pub fn reason(&self) -> &str {
        match self {
            Self::Refused(reason) | Self::Failed(reason) | Self::Unseen(reason) => reason,
            _ => "",
        }
    }

    /// The state of a stored word and reason.
    pub fn from_word(word: &str, reason: &str) -> Option<Self> {
        Some(match word {
            "Requested" => Self::Requested,
            "Approved" => Self::Approved,
            "Sent" => Self::Sent,
            "Acknowledged" => Self::Acknowledged,
            "Verified" => Self::Verified,
            "Refused" => Self::Refused(reason.into()),
            "Expired" => Self::Expired,
            "Failed" => Self::Failed(reason.into()),
            "Unseen" => Self::Unseen(reason.into()),
            _ => return None,
        })
    }
}

/// Who stands behind an approval.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Approver {
    /// A signed-in person, by name.
    Person(String),
    /// A written policy, by name, e.g. `tamper:bypass`.
    Policy(String),
}

/// Permission to send one control to one meter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approval {
    /// Who gave it.
    pub approver: Approver,
    /// When.
    pub at: Timestamp,
    /// Why, in words.
    pub reason: String,
}

/// A control that may be sent: made from an [`Approval`] and in no other way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApprovedControl {
    meter: MeterId,
    control: Control,
    approval: Approval,
}

impl ApprovedControl {
    /// Binds a control to the approval it rests on.
    pub fn new(meter: MeterId, control: Control, approval: Approval) -> Self {
        Self { meter, control, approval }
    }

    /// The meter addressed.
    pub fn meter(&self) -> MeterId {
        self.meter
    }

    /// The control.
    pub fn control(&self) -> &Control {
        &self.control
    }

    /// The approval.
    pub fn approval(&self) -> &Approval {
        &self.approval
    }

    /// Signs the control as the server.
    #[must_use]
    pub fn signed(mut self, key: &SigningKey) -> Self {
        self.control.sign(self.meter, key);
        self
    }
}

/// One signature that may be absent, hexadecimal in JSON.
pub(crate) mod signature_as_hex {
    use alloc::vec::Vec;

    use serde::{Deserializer, Serializer};

    use super::{SignatureBytes, signatures_as_hex};

    pub fn serialize<S: Serializer>(signature: &Option<SignatureBytes>, to: S) -> Result<S::Ok, S::Error> {
        match signature {
            Some(signature) => to.serialize_str(&signatures_as_hex::hex(&signature.0)),
            None => to.serialize_none(),
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<SignatureBytes>, D::Error> {
        let text: Option<alloc::string::String> = serde::Deserialize::deserialize(from)?;
        let list: Vec<_> = text.into_iter().collect();
        Ok(signatures_as_hex::parse(&list)?.pop())
    }
}

mod signatures_as_hex {
    use alloc::{string::String, vec::Vec};

    use serde::{Deserialize, Deserializer, Serializer, de, ser::SerializeSeq};

    use super::{SIGNATURES_MAX, SignatureBytes};

    pub fn serialize<S: Serializer>(list: &[SignatureBytes], to: S) -> Result<S::Ok, S::Error> {
        let mut seq = to.serialize_seq(Some(list.len()))?;
        for signature in list {
            seq.serialize_element(&hex(&signature.0))?;
        }
        seq.end()
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<SignatureBytes>, D::Error> {
        let texts = Option::<Vec<String>>::deserialize(from)?.unwrap_or_default();
        if texts.len() > SIGNATURES_MAX {
            return Err(de::Error::custom("a control carries at most two signatures"));
        }
        parse(&texts)
    }

    pub(super) fn parse<E: de::Error>(texts: &[String]) -> Result<Vec<SignatureBytes>, E> {
        texts
            .iter()
            .map(|text| {
                unhex(text).map(SignatureBytes).ok_or_else(|| E::custom("a signature is 128 hexadecimal digits"))
            })
            .collect()
    }

    pub(super) fn hex(bytes: &[u8]) -> String {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let digits = bytes.iter().flat_map(|b| [DIGITS[usize::from(b >> 4)], DIGITS[usize::from(b & 15)]]);
        digits.map(char::from).collect()
    }

    fn unhex(text: &str) -> Option<[u8; 64]> {
        let digits = text.as_bytes();
        if digits.len() != 128 {
            return None;
        }
        let value = |d: u8| char::from(d).to_digit(16).and_then(|v| u8::try_from(v).ok());
        let mut bytes = [0; 64];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = value(pair[0])? << 4 | value(pair[1])?;
        }
        Some(bytes)
    }
}
