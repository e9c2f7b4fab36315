//! What is not yet packed.
#[derive(Default)]
pub(crate) struct Memory;
