//! The inner loop of the power flow, one scenario per SIMD lane, for single-phase and three-phase networks alike.
//!
//! With Y the node admittances and I(V) the load currents, every iteration solves
//! `J V' = I(V) - M1 V - M2 conj(V)`, `J = Y - M1 - M2 conj(.)`, where M1 and M2 are the derivatives of the load currents
//! at a base state. With M = 0 this is the implicit Z-bus method, with M taken at the current state it is Newton's method;
//! with M frozen at a base state the factor is shared by all scenarios and the error shrinks with the distance from it.
//! The fixed point is the exact solution whatever the base state.

use crate::sparse::{Block, Factor, Symbolic};
use num_complex::Complex64 as C64;
use pulp::{Simd, WithSimd};
use std::sync::{Mutex, PoisonError};

/// A complex number as a real block.
pub(crate) fn linear_block(y: C64) -> Block<2> {
    [[y.re, -y.im], [y.im, y.re]]
}

/// The map `v -> m conj(v)` as a real block.
pub(crate) fn conjugate_block(m: C64) -> Block<2> {
    [[m.re, m.im], [m.im, -m.re]]
}

/// The loads of a batch: what they draw, given voltages.
pub(crate) trait Loads: Sync {
    /// Number of registers of scenario data that [`Loads::accumulate`] reads.
    fn width(&self) -> usize;
    /// Fills `data` (register-major, `lanes` values each) for scenarios `first..first + lanes`, repeating the last one.
    fn gather(&self, first: usize, lanes: usize, data: &mut [f64]);
    /// Adds `I(V) - M1 V - M2 conj(V)` to `rhs`, by position.
    fn accumulate<S: Simd>(&self, simd: S, data: &[S::f64s], v: &[[S::f64s; 2]], rhs: &mut [[S::f64s; 2]]);
    /// Slack voltage of a scenario relative to the base state's.
    fn source(&self, scenario: usize) -> f64;
    fn scenario_count(&self) -> usize;
}

/// The frozen linear part.
#[derive(Clone)]
pub(crate) struct Kernel {
    pub(crate) symbolic: Symbolic,
    pub(crate) factor: Factor<2>,
    /// the sources after forward substitution, by position
    pub(crate) source: Vec<[f64; 2]>,
    /// start of the iteration, by position
    pub(crate) base: Vec<[f64; 2]>,
    /// position of each output
    pub(crate) outputs: Vec<usize>,
}

/// When to stop.
#[derive(Debug, Clone, Copy)]
pub struct Tolerance {
    /// Largest change of a real or imaginary part of a voltage in the last iteration, pu.
    pub step_pu: f64,
    pub max_iterations: usize,
}

impl Default for Tolerance {
    fn default() -> Self {
        Self { step_pu: 1e-8, max_iterations: 30 }
    }
}

/// Output of a batch: `scenario_count` rows of `outputs.len()` voltages in rectangular form.
pub(crate) struct Rows<'a> {
    pub(crate) re: &'a mut [f64],
    pub(crate) im: &'a mut [f64],
    pub(crate) iterations: &'a mut [u32],
}

/// One thread's share: scenarios `first..first + rows` into `rows`. An iteration count of 0 marks non-convergence.
pub(crate) struct Task<'a, L> {
    pub(crate) kernel: &'a Kernel,
    pub(crate) loads: &'a L,
    pub(crate) first: usize,
    pub(crate) rows: Rows<'a>,
    pub(crate) tolerance: Tolerance,
    /// divides the step before it is compared, by position; 1 in per unit
    pub(crate) scale: Option<&'a [f64]>,
}

struct Scratch<S: Simd> {
    v: Vec<[S::f64s; 2]>,
    rhs: Vec<[S::f64s; 2]>,
    data: Vec<S::f64s>,
}

impl<L: Loads> WithSimd for Task<'_, L> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let n = self.kernel.symbolic.len();
        let zero = simd.splat_f64s(0.0);
        let mut scratch =
            Scratch::<S> { v: vec![[zero; 2]; n], rhs: vec![[zero; 2]; n], data: vec![zero; self.loads.width()] };
        let count = self.rows.iterations.len();
        let mut done = 0;
        while done < count {
            let lanes = S::F64_LANES.min(count - done);
            self.group(simd, &mut scratch, done, lanes);
            done += lanes;
        }
    }
}

impl<L: Loads> Task<'_, L> {
    #[inline(always)]
    fn group<S: Simd>(&mut self, simd: S, scratch: &mut Scratch<S>, row: usize, lanes: usize) {
        let kernel = self.kernel;
        let scenario = self.first + row;
        self.loads.gather(scenario, S::F64_LANES, pulp::bytemuck::cast_slice_mut(&mut scratch.data));
        let mut source = simd.splat_f64s(1.0);
        for (lane, s) in
            pulp::bytemuck::cast_slice_mut::<S::f64s, f64>(std::slice::from_mut(&mut source)).iter_mut().enumerate()
        {
            *s = self.loads.source((scenario + lane).min(self.loads.scenario_count() - 1));
        }
        for (v, base) in scratch.v.iter_mut().zip(&kernel.base) {
            for k in 0..2 {
                v[k] = simd.mul_f64s(source, simd.splat_f64s(base[k]));
            }
        }
        let mut iterations = 0;
        let mut step = simd.splat_f64s(f64::INFINITY);
        while iterations < self.tolerance.max_iterations {
            iterations += 1;
            self.loads.accumulate(simd, &scratch.data, &scratch.v, &mut scratch.rhs);
            step = self.sweep(simd, scratch, source);
            let worst = simd.reduce_max_f64s(step);
            if worst < self.tolerance.step_pu || worst.is_nan() {
                break;
            }
        }
        self.expand_passive(simd, scratch, source);
        self.write::<S>(scratch, row, lanes, iterations, step);
    }

    /// One forward and backward pass; `rhs` is left zero, `v` becomes the new state. Returns the largest change by lane.
    #[inline(always)]
    fn sweep<S: Simd>(&self, simd: S, scratch: &mut Scratch<S>, source: S::f64s) -> S::f64s {
        let Kernel { symbolic, factor, .. } = self.kernel;
        let zero = simd.splat_f64s(0.0);
        let Scratch { v, rhs, .. } = scratch;
        for i in symbolic.first_active..symbolic.len() {
            let b = rhs[i];
            rhs[i] = factor.forward(simd, symbolic, i, b, rhs);
        }
        let mut step = zero;
        for i in (symbolic.first_active..symbolic.len()).rev() {
            let t = self.with_source(simd, i, rhs[i], source);
            rhs[i] = [zero; 2];
            let new = factor.backward(simd, symbolic, i, t, v);
            let old = v[i];
            v[i] = new;
            let change = [simd.sub_f64s(new[0], old[0]), simd.sub_f64s(new[1], old[1])];
            let mut larger = simd.max_f64s(simd.abs_f64s(change[0]), simd.abs_f64s(change[1]));
            if let Some(scale) = self.scale {
                larger = simd.mul_f64s(larger, simd.splat_f64s(scale[i]));
            }
            // a NaN must not be lost: max may drop it, the sum does not
            step = simd.max_f64s(step, larger);
            step = simd.mul_add_e_f64s(zero, larger, step);
        }
        step
    }

    #[inline(always)]
    fn with_source<S: Simd>(&self, simd: S, i: usize, t: [S::f64s; 2], source: S::f64s) -> [S::f64s; 2] {
        let own = self.kernel.source[i];
        [
            simd.mul_add_e_f64s(source, simd.splat_f64s(own[0]), t[0]),
            simd.mul_add_e_f64s(source, simd.splat_f64s(own[1]), t[1]),
        ]
    }

    /// Back-substitution of the positions that the iteration skipped.
    #[inline(always)]
    fn expand_passive<S: Simd>(&self, simd: S, scratch: &mut Scratch<S>, source: S::f64s) {
        let Kernel { symbolic, factor, .. } = self.kernel;
        let zero = simd.splat_f64s(0.0);
        for i in (0..symbolic.first_active).rev() {
            let t = self.with_source(simd, i, [zero; 2], source);
            scratch.v[i] = factor.backward(simd, symbolic, i, t, &scratch.v);
        }
    }

    #[inline(always)]
    fn write<S: Simd>(&mut self, scratch: &Scratch<S>, row: usize, lanes: usize, iterations: usize, step: S::f64s) {
        let width = self.kernel.outputs.len();
        let v: &[f64] = pulp::bytemuck::cast_slice(pulp::bytemuck::cast_slice::<[S::f64s; 2], S::f64s>(&scratch.v));
        let step: [S::f64s; 1] = [step];
        let step: &[f64] = pulp::bytemuck::cast_slice(&step);
        // outputs outside, lanes inside: the state is read once, each row is written in one stream
        let (re, im) = (&mut self.rows.re[row * width..], &mut self.rows.im[row * width..]);
        for (k, &p) in self.kernel.outputs.iter().enumerate() {
            let at = 2 * p * S::F64_LANES;
            for lane in 0..lanes {
                re[lane * width + k] = v[at + lane];
                im[lane * width + k] = v[at + S::F64_LANES + lane];
            }
        }
        for lane in 0..lanes {
            let good = step[lane] < self.tolerance.step_pu;
            self.rows.iterations[row + lane] = if good { u32::try_from(iterations).unwrap_or(u32::MAX) } else { 0 };
        }
    }
}

/// Runs all scenarios on `threads` threads into `re`, `im` (by scenario and output) and `iterations`, which are resized.
pub(crate) fn run_batch<L: Loads>(
    kernel: &Kernel,
    loads: &L,
    tolerance: Tolerance,
    scale: Option<&[f64]>,
    threads: usize,
    [re, im]: [&mut Vec<f64>; 2],
    iterations: &mut Vec<u32>,
) {
    let (count, width) = (loads.scenario_count(), kernel.outputs.len());
    re.resize(count * width, 0.0);
    im.resize(count * width, 0.0);
    iterations.resize(count, 0);
    if count == 0 || width == 0 {
        return;
    }
    let piece = piece(count, threads);
    let rows = re.chunks_mut(piece * width).zip(im.chunks_mut(piece * width)).zip(iterations.chunks_mut(piece));
    share_out(rows, threads, |arch, k, ((re, im), iterations)| {
        let rows = Rows { re, im, iterations };
        arch.dispatch(Task { kernel, loads, first: k * piece, rows, tolerance, scale });
    });
}

/// Scenarios handed to a thread at a time: whole SIMD groups; several pieces per thread, so that one that is held up does not
/// hold up the others.
pub(crate) fn piece(count: usize, threads: usize) -> usize {
    let pieces = if threads > 1 { 4 * threads } else { 1 };
    count.div_ceil(pieces).next_multiple_of(8).max(8)
}

/// Works off numbered pieces on `threads` threads, this one included.
pub(crate) fn share_out<P: Send>(
    pieces: impl ExactSizeIterator<Item = P> + Send,
    threads: usize,
    work: impl Fn(pulp::Arch, usize, P) + Sync,
) {
    let helpers = threads.min(pieces.len()).saturating_sub(1);
    let queue = Mutex::new(pieces.enumerate());
    let run = || {
        let arch = pulp::Arch::new();
        loop {
            // a panic elsewhere does not spoil the queue: it holds nothing half done
            let next = queue.lock().unwrap_or_else(PoisonError::into_inner).next();
            let Some((k, piece)) = next else { break };
            work(arch, k, piece);
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..helpers {
            scope.spawn(run);
        }
        run();
    });
}
