//! Masked profile records: what leaves the meter when its operator is not to see it.
//!
//! Instead of its registers a record then carries the energy of its interval plus a mask per custodian (`privacy::mask`), modulo 2^64;
//! only sums over many meters or many intervals can be read. The number of the masks, the clipped energy and the voltage lie in
//! the record's further channels. Everything else that tells of a home's use is left out of every frame: registers, power,
//! currents, harmonics; flags, relay and events stay. The display shows all of it, to those who stand before it.
//!
//! The counter lies in the meter's memory, which is saved before anything is sent: a mask is used once, whatever happens to power
//! or clock.

use alloc::vec::Vec;

use metering::{
    Body, ProfileRecord, WattHours,
    frame::Now,
    reading::{Channel, ChannelValue, Masked},
};
use minicbor::{Decode, Encode};
use privacy::mask::{Field, MaskCounter, MaskKey};

use crate::register::Registers;

/// How a meter masks; made at its installation. The keys are those of the first epoch: once the meter has kept them in its memory, the
/// installer's copy has no use and is to be erased.
#[derive(Clone, Debug)]
pub struct Masking {
    /// Epoch of the keys.
    pub epoch: u32,
    /// One key per custodian.
    pub keys: Vec<MaskKey>,
    /// Allowance of the clipped energy a day, Wh.
    pub clip_day_wh: u64,
    /// Allowance of the clipped energy an interval, Wh.
    pub clip_slot_wh: u64,
    /// Masks of one epoch; then the keys are ratcheted on and the old ones are gone. 0: never.
    pub epoch_masks: u64,
}

/// Masks of an epoch by default: a quarter of quarter-hours. A custodian knows sixty-four epochs in advance.
pub const EPOCH_MASKS: u64 = 8_784;

/// What masking has to remember through a power failure.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct MaskMemory {
    #[n(0)]
    counter: MaskCounter,
    /// Registers at the end of the last masked record.
    #[n(1)]
    import_wh: WattHours,
    #[n(2)]
    export_wh: WattHours,
    /// UTC day of the allowance, and what of it is used.
    #[n(3)]
    day: i64,
    #[n(4)]
    clipped_wh: u64,
    /// Whether the first masked interval has begun.
    #[n(5)]
    has_begun: bool,
    /// Keys of the epoch, one per custodian; older ones cannot be computed from them. Empty before the first masked record.
    #[n(6)]
    #[cbor(default)]
    keys: Vec<MaskKey>,
    /// Epoch of the keys, and masks of it that were used.
    #[n(7)]
    #[cbor(default)]
    epoch: u32,
    #[n(8)]
    #[cbor(default)]
    used: u64,
}

impl MaskMemory {
    /// The first masked interval begins where the registers stand now.
    pub(crate) fn begin(&mut self, registers: &Registers) {
        if !self.has_begun {
            (self.import_wh, self.export_wh) = (registers.import_wh(), registers.export_wh());
            self.has_begun = true;
        }
    }

    /// The number of the next mask.
    pub fn next_counter(&self) -> u64 {
        self.counter.next()
    }
}

impl Masking {
    /// Masks a record in place. The counter is used up even when there is no mask for it, and then the record carries nothing at all:
    /// a reading in clear is never the way out.
    pub fn mask(&self, memory: &mut MaskMemory, record: &mut ProfileRecord, interval_seconds: i64) {
        let grown = |now: WattHours, before: WattHours| now.0.saturating_sub(before.0);
        let import = grown(record.import_wh, memory.import_wh);
        let export = grown(record.export_wh, memory.export_wh);
        let clipped = self.clip(memory, record.end.day(), import);
        (memory.import_wh, memory.export_wh) = (record.import_wh, record.export_wh);
        let interval = record.end.0.div_euclid(interval_seconds.max(1));
        let counter = memory.counter.take(u64::try_from(interval).unwrap_or(0));
        let voltage = record.voltage_mv.map_or(0, |v| u64::from(v.0));
        self.keep_keys(memory);
        let fields =
            [(Field::Import, import), (Field::Export, export), (Field::Clipped, clipped), (Field::Voltage, voltage)];
        let masked = fields.map(|(field, x)| masked(&memory.keys, field, counter, x));
        *record = ProfileRecord {
            end: record.end,
            flags: record.flags,
            import_wh: WattHours(0),
            export_wh: WattHours(0),
            voltage_mv: None,
            current_ma: None,
            extra: Vec::new(),
            masked: None,
        };
        let [Some(import), Some(export), Some(clipped), Some(voltage)] = masked else { return };
        record.masked = Some(Masked { epoch: memory.epoch, import, export });
        let channel = |channel, value: u64| ChannelValue { channel, value: value.cast_signed() };
        record.extra = alloc::vec![
            channel(Channel::MASK_COUNTER, counter),
            channel(Channel::MASKED_CLIPPED, clipped),
            channel(Channel::MASKED_VOLTAGE, voltage),
        ];
    }

    /// What of an interval's energy the allowances let through.
    fn clip(&self, memory: &mut MaskMemory, day: i64, import: u64) -> u64 {
        // a clock that went back does not give a second allowance
        if day > memory.day {
            (memory.day, memory.clipped_wh) = (day, 0);
        }
        let left = self.clip_day_wh.saturating_sub(memory.clipped_wh);
        let clipped = import.min(self.clip_slot_wh).min(left);
        memory.clipped_wh += clipped;
        clipped
    }

    /// The keys for the next mask: those of the installation at first, the next epoch's once this one's masks are used up.
    fn keep_keys(&self, memory: &mut MaskMemory) {
        if memory.keys.is_empty() {
            (memory.keys, memory.epoch, memory.used) = (self.keys.clone(), self.epoch, 0);
        }
        if self.epoch_masks > 0 && memory.used >= self.epoch_masks {
            memory.keys.iter_mut().for_each(|key| *key = key.next());
            memory.epoch = memory.epoch.saturating_add(1);
            memory.used = 0;
        }
        memory.used += 1;
    }
}

fn masked(keys: &[MaskKey], field: Field, counter: u64, x: u64) -> Option<u64> {
    let masks = keys.iter().map(|key| key.mask(field, 0, counter));
    masks.into_iter().try_fold(x, |sum, mask| Some(sum.wrapping_add(mask?))).filter(|_| !keys.is_empty())
}

/// Takes out of a frame what tells of the home's use: registers, power, currents, voltages of single moments. Time, relay, frequency,
/// the kinds of events and the quality of the voltage stay. Every frame passes here, so a new kind is decided here too.
pub(crate) fn hide(body: &mut Body) {
    match body {
        Body::Hello(hello) => (hello.import_wh, hello.export_wh) = (WattHours(0), WattHours(0)),
        // its records were masked when their intervals closed
        Body::Profile(_) => {}
        Body::Now(now) | Body::Snapshot(now) => hide_now(now),
        Body::Event(event) => {
            (event.voltage_mv, event.current_ma, event.power_w) = (None, None, None);
            (event.power_factor, event.import_wh) = (None, None);
        }
        Body::Reply(reply) => hide_now(&mut reply.now),
        Body::Quality(quality) => {
            quality.current_harmonics_ma = Vec::new();
            quality.cycle = None;
        }
    }
}

fn hide_now(now: &mut Now) {
    let Now { at, relay, frequency_mhz, control, .. } = *now;
    *now = Now { at, relay, frequency_mhz, control, ..Now::default() };
}
