//! The databases of one machine, in one directory: the durable log, packed readings, relational tables, audit.
//!
//! A meter's frame is acknowledged after [`Store::ingest`] returned: by then it is in the durable log (`log.db`, SQLite in WAL
//! mode with full sync). Recent days live in memory and are sealed in the background into packed blocks, one per meter and day,
//! in one file per month (`blocks-YYYY-MM.db`); queries see both. After a crash the memory is rebuilt from the log. Everything
//! relational (topology, people, cases, controls, settings, audit) is in `gridtally.db`.
//!
//! It is not: a message broker, a place for decisions (the cores decide), or a clock: every time is an argument.

mod attachment;
mod audit;
mod balance;
mod baseline;
mod basis;
pub mod bill;
mod block;
mod case;
mod change;
mod control;
mod csv_fields;
mod directory;
mod error;
mod event;
mod faults;
mod finding;
mod hot;
mod import;
mod ingest;
mod intake;
mod late;
mod limits;
mod log;
mod master;
mod network;
mod pending;
mod people;
mod permission;
mod pipeline;
mod programs;
mod query;
mod reading;
mod rebuild;
mod seal;
mod sessions;
mod setting;
mod supply;
mod text_key;
mod topology;
mod window;
mod write;
mod writer;

pub use attachment::{ATTACHMENT_BYTES_MAX, AttachedFile, Attachment, NewAttachment};
pub use audit::AuditRow;
pub use baseline::{Baseline, SuspectReadings};
pub use basis::{BasisInstant, CaseBasis, NewBasis};
pub use case::{CaseChange, CaseFilter, CaseStep};
pub use change::Change;
pub use control::{
    ControlChange, ControlFilter, ControlRequest, ControlStep, ControlTarget, NewControl, Sending, StoredControl,
};
pub use csv_fields::csv_text;
pub use directory::{OpenOptions, Store};
pub use error::StoreError;
pub use event::{EventFilter, FoldedEvent, StoredEvent, StoredReply};
pub use faults::FaultCounts;
pub use finding::{FindingDecision, FindingFilter, FindingState, StoredFinding};
pub use late::LateDay;
pub use master::{Enrolment, MeterRow};
pub use metering::supply::SupplyPolicy;
pub use network::NetworkVersion;
pub use pending::{Guarded, GuardedChange, PendingChange};
pub use people::{FirstOperator, NewUser, Role, User};
pub use permission::MeterPeriod;
pub use pipeline::{AuditNote, Committed, PipelineState, SlotCommit};
pub use programs::{NewToken, Token};
pub use reading::{
    Accepted, Counts, Incoming, Latest, NewestRegister, Quarantined, RegisterSource, StoredQuality, StoredRecord, flow,
};
pub use sessions::OneTime;
pub use topology::{ImportReport, RejectedRow};
pub use writer::TransactionCounts;
