//! The meter itself: registers, load profile, event log, store-and-forward, relay, command verification.
