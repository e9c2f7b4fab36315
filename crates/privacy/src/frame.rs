//! A meter's masked day as one frame: the readings of one field, the root of their commitments, the commitment to their sum, signed.
//!
//! ```text
//! CBOR array [ body (byte string), signature (64 bytes) ]      signature: Ed25519 over "gridtally day 1 " ‖ body
//! body: array [ meter, epoch, field · 65536 + rev, first counter, present, values, root, total ]
//!   present  byte string, bit k mod 8 of byte k / 8: the value of counter first + k follows; empty: all do
//!   values   8 bytes a reading, little endian, reading + masks modulo 2^64
//!   root     Merkle root over the commitments of the readings (RFC 6962 hashing)
//!   total    Pedersen commitment to their sum (the commitments added up): over a period it checks a bill's register
//! ```
//! A day of quarter-hours is one TLS record below a kilobyte. Corrections and late readings are frames of the same kind with fewer
//! readings; field and revision share one number. `no_std`, without allocation. It is not: the transport.

use minicbor::{Decode, Encode};

use metering::MeterId;

use crate::mask::Field;

/// Most readings of one frame: two days of quarter-hours.
pub const READINGS_MAX: usize = 192;
/// Most bytes of one frame.
pub const BYTES_MAX: usize = READINGS_MAX * 8 + 320;
const SIGNED_AS: &[u8] = b"gridtally day 1 ";

/// Why bytes are no day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameError {
    /// Not the arrays of the frame.
    Form,
    /// Another number of readings than is stated, none, or too many.
    Readings,
}

impl core::fmt::Display for FrameError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Form => "not a masked day: an array of body and signature is expected",
            Self::Readings => "a masked day holds 1 to 192 readings of 8 bytes, as many as it says are present",
        })
    }
}

impl core::error::Error for FrameError {}

/// The body of the frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Day<'b> {
    /// From whom.
    #[n(0)]
    pub meter: MeterId,
    /// Key epoch of the masks.
    #[n(1)]
    pub epoch: u32,
    /// Field's number in the high, revision in the low half.
    #[n(2)]
    pub field_and_rev: u32,
    /// Counter of the first reading.
    #[n(3)]
    pub first: u64,
    /// Which counters from there on; empty: all.
    #[cbor(n(4), with = "minicbor::bytes")]
    pub present: &'b [u8],
    /// The readings that are present, 8 bytes each.
    #[cbor(n(5), with = "minicbor::bytes")]
    pub values: &'b [u8],
    /// Root of the commitments.
    #[cbor(n(6), with = "minicbor::bytes")]
    pub root: [u8; 32],
    /// Commitment to the sum.
    #[cbor(n(7), with = "minicbor::bytes")]
    pub total: [u8; 32],
}

#[derive(Encode, Decode)]
struct Signed<'b> {
    #[cbor(n(0), with = "minicbor::bytes")]
    body: &'b [u8],
    #[cbor(n(1), with = "minicbor::bytes")]
    signature: [u8; 64],
}

impl<'b> Day<'b> {
    /// Field and revision of a frame's readings.
    pub fn field(&self) -> Option<(Field, u16)> {
        let [high, low, a, b] = self.field_and_rev.to_be_bytes();
        let field = Field::from_code(u16::from_be_bytes([high, low]))?;
        Some((field, u16::from_be_bytes([a, b])))
    }

    /// The number that says both.
    pub const fn said(field: Field, rev: u16) -> u32 {
        (field.code() as u32) << 16 | rev as u32
    }

    /// Counters and masked values.
    pub fn readings(&self) -> impl Iterator<Item = (u64, u64)> + use<'b> {
        let Self { first, present, values, .. } = *self;
        let is_present = move |k: &u64| {
            let byte = usize::try_from(k / 8).ok().and_then(|at| present.get(at));
            present.is_empty() || byte.is_some_and(|byte| byte >> (k % 8) & 1 == 1)
        };
        let counters = (0..(READINGS_MAX * 8) as u64).filter(is_present).map(move |k| first.saturating_add(k));
        counters.zip(values.as_chunks::<8>().0.iter().map(|bytes| u64::from_le_bytes(*bytes)))
    }

    /// Writes the frame; gives its bytes. `sign` signs the bytes it is given, in two parts that belong together.
    ///
    /// # Errors
    /// [`FrameError::Readings`]; [`FrameError::Form`] when the buffer is too small.
    pub fn write<'o>(
        &self,
        out: &'o mut [u8; BYTES_MAX],
        sign: impl FnOnce([&[u8]; 2]) -> [u8; 64],
    ) -> Result<&'o [u8], FrameError> {
        self.check()?;
        let mut bytes = [0; BYTES_MAX];
        let body = written(self, &mut bytes).ok_or(FrameError::Form)?;
        let signature = sign([SIGNED_AS, body]);
        written(&Signed { body, signature }, out).ok_or(FrameError::Form)
    }

    /// Reads a frame. `is_signed` is given what is signed, in two parts, and the signature.
    ///
    /// # Errors
    /// [`FrameError`]; a signature that is not good is a matter of form.
    pub fn read(bytes: &'b [u8], is_signed: impl FnOnce([&[u8]; 2], &[u8; 64]) -> bool) -> Result<Self, FrameError> {
        let form = |_| FrameError::Form;
        let signed: Signed<'b> = minicbor::decode(bytes).map_err(form)?;
        if !is_signed([SIGNED_AS, signed.body], &signed.signature) {
            return Err(FrameError::Form);
        }
        let day: Self = minicbor::decode(signed.body).map_err(form)?;
        day.check().map(|()| day)
    }

    fn check(&self) -> Result<(), FrameError> {
        let count = self.values.len() / 8;
        let stated: u32 = self.present.iter().map(|byte| byte.count_ones()).sum();
        let agrees = self.present.is_empty() || stated as usize == count && self.present.len() <= READINGS_MAX;
        let is_good = agrees && (1..=READINGS_MAX).contains(&count) && self.values.len().is_multiple_of(8);
        if is_good && self.field().is_some() { Ok(()) } else { Err(FrameError::Readings) }
    }
}

fn written<'o, T: Encode<()>>(value: &T, out: &'o mut [u8]) -> Option<&'o [u8]> {
    let room = out.len();
    let mut rest = &mut *out;
    minicbor::encode(value, &mut rest).ok()?;
    let left = rest.len();
    Some(&out[..room - left])
}
