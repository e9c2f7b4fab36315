//! What the pipeline decides about one slot, written in one transaction: a crash between two slots loses and doubles nothing.

use std::collections::BTreeMap;

use metering::Timestamp;

/// Where the pipeline stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PipelineState {
    /// Everything up to here has been processed.
    pub processed_through: Option<Timestamp>,
    /// Documents of the pipeline, e.g. the state of its monitors.
    pub blobs: BTreeMap<String, Vec<u8>>,
}
