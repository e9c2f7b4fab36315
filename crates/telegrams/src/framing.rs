//! Where a telegram begins and ends in a stream of bytes: one file a framing, each a pure function over what has arrived.
//!
//! A stream starts anywhere, loses bytes and joins halves. A [`Framing`] looks at the front of what has arrived and says: more is
//! needed, so many bytes are no telegram, or here is one. It decides from the bytes alone, never from how they were cut into
//! reads, so a capture gives the same frames byte by byte and whole.

pub mod hdlc;
pub mod mbus;
pub mod p1;
pub mod sml;
pub mod wrapper;

use alloc::vec::Vec;

use crate::Fault;

/// What stands at the front of the bytes that have arrived.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// Perhaps a telegram, whose end has not arrived.
    NeedMore,
    /// So many bytes (at least one) belong to no telegram.
    Skip(usize),
    /// So many bytes (at least one) began a telegram that is none.
    Fault(usize, Fault),
    /// A telegram of so many bytes (at least one).
    Frame(usize),
}

/// One way to tell telegrams apart.
pub trait Framing {
    /// The longest telegram in bytes, and so the most that is ever kept.
    const LIMIT: usize;

    /// Judges the front of `bytes` (never empty). After the end of the stream (`ended`) nothing more comes.
    fn step(&self, bytes: &[u8], ended: bool) -> Step;
}

/// Where telegrams and faults go.
pub type Sink<'s> = dyn FnMut(Result<&[u8], Fault>) + 's;

/// Hands every whole telegram at the front of `bytes` to `sink` and returns how many bytes are done with.
pub fn split<F: Framing>(framing: &F, bytes: &[u8], ended: bool, sink: &mut Sink<'_>) -> usize {
    let mut done = 0;
    while let Some(rest) = bytes.get(done..).filter(|rest| !rest.is_empty()) {
        let window = &rest[..rest.len().min(F::LIMIT)];
        let full = window.len() == F::LIMIT;
        match framing.step(window, ended || full) {
            Step::NeedMore if ended || full => {
                sink(Err(Fault::TooLong("the telegram")));
                done += 1;
            }
            Step::NeedMore => break,
            Step::Skip(count) => done += count.max(1),
            Step::Fault(count, fault) => {
                sink(Err(fault));
                done += count.max(1);
            }
            Step::Frame(count) => {
                sink(Ok(&window[..count.min(window.len())]));
                done += count.max(1);
            }
        }
    }
    done.min(bytes.len())
}

/// A stream that arrives in pieces of any size. Keeps at most twice the framing's limit.
pub struct Splitter<F> {
    framing: F,
    kept: Vec<u8>,
}

impl<F: Framing> Splitter<F> {
    /// At the beginning of a stream.
    pub fn new(framing: F) -> Self {
        Self { framing, kept: Vec::new() }
    }

    /// More bytes: every telegram that is whole now goes to `sink`.
    pub fn push(&mut self, bytes: &[u8], sink: &mut Sink<'_>) {
        if self.kept.is_empty() {
            // What comes in whole telegrams is copied nowhere.
            let done = split(&self.framing, bytes, false, sink);
            self.kept.extend_from_slice(&bytes[done..]);
            return;
        }
        for piece in bytes.chunks(F::LIMIT) {
            self.kept.extend_from_slice(piece);
            let done = split(&self.framing, &self.kept, false, sink);
            self.kept.drain(..done);
        }
    }

    /// The stream has ended: what is left is judged as it is.
    pub fn end(&mut self, sink: &mut Sink<'_>) {
        split(&self.framing, &self.kept, true, sink);
        self.kept.clear();
    }

    /// Bytes kept for a telegram that is not whole.
    pub fn kept(&self) -> usize {
        self.kept.len()
    }
}

/// Position of the next byte that may begin a telegram, from the second byte on; the length when there is none.
fn next_start(bytes: &[u8], is_start: impl Fn(u8) -> bool) -> usize {
    bytes.iter().skip(1).position(|byte| is_start(*byte)).map_or(bytes.len(), |at| at + 1)
}
