//! Unbalanced three-phase networks.
pub(crate) mod check;
