//! The whole server, started in this process, over real sockets.

mod abort_switch;
mod browser;
mod controls;
mod doors;
mod findings_first;
mod snapshots;
mod texts;
mod tick_fails;
mod time_lies;
mod writes_fail;
