//! Load models of the three-phase power flow: current, derivative, and the SIMD form.
//!
//! The injected current is `-(P φp(m) - j Q φq(m)) V` with `m = |V|²` clamped to (0.95–1.05 of rated)²; clamping φ makes the
//! load the impedance it is at the limit.

use super::{PhaseLoad, PhaseLoadModel, PhaseScenarios};
use crate::kernel::Loads;
use num_complex::Complex64 as C64;
use pulp::Simd;

const LOW: f64 = 0.95;
const HIGH: f64 = 1.05;

/// A load as the batch needs it: positions, limits, and the derivative at the base state.
#[derive(Debug, Clone)]
pub(super) struct LoadTerm {
    from: usize,
    to: Option<usize>,
    model: PhaseLoadModel,
    rated_v: f64,
    pub(super) m1: C64,
    pub(super) m2: C64,
}

impl LoadTerm {
    /// The same term by position.
    pub(super) fn at(mut self, position: &[usize], load: &PhaseLoad) -> Self {
        self.from = position[load.from];
        self.to = load.to.map(|t| position[t]);
        self
    }
}

impl PhaseLoad {
    /// Voltage across the load.
    pub(super) fn voltage(&self, v: &[C64]) -> C64 {
        v[self.from] - self.to.map_or(C64::ZERO, |t| v[t])
    }

    /// The nodes the load hangs on, with the sign of the current injected there.
    pub(super) fn ends(&self) -> Vec<(usize, f64)> {
        std::iter::once((self.from, 1.0)).chain(self.to.map(|t| (t, -1.0))).collect()
    }

    /// Entries of the incidence of the load: sign, row, column.
    pub(super) fn incidence(&self) -> Vec<(f64, usize, usize)> {
        match self.to {
            None => vec![(1.0, self.from, self.from)],
            Some(to) => {
                vec![(1.0, self.from, self.from), (-1.0, self.from, to), (-1.0, to, self.from), (1.0, to, to)]
            }
        }
    }

    /// φ of P and Q and their derivatives by m.
    pub(super) fn shape(&self, m: f64) -> [(f64, f64); 2] {
        let rated = self.rated_v;
        let (low, high) = ((LOW * rated).powi(2), (HIGH * rated).powi(2));
        let inside = m > low && m < high;
        let c = m.clamp(low, high);
        let slope = |s: f64| if inside { s } else { 0.0 };
        let power = (1.0 / c, slope(-1.0 / (c * c)));
        let current = (1.0 / (rated * c.sqrt()), slope(-0.5 / (rated * c * c.sqrt())));
        let impedance = (1.0 / (rated * rated), 0.0);
        match self.model {
            PhaseLoadModel::Power => [power, power],
            PhaseLoadModel::Impedance => [impedance, impedance],
            PhaseLoadModel::Exponential => [current, impedance],
            PhaseLoadModel::Current => [current, current],
        }
    }

    /// Current injected into `from` when the load consumes `s` at rated voltage.
    pub(super) fn current(&self, s: C64, d: C64) -> C64 {
        let [(p, _), (q, _)] = self.shape(d.norm_sqr());
        -C64::new(s.re * p, -s.im * q) * d
    }

    /// Power injected at node voltages `v`.
    pub(super) fn injected(&self, s: C64, v: &[C64]) -> C64 {
        let d = self.voltage(v);
        d * self.current(s, d).conj()
    }

    pub(super) fn term(&self, s: C64, d: C64) -> LoadTerm {
        let m = d.norm_sqr();
        let [(p, dp), (q, dq)] = self.shape(m);
        let (a, slope) = (C64::new(s.re * p, -s.im * q), C64::new(s.re * dp, -s.im * dq));
        self.with_derivative(-(a + slope * m), -slope * d * d)
    }

    /// The load as an impedance at rated voltage.
    pub(super) fn rated_term(&self, s: C64) -> LoadTerm {
        self.with_derivative(-s.conj() / (self.rated_v * self.rated_v), C64::ZERO)
    }

    fn with_derivative(&self, m1: C64, m2: C64) -> LoadTerm {
        LoadTerm { from: self.from, to: self.to, model: self.model, rated_v: self.rated_v, m1, m2 }
    }
}

pub(super) struct PhaseBatch<'a> {
    pub(super) terms: &'a [LoadTerm],
    pub(super) scenarios: PhaseScenarios<'a>,
    pub(super) count: usize,
}

impl Loads for PhaseBatch<'_> {
    fn width(&self) -> usize {
        2 * self.terms.len()
    }

    #[inline(always)]
    fn gather(&self, first: usize, lanes: usize, data: &mut [f64]) {
        let width = self.terms.len();
        for (k, pair) in data.chunks_exact_mut(2 * lanes).enumerate() {
            let (p, q) = pair.split_at_mut(lanes);
            for lane in 0..lanes {
                let at = (first + lane).min(self.count - 1) * width + k;
                p[lane] = self.scenarios.p_w[at];
                q[lane] = self.scenarios.q_var[at];
            }
        }
    }

    #[inline(always)]
    fn accumulate<S: Simd>(&self, simd: S, data: &[S::f64s], v: &[[S::f64s; 2]], rhs: &mut [[S::f64s; 2]]) {
        let one = simd.splat_f64s(1.0);
        for (term, s) in self.terms.iter().zip(data.chunks_exact(2)) {
            let [mut dr, mut di] = v[term.from];
            if let Some(to) = term.to {
                dr = simd.sub_f64s(dr, v[to][0]);
                di = simd.sub_f64s(di, v[to][1]);
            }
            let rated = term.rated_v;
            let m = simd.mul_add_e_f64s(dr, dr, simd.mul_f64s(di, di));
            let low = simd.splat_f64s((LOW * rated) * (LOW * rated));
            let high = simd.splat_f64s((HIGH * rated) * (HIGH * rated));
            let c = simd.min_f64s(simd.max_f64s(m, low), high);
            let impedance = simd.splat_f64s(1.0 / (rated * rated));
            let (p, q) = match term.model {
                PhaseLoadModel::Power => {
                    let phi = simd.div_f64s(one, c);
                    (phi, phi)
                }
                PhaseLoadModel::Impedance => (impedance, impedance),
                PhaseLoadModel::Exponential | PhaseLoadModel::Current => {
                    let phi = simd.div_f64s(simd.splat_f64s(1.0 / rated), simd.sqrt_f64s(c));
                    (phi, if term.model == PhaseLoadModel::Current { phi } else { impedance })
                }
            };
            // -(A + M1) d - M2 conj(d), A = P φp - j Q φq
            let ar = simd.add_f64s(simd.mul_f64s(s[0], p), simd.splat_f64s(term.m1.re));
            let ai = simd.sub_f64s(simd.splat_f64s(term.m1.im), simd.mul_f64s(s[1], q));
            let (m2r, m2i) = (simd.splat_f64s(term.m2.re), simd.splat_f64s(term.m2.im));
            let re = simd.sub_f64s(simd.mul_f64s(ai, di), simd.mul_f64s(ar, dr));
            let re = simd.negate_mul_add_e_f64s(m2r, dr, simd.negate_mul_add_e_f64s(m2i, di, re));
            let im = simd.neg_f64s(simd.mul_add_e_f64s(ar, di, simd.mul_f64s(ai, dr)));
            let im = simd.negate_mul_add_e_f64s(m2i, dr, simd.mul_add_e_f64s(m2r, di, im));
            let target = &mut rhs[term.from];
            *target = [simd.add_f64s(target[0], re), simd.add_f64s(target[1], im)];
            if let Some(to) = term.to {
                let target = &mut rhs[to];
                *target = [simd.sub_f64s(target[0], re), simd.sub_f64s(target[1], im)];
            }
        }
    }

    #[inline(always)]
    fn source(&self, _scenario: usize) -> f64 {
        1.0
    }

    fn scenario_count(&self) -> usize {
        self.count
    }
}
