//! The project's own chores: tidy, ci, acceptance, peers, screenshots.
fn main() {}
