//! A value that may be left out may also be null, in both encodings: most libraries write an absent value so.

use minicbor::{Decode, Decoder};
use serde::{Deserialize, Deserializer};

/// JSON: `null` is the default.
pub(crate) fn in_json<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(from: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

/// CBOR: null is the default.
pub(crate) fn in_cbor<'b, C, T: Decode<'b, C> + Default>(
    from: &mut Decoder<'b>,
    context: &mut C,
) -> Result<T, minicbor::decode::Error> {
    Ok(Option::decode(from, context)?.unwrap_or_default())
}
