//! MQTT 3.1.1 and 5, as far as a meter needs it: a pure state machine that is fed with bytes and answers with bytes and events.
//! No socket, no clock and no task live here.

pub(crate) mod codec;
pub(crate) mod session;
mod thingsboard;

#[cfg(test)]
mod session_fuzz;
