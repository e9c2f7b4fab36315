//! DLMS/COSEM (IEC 62056-5-3, 6-1, 6-2): what meters push, and the client and server that read and switch them.

pub mod acse;
pub mod apdu;
pub mod axdr;
pub mod client;
pub mod disconnect;
pub mod event_log;
pub mod hdlc_link;
#[cfg(feature = "host")]
pub mod listen;
pub mod objects;
pub mod profile;
pub mod push;
pub mod push_link;
pub mod reading_out;
pub mod security;
pub mod server;
pub mod short_names;
pub mod time;
pub mod units;

#[cfg(test)]
mod tests;
