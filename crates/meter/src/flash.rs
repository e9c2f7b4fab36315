//! Store and forward in flash: what a meter must not lose, through power cuts at every write.
//!
//! Three regions of one NOR flash, each kept by `sequential-storage` (wear levelling, CRC, repair): a map with the core record
//! and the boot number, a queue of frames, a queue of logged events. A save first appends new frames and events under the
//! number of the save, then writes the core record with that number: this last write is the commit. After a start, frames and
//! events of a save that was never committed are removed, so that nothing that is half written is ever sent, and nothing is
//! written twice. Acknowledged frames are struck out afterwards; a cut there means a frame is sent again, with the same boot and
//! sequence number, which the server takes once.
//!
//! The underlying crate is asynchronous in form; flash drivers of meters block, so its futures are always ready and are polled
//! to their end here. It is not: a file system, or encryption.

use alloc::{collections::BTreeSet, vec, vec::Vec};
use core::{
    fmt,
    future::Future,
    ops::Range,
    pin::pin,
    task::{Context, Poll, Waker},
};

use embedded_storage::nor_flash::{ErrorType, MultiwriteNorFlash, NorFlash, ReadNorFlash};
use metering::topic::UpKind;
use minicbor::{Decode, Encode};
use sequential_storage::{
    Error,
    cache::Cache,
    map::{MapConfig, MapStorage},
    queue::{QueueConfig, QueueStorage},
};

use crate::{
    event_log::LoggedEvent,
    memory::{Core, Memory},
    meter::Meter,
    ring::FrameId,
    settings::{MeterConfig, Settings},
};

const KEY_CORE: u8 = 1;
const KEY_BOOT: u8 = 2;
/// Items read from a queue in one go; a bound against a flash that never ends.
const ITEMS_MAX: usize = 1 << 20;

/// Where the regions lie: byte addresses, multiples of the flash's erase size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Core record and boot number; at least two erase blocks, four wear better.
    pub core: Range<u32>,
    /// Waiting frames.
    pub frames: Range<u32>,
    /// The event log.
    pub events: Range<u32>,
}

impl Layout {
    /// Divides a flash of `blocks` erase blocks of `block_bytes` that begins at `start`: a quarter (at least four) for the core,
    /// an eighth (at least two) for events, the rest for frames. `None` with fewer than eight blocks.
    pub fn divide(start: u32, blocks: u32, block_bytes: u32) -> Option<Self> {
        let core = (blocks / 4).clamp(4, 16);
        let events = (blocks / 8).clamp(2, 16);
        if blocks < core + events + 2 {
            return None;
        }
        let at = |block: u32| start + block * block_bytes;
        Some(Self { core: at(0)..at(core), events: at(core)..at(core + events), frames: at(core + events)..at(blocks) })
    }
}

/// Why flash could not be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlashError<E> {
    /// The flash itself failed.
    Device(E),
    /// A region is full although the oldest may be overwritten, or an item does not fit an erase block: the layout is too small.
    TooSmall,
    /// The content is damaged beyond repair: erase the regions (registers are lost with them).
    Damaged,
    /// The layout does not lie on erase blocks, or has too few of them.
    Layout,
}

impl<E: fmt::Debug> fmt::Display for FlashError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Device(error) => write!(f, "the flash failed: {error:?}"),
            Self::TooSmall => f.write_str("the flash regions are too small: give frames and core more erase blocks"),
            Self::Damaged => f.write_str("the flash content is damaged beyond repair: it must be erased"),
            Self::Layout => {
                f.write_str("flash regions must begin and end on erase blocks and hold at least two of them")
            }
        }
    }
}

impl<E: fmt::Debug> core::error::Error for FlashError<E> {}

impl<E> From<Error<E>> for FlashError<E> {
    fn from(error: Error<E>) -> Self {
        match error {
            Error::Storage { value, .. } => Self::Device(value),
            Error::FullStorage | Error::ItemTooBig | Error::BufferTooSmall(_) | Error::BufferTooBig => Self::TooSmall,
            _ => Self::Damaged,
        }
    }
}

/// What a save did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Saved {
    /// Frames written.
    pub frames: u32,
    /// Frames struck out because they were acknowledged or dropped.
    pub struck_out: u32,
    /// The frame region was full and its oldest block was overwritten: its frames exist in RAM only, until the next start.
    pub overwritten: bool,
}

/// A frame in flash.
#[derive(Encode, Decode)]
struct FrameItem {
    #[n(0)]
    save: u64,
    #[n(1)]
    id: u64,
    #[n(2)]
    kind: u8,
    #[n(3)]
    #[cbor(with = "minicbor::bytes")]
    payload: Vec<u8>,
}

/// An event in flash.
#[derive(Encode, Decode)]
struct EventItem {
    #[n(0)]
    save: u64,
    #[n(1)]
    event: LoggedEvent,
}

/// The three regions and what is known of them.
#[derive(Debug)]
pub struct FlashStore<F> {
    flash: F,
    layout: Layout,
    /// Number of the last committed save.
    save: u64,
    /// Frames that lie in flash.
    frames: BTreeSet<u64>,
    /// Frames below are written.
    frames_written: u64,
    /// Events below are written.
    events_written: u64,
    buffer: Vec<u8>,
}

impl<F: MultiwriteNorFlash> FlashStore<F>
where
    F::Error: fmt::Debug,
{
    /// Takes a flash; nothing is read yet.
    pub fn new(flash: F, layout: Layout) -> Result<Self, FlashError<F::Error>> {
        let good = [&layout.core, &layout.frames, &layout.events].into_iter().all(|region| {
            let block = u32::try_from(F::ERASE_SIZE).unwrap_or(u32::MAX);
            region.start % block == 0 && region.end % block == 0 && region.end.saturating_sub(region.start) >= 2 * block
        });
        if !good {
            return Err(FlashError::Layout);
        }
        let buffer = vec![0; F::ERASE_SIZE];
        Ok(Self { flash, layout, save: 0, frames: BTreeSet::new(), frames_written: 0, events_written: 0, buffer })
    }

    /// The flash itself, for a shell that keeps something else beside the regions.
    pub fn flash(&mut self) -> &mut F {
        &mut self.flash
    }

    /// Gives the flash back.
    pub fn into_flash(self) -> F {
        self.flash
    }

    /// At a start: the memory as of the last committed save (a new meter's, when there is none), and the number of this start,
    /// which is new. What was written and not committed is removed.
    pub fn load(&mut self, config: &MeterConfig, settings: Settings) -> Result<(Memory, u64), FlashError<F::Error>> {
        let core = self.read_core()?;
        let committed = core.as_ref().map_or(0, |core| core.save);
        let frames: Vec<FrameItem> =
            self.read_queue(self.layout.frames.clone(), |item: &FrameItem| item.save <= committed)?;
        let events: Vec<EventItem> =
            self.read_queue(self.layout.events.clone(), |item: &EventItem| item.save <= committed)?;
        self.save = committed;
        self.frames = frames.iter().map(|frame| frame.id).collect();
        let frames = frames
            .into_iter()
            .filter_map(|frame| Some((FrameId(frame.id), UpKind::from_code(frame.kind)?, frame.payload)))
            .collect();
        let events = events.into_iter().map(|item| item.event).collect();
        let memory = match core {
            Some(core) => core.into_memory(config, frames, events),
            None => Memory::new(config, settings),
        };
        self.frames_written = memory.ring.frames_made();
        self.events_written = memory.log.total();
        let boot = self.next_boot()?;
        Ok((memory, boot))
    }

    /// Brings a meter's memory into flash. When this returns, everything the meter has told or will send is safe; when power
    /// fails before, the meter is as it was at the save before.
    pub fn save(&mut self, meter: &mut Meter) -> Result<Saved, FlashError<F::Error>> {
        let memory = meter.memory();
        let save = self.save + 1;
        let mut saved = Saved::default();
        for frame in memory.ring.since(self.frames_written) {
            let item = FrameItem { save, id: frame.id.0, kind: frame.kind.code(), payload: Vec::from(frame.payload) };
            saved.overwritten |= self.push(self.layout.frames.clone(), &item)?;
            self.frames.insert(frame.id.0);
            self.frames_written = frame.id.0 + 1;
            saved.frames += 1;
        }
        for event in memory.log.since(self.events_written) {
            self.push(self.layout.events.clone(), &EventItem { save, event })?;
            self.events_written = event.serial + 1;
        }
        let bytes = metering::cbor(memory.core(save));
        self.write(KEY_CORE, &bytes)?;
        self.save = save;
        (self.frames_written, self.events_written) = (memory.ring.frames_made(), memory.log.total());
        saved.struck_out = self.strike_out(|id| memory.ring.holds(FrameId(id)))?;
        Ok(saved)
    }

    /// Strikes out what was acknowledged since the last save, without saving anything else.
    pub fn forget_acknowledged(&mut self, meter: &Meter) -> Result<u32, FlashError<F::Error>> {
        self.strike_out(|id| meter.ring().holds(FrameId(id)))
    }

    fn strike_out(&mut self, holds: impl Fn(u64) -> bool) -> Result<u32, FlashError<F::Error>> {
        let gone: BTreeSet<u64> = self.frames.iter().copied().filter(|id| !holds(*id)).collect();
        let Some(last) = gone.last().copied() else { return Ok(0) };
        let mut struck_out = 0;
        let mut adapter = Blocking(&mut self.flash);
        let config = queue_config(self.layout.frames.clone())?;
        let mut queue = QueueStorage::new(&mut adapter, config, Cache::new_uncached());
        let mut items = ready(queue.iter())?;
        for _ in 0..ITEMS_MAX {
            let Some(entry) = ready(items.next(&mut self.buffer))? else { break };
            let Ok(item) = minicbor::decode::<FrameItem>(&entry) else { continue };
            if gone.contains(&item.id) {
                ready(entry.pop())?;
                struck_out += 1;
            }
            if item.id >= last {
                break;
            }
        }
        self.frames.retain(|id| !gone.contains(id));
        Ok(struck_out)
    }

    fn next_boot(&mut self) -> Result<u64, FlashError<F::Error>> {
        let last = self.read(KEY_BOOT)?.and_then(|bytes| <[u8; 8]>::try_from(bytes).ok()).map_or(0, u64::from_le_bytes);
        let boot = last + 1;
        self.write(KEY_BOOT, &boot.to_le_bytes())?;
        Ok(boot)
    }

    fn read_core(&mut self) -> Result<Option<Core>, FlashError<F::Error>> {
        let Some(bytes) = self.read(KEY_CORE)? else { return Ok(None) };
        minicbor::decode(bytes).map(Some).map_err(|_| FlashError::Damaged)
    }

    fn read(&mut self, key: u8) -> Result<Option<&[u8]>, FlashError<F::Error>> {
        let mut adapter = Blocking(&mut self.flash);
        let config = map_config(self.layout.core.clone())?;
        let mut map = MapStorage::<u8, _, _>::new(&mut adapter, config, Cache::new_uncached());
        Ok(ready(map.fetch_item::<&[u8]>(&mut self.buffer, &key))?)
    }

    fn write(&mut self, key: u8, bytes: &[u8]) -> Result<(), FlashError<F::Error>> {
        let mut adapter = Blocking(&mut self.flash);
        let config = map_config(self.layout.core.clone())?;
        let mut map = MapStorage::<u8, _, _>::new(&mut adapter, config, Cache::new_uncached());
        Ok(ready(map.store_item(&mut self.buffer, &key, &bytes))?)
    }

    /// Appends; when the region is full its oldest block goes. Tells whether that was so.
    fn push(&mut self, region: Range<u32>, item: &impl Encode<()>) -> Result<bool, FlashError<F::Error>> {
        let mut bytes = metering::cbor(item);
        // whole words: some flash writes nothing less
        bytes.resize(bytes.len().next_multiple_of(F::WRITE_SIZE.max(1)), 0);
        let mut adapter = Blocking(&mut self.flash);
        let mut queue = QueueStorage::new(&mut adapter, queue_config(region)?, Cache::new_uncached());
        match ready(queue.push(&bytes, false)) {
            Ok(()) => Ok(false),
            Err(Error::FullStorage) => {
                ready(queue.push(&bytes, true))?;
                Ok(true)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Every item that counts; the others are removed.
    fn read_queue<T: for<'b> Decode<'b, ()>>(
        &mut self,
        region: Range<u32>,
        counts: impl Fn(&T) -> bool,
    ) -> Result<Vec<T>, FlashError<F::Error>> {
        let mut adapter = Blocking(&mut self.flash);
        let mut queue = QueueStorage::new(&mut adapter, queue_config(region)?, Cache::new_uncached());
        let mut items = ready(queue.iter())?;
        let mut kept = Vec::new();
        for _ in 0..ITEMS_MAX {
            let Some(entry) = ready(items.next(&mut self.buffer))? else { break };
            match minicbor::decode::<T>(&entry) {
                Ok(item) if counts(&item) => kept.push(item),
                _ => {
                    ready(entry.pop())?;
                }
            }
        }
        Ok(kept)
    }
}

fn queue_config<S: embedded_storage_async::nor_flash::NorFlash, E>(
    region: Range<u32>,
) -> Result<QueueConfig<S>, FlashError<E>> {
    QueueConfig::try_new(region).map_err(|_| FlashError::Layout)
}

fn map_config<S: embedded_storage_async::nor_flash::NorFlash, E>(
    region: Range<u32>,
) -> Result<MapConfig<S>, FlashError<E>> {
    MapConfig::try_new(region).map_err(|_| FlashError::Layout)
}

/// Polls a future of a blocking driver to its end: it is never pending.
fn ready<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut context) {
            return value;
        }
    }
}

/// A blocking flash in the form the storage crate asks for.
struct Blocking<'a, F>(&'a mut F);

impl<F: ErrorType> ErrorType for Blocking<'_, F> {
    type Error = F::Error;
}

impl<F: ReadNorFlash> embedded_storage_async::nor_flash::ReadNorFlash for Blocking<'_, F> {
    const READ_SIZE: usize = F::READ_SIZE;

    async fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), F::Error> {
        self.0.read(offset, bytes)
    }

    fn capacity(&self) -> usize {
        self.0.capacity()
    }
}

impl<F: NorFlash> embedded_storage_async::nor_flash::NorFlash for Blocking<'_, F> {
    const WRITE_SIZE: usize = F::WRITE_SIZE;
    const ERASE_SIZE: usize = F::ERASE_SIZE;

    async fn erase(&mut self, from: u32, to: u32) -> Result<(), F::Error> {
        self.0.erase(from, to)
    }

    async fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), F::Error> {
        self.0.write(offset, bytes)
    }
}

impl<F: MultiwriteNorFlash> embedded_storage_async::nor_flash::MultiwriteNorFlash for Blocking<'_, F> {}
