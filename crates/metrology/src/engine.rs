//! The core: takes samples, cuts them into half cycles and gapless windows, and closes each window into quantities.
//!
//! The sample path is integers only and allocates nothing. [`Core::push`] stops at every half-cycle boundary so that
//! the caller sees the boundary at once; when a window is ready the caller asks for it with [`Core::close_window`],
//! while newer samples may keep arriving (the memory holds more than one window). Not a clock: time is counted in
//! samples.

use crate::config::{Config, ConfigError};
use crate::dips::{DipDetector, PqEvent, Thresholds};
use crate::fft::Spectrum;
use crate::ring::Ring;
use crate::sums::{Sample, Sums};
use crate::sync::Sync;
use crate::tables::TAPS;
use crate::window::{ClosedWindow, WindowReport};

/// What happened at a half-cycle boundary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HalfCycle {
    /// Urms(1/2) squared, squared counts; nothing for the very first half cycle.
    pub urms_sq: Option<u64>,
    /// A disturbance that ended here.
    pub event: Option<PqEvent>,
    /// A window is ready: call [`Core::close_window`] before the next one is.
    pub window_ready: bool,
}

/// Result of [`Core::push`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pushed {
    /// How many of the samples were taken; push the rest again.
    pub consumed: usize,
    /// The boundary that stopped the push, if any.
    pub half_cycle: Option<HalfCycle>,
}

/// Whether the voltage of two half cycles of the same sign, squared, differs by more than a seventh: no load and no tap changer does that, a fault does.
fn is_another_level(before_sq: u64, now_sq: u64) -> bool {
    let (less, more) = (before_sq.min(now_sq), before_sq.max(now_sq));
    more - less > more / 4
}

/// The metrology core with a memory of `RING` samples (a power of two; 2,048 for 8 kS/s, 4,096 for 16 kS/s).
pub struct Core<const RING: usize> {
    config: Config,
    sync: Sync,
    ring: Ring<RING>,
    half: Sums,
    previous_half: Option<Sums>,
    open: Sums,
    halves: u32,
    free_run: bool,
    disturbed: bool,
    /// Samples that are missing in the open window.
    lost: u32,
    dips: DipDetector,
    /// Voltage squared below which crossings are not trusted (10 % of the declared voltage), squared counts.
    alive_sq: u64,
    /// Mean square of the voltage of the last two half cycles, squared counts, the older first. One is compared with the half cycle
    /// of the same sign: even harmonics make the two of a cycle differ.
    levels_sq: [u64; 2],
    /// Mean voltage of the last whole cycle, counts.
    v_mean: i32,
    last: Sample,
    taken: u64,
    /// Where the open window began: sample index modulo 2^32, and Q16 part.
    start: (u32, u32),
    sequence: u32,
    ready: Option<ClosedWindow>,
}

impl<const RING: usize> Core<RING> {
    /// A core at rest.
    pub fn new(config: Config) -> Result<Self, ConfigError> {
        config.validate(RING)?;
        let counts = u128::from(config.u_din_mv) * 1_000_000_000 / u128::from(config.front_end.volt_pv_per_count);
        let reference_sq = (counts * counts) as u64;
        Ok(Self {
            config,
            sync: Sync::new(&config),
            ring: Ring::new(),
            half: Sums::default(),
            previous_half: None,
            open: Sums::default(),
            halves: 0,
            free_run: false,
            disturbed: false,
            lost: 0,
            dips: DipDetector::new(reference_sq, config.sample_rate_mhz, Thresholds::default()),
            alive_sq: reference_sq / 100,
            levels_sq: [0; 2],
            v_mean: 0,
            last: Sample::default(),
            taken: 0,
            start: (0, 0),
            sequence: 0,
            ready: None,
        })
    }

    /// The configuration in force.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Samples taken so far.
    pub fn samples_taken(&self) -> u64 {
        self.taken
    }

    /// Tells that so many samples are missing between the last one taken and the next: the window under way says so.
    pub fn lose(&mut self, samples: u32) {
        self.lost = self.lost.saturating_add(samples);
    }

    /// Takes samples up to the next half-cycle boundary. Readings must lie within 24 bits ([`Sample::clamped`]).
    pub fn push(&mut self, samples: &[Sample]) -> Pushed {
        // Two passes keep each loop within the registers of a small processor: find the boundary, then add up.
        let mut sync = self.sync.clone();
        let position = self.taken as u32;
        let mut boundary = None;
        for (k, sample) in samples.iter().enumerate() {
            self.ring.store(position.wrapping_add(k as u32), sample.v, sample.i);
            if sync.advance(sample.v) {
                boundary = Some(k);
                break;
            }
        }
        self.sync = sync;
        let whole = &samples[..boundary.unwrap_or(samples.len())];
        self.half.add_samples(whole);
        if let Some(&last) = whole.last() {
            self.last = last;
        }
        self.taken += whole.len() as u64;
        let Some(at) = boundary else {
            return Pushed { consumed: samples.len(), half_cycle: None };
        };
        self.taken += 1;
        Pushed { consumed: at + 1, half_cycle: Some(self.boundary(samples[at])) }
    }

    /// Ends the half cycle between the last sample and `sample`, which begins the next one.
    #[inline(never)]
    fn boundary(&mut self, sample: Sample) -> HalfCycle {
        let at = self.sync.boundary();
        let mut next = Sums::default();
        next.add_samples(&[sample]);
        if at.fraction_q16 < 1 << 15 {
            let part = Sums::part(self.last, (1 << 15) - at.fraction_q16);
            self.half.subtract(&part);
            next.add(&part);
        } else {
            let part = Sums::part(sample, at.fraction_q16 - (1 << 15));
            self.half.add(&part);
            next.subtract(&part);
        }
        self.last = sample;
        let ended = core::mem::replace(&mut self.half, next);
        self.open.add(&ended);
        self.halves += 1;
        self.free_run |= !at.real;

        let level_sq = ended.mean_square(self.v_mean);
        self.sync.set_level(level_sq >= self.alive_sq, is_another_level(self.levels_sq[0], level_sq));
        self.levels_sq = [self.levels_sq[1], level_sq];
        let (mut urms_sq, mut event) = (None, None);
        if let Some(previous) = self.previous_half {
            let mut cycle = previous;
            cycle.add(&ended);
            self.v_mean = cycle.v_mean();
            let square = cycle.mean_square(self.v_mean);
            urms_sq = Some(square);
            event = self.dips.update(square, ended.duration_q16, self.taken);
        }
        self.previous_half = Some(ended);
        self.disturbed |= self.dips.active() || event.is_some();
        let window_ready = self.halves == 2 * self.config.nominal.cycles();
        if window_ready {
            self.end_window(at.fraction_q16);
        }
        HalfCycle { urms_sq, event, window_ready }
    }

    fn end_window(&mut self, fraction_q16: u32) {
        // The boundary lies after the sample before the latest one.
        let end = ((self.taken as u32).wrapping_sub(2), fraction_q16);
        self.ready = Some(ClosedWindow {
            sums: self.open,
            // Shifted back so that the interpolation filter finds its later samples already there.
            start: (self.start.0.wrapping_sub(TAPS as u32 / 2), self.start.1),
            length_q16: self.open.duration_q16,
            sequence: self.sequence,
            end_sample: self.taken,
            free_run: self.free_run,
            disturbed: self.disturbed,
            lost: self.lost,
        });
        self.start = end;
        self.open = Sums::default();
        self.halves = 0;
        self.free_run = false;
        self.disturbed = self.dips.active();
        self.lost = 0;
        self.sequence = self.sequence.wrapping_add(1);
    }

    /// Closes the window announced by [`HalfCycle::window_ready`] into quantities; nothing if none is ready.
    pub fn close_window(&mut self, spectrum: &mut Spectrum) -> Option<WindowReport> {
        let window = self.ready.take()?;
        Some(crate::window::close(&self.config, &self.ring, &window, spectrum))
    }
}
