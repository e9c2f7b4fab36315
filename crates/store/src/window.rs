//! Frames seen.
