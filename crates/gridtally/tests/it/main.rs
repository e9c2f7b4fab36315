//! The whole server, started in this process, over real sockets.

mod abort_switch;
mod browser;
mod controls;
mod doors;
mod findings_first;
mod neighbourhood;
mod snapshots;
mod texts;
mod tick_fails;
mod time_lies;
mod writes_fail;
