//! The inner loop of the estimation, one scenario per SIMD lane: exact right-hand side, frozen factor.
//!
//! Written as `K x' = K x - F(x)` the linear couplings cancel and only terms local to a node or a measured branch are left.

use crate::error::GridError;
use crate::estimate::{Estimator, Plan, Point};
use crate::flow::Voltages;
use crate::kernel::{Tolerance, piece, share_out};
use crate::sparse::{Block, Factor, Symbolic};
use num_complex::Complex64 as C64;
use pulp::{Simd, WithSimd};

/// A node whose injection is measured or free.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NodeTerm {
    pub(crate) node: usize,
    pub(crate) position: usize,
    pub(crate) variance: [f64; 2],
    pub(crate) free: [bool; 2],
    /// derivative of `[-conj(S/V); conj(D µ)]` at the base point
    pub(crate) linear: Block<4>,
}

/// A measured voltage magnitude.
#[derive(Debug, Clone, Copy)]
pub(crate) struct VoltageTerm {
    pub(crate) node: usize,
    pub(crate) position: usize,
    pub(crate) weight: f64,
    /// `conj(V)/|V|` at the base point: `d|V| = Re(g dV)`
    pub(crate) gradient: C64,
    pub(crate) column: usize,
}

/// A measured flow.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FlowTerm {
    pub(crate) near: usize,
    pub(crate) far: usize,
    pub(crate) positions: [usize; 2],
    pub(crate) y_near: C64,
    pub(crate) y_far: C64,
    pub(crate) active: bool,
    pub(crate) weight: f64,
    /// at the base point: `dh = Re(g0 dV_near + g1 dV_far)`
    pub(crate) gradient: [C64; 2],
    pub(crate) column: usize,
}

impl FlowTerm {
    pub(crate) fn value_and_gradient(&self, near: C64, far: C64) -> (f64, [C64; 2]) {
        let current = self.y_near * near + self.y_far * far;
        let s = near * current.conj();
        let (a, b) = (near.conj() * self.y_near, near.conj() * self.y_far);
        if self.active { (s.re, [current.conj() + a, b]) } else { (s.im, [C64::I * (a - current.conj()), C64::I * b]) }
    }
}

/// How the equations of the slack node are replaced.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SlackRow {
    pub(crate) position: usize,
    pub(crate) free: bool,
    pub(crate) direction: C64,
}

/// The frozen equations.
#[derive(Clone)]
pub(crate) struct EstimateKernel {
    pub(crate) symbolic: Symbolic,
    pub(crate) factor: Factor<4>,
    pub(crate) nodes: Vec<NodeTerm>,
    pub(crate) voltages: Vec<VoltageTerm>,
    pub(crate) flows: Vec<FlowTerm>,
    pub(crate) slack: SlackRow,
}

impl EstimateKernel {
    /// One step in plain numbers.
    pub(crate) fn step_one(&self, plan: &Plan, point: &Point, values: &[f64]) -> Point {
        let simd = pulp::Scalar::new();
        let n = self.symbolic.len();
        let x: Vec<[f64; 4]> = self
            .symbolic
            .node
            .iter()
            .map(|&i| [point.v[i].re, point.v[i].im, point.mu[i].re, point.mu[i].im])
            .collect();
        let mut rhs = vec![[0.0; 4]; n];
        let mut z: Vec<f64> = self.nodes.iter().flat_map(|t| [point.z[t.node].re, point.z[t.node].im]).collect();
        z.extend(self.voltages.iter().map(|t| values[t.column]));
        z.extend(self.flows.iter().map(|t| values[t.column]));
        self.right_hand_side(simd, &x, &mut z, &mut rhs);
        self.factor.solve_one(&self.symbolic, &mut rhs);
        let mut new = point.clone();
        for (p, value) in rhs.iter().enumerate() {
            let node = self.symbolic.node[p];
            new.v[node] = C64::new(value[0], value[1]);
            new.mu[node] = C64::new(value[2], value[3]);
        }
        for (k, term) in self.nodes.iter().enumerate() {
            if term.free[0] {
                new.z[term.node].re = z[2 * k];
            }
            if term.free[1] {
                new.z[term.node].im = z[2 * k + 1];
            }
        }
        debug_assert_eq!(plan.priors.len(), n);
        new
    }

    /// Adds `K x - F(x)` to `rhs` (zero on entry). `z`: P and Q of each node term, then voltages, then flows; the entries of
    /// free injections move to the present value.
    #[inline(always)]
    fn right_hand_side<S: Simd>(&self, simd: S, x: &[[S::f64s; 4]], z: &mut [S::f64s], rhs: &mut [[S::f64s; 4]]) {
        let (nodes, rest) = z.split_at_mut(2 * self.nodes.len());
        for (term, z) in self.nodes.iter().zip(nodes.chunks_exact_mut(2)) {
            let local = node_rhs(simd, term, x[term.position], z);
            let target = &mut rhs[term.position];
            for k in 0..4 {
                target[k] = simd.add_f64s(target[k], local[k]);
            }
        }
        let (voltages, flows) = rest.split_at(self.voltages.len());
        for (term, &z) in self.voltages.iter().zip(voltages) {
            voltage_rhs(simd, term, x[term.position], z, &mut rhs[term.position]);
        }
        for (term, &z) in self.flows.iter().zip(flows) {
            flow_rhs(simd, term, x, z, rhs);
        }
        let SlackRow { position, free, direction } = self.slack;
        let zero = simd.splat_f64s(0.0);
        let row = &mut rhs[position];
        if free {
            row[0] = zero;
            row[1] = zero;
        }
        let turned = simd.mul_f64s(simd.splat_f64s(direction.re), row[2]);
        row[2] = simd.negate_mul_add_e_f64s(simd.splat_f64s(direction.im), row[3], turned);
        row[3] = zero;
    }

    /// Response of (V, µ) to a source in the equations of some nodes: pairs of node and complex right-hand sides.
    pub(crate) fn response(&self, sources: &[(usize, C64, C64)]) -> Vec<[f64; 4]> {
        let mut rhs = vec![[0.0; 4]; self.symbolic.len()];
        for &(node, first, second) in sources {
            let row = &mut rhs[self.symbolic.position[node]];
            for (k, value) in [first.re, first.im, second.re, second.im].into_iter().enumerate() {
                row[k] += value;
            }
        }
        let row = &mut rhs[self.slack.position];
        if self.slack.free {
            row[0] = 0.0;
            row[1] = 0.0;
        }
        row[2] = self.slack.direction.re * row[2] - self.slack.direction.im * row[3];
        row[3] = 0.0;
        self.factor.solve_one(&self.symbolic, &mut rhs);
        rhs
    }

    /// `Cov(V) c` for a functional `Re Σ c dV`: the change of every node's voltage, by node.
    pub(crate) fn covariance_times(&self, functional: &[(usize, C64)]) -> Vec<C64> {
        let sources: Vec<_> = functional.iter().map(|&(node, c)| (node, C64::ZERO, -c)).collect();
        let x = self.response(&sources);
        self.symbolic.position.iter().map(|&p| C64::new(x[p][0], x[p][1])).collect()
    }

    /// Posterior variance of the voltage magnitude at a node.
    pub(crate) fn voltage_variance(&self, node: usize, v: C64) -> f64 {
        let g = v.conj() / v.norm();
        (g * self.covariance_times(&[(node, g)])[node]).re
    }

    /// Posterior variance of one part of an injection whose pooled variance is `term.variance`.
    pub(crate) fn injection_variance(&self, term: &NodeTerm, part: usize, v: C64) -> f64 {
        let sensitivity = self.injection_response(term, part, v);
        term.variance[part] * sensitivity
    }

    /// Change of the estimated injection when its pooled value changes by one.
    pub(crate) fn injection_response(&self, term: &NodeTerm, part: usize, v: C64) -> f64 {
        // dS = 1 or j changes conj(S/V)
        let unit = if part == 0 { C64::ONE } else { C64::I };
        let x = self.response(&[(term.node, unit.conj() / v.conj(), C64::ZERO)]);
        let p = term.position;
        let kappa = C64::new(x[p][2], x[p][3]) / v.conj();
        1.0 - term.variance[part] * if part == 0 { kappa.re } else { kappa.im }
    }
}

#[inline(always)]
fn node_rhs<S: Simd>(simd: S, term: &NodeTerm, x: [S::f64s; 4], z: &mut [S::f64s]) -> [S::f64s; 4] {
    let [vr, vi, mr, mi] = x;
    let m = simd.mul_add_e_f64s(vr, vr, simd.mul_f64s(vi, vi));
    let inverse = simd.div_f64s(simd.splat_f64s(1.0), m);
    // u = 1/conj(V), kappa = mu u
    let (ur, ui) = (simd.mul_f64s(vr, inverse), simd.mul_f64s(vi, inverse));
    let kr = simd.negate_mul_add_e_f64s(mi, ui, simd.mul_f64s(mr, ur));
    let ki = simd.mul_add_e_f64s(mi, ur, simd.mul_f64s(mr, ui));
    let p = simd.negate_mul_add_e_f64s(simd.splat_f64s(term.variance[0]), kr, z[0]);
    let q = simd.negate_mul_add_e_f64s(simd.splat_f64s(term.variance[1]), ki, z[1]);
    if term.free[0] {
        z[0] = p;
    }
    if term.free[1] {
        z[1] = q;
    }
    // I = conj(S) u
    let ir = simd.mul_add_e_f64s(q, ui, simd.mul_f64s(p, ur));
    let ii = simd.negate_mul_add_e_f64s(q, ur, simd.mul_f64s(p, ui));
    // C = conj(I kappa); the second row takes -C
    let cr = simd.negate_mul_add_e_f64s(ii, ki, simd.mul_f64s(ir, kr));
    let ci = simd.mul_add_e_f64s(ir, ki, simd.mul_f64s(ii, kr));
    let mut out = [ir, ii, simd.neg_f64s(cr), ci];
    for r in 0..4 {
        for c in 0..4 {
            out[r] = simd.mul_add_e_f64s(simd.splat_f64s(term.linear[r][c]), x[c], out[r]);
        }
    }
    out
}

#[inline(always)]
fn voltage_rhs<S: Simd>(simd: S, term: &VoltageTerm, x: [S::f64s; 4], z: S::f64s, rhs: &mut [S::f64s; 4]) {
    let [vr, vi, ..] = x;
    let m = simd.mul_add_e_f64s(vr, vr, simd.mul_f64s(vi, vi));
    let magnitude = simd.sqrt_f64s(m);
    let w = simd.splat_f64s(term.weight);
    // a = w (|V| - z) conj(V)/|V|
    let ratio = simd.mul_f64s(w, simd.div_f64s(simd.sub_f64s(magnitude, z), magnitude));
    let (gr, gi) = (simd.splat_f64s(term.gradient.re), simd.splat_f64s(term.gradient.im));
    let linear = simd.mul_f64s(w, simd.negate_mul_add_e_f64s(gi, vi, simd.mul_f64s(gr, vr)));
    rhs[2] = simd.mul_add_e_f64s(ratio, vr, simd.negate_mul_add_e_f64s(linear, gr, rhs[2]));
    rhs[3] = simd.negate_mul_add_e_f64s(ratio, vi, simd.negate_mul_add_e_f64s(linear, gi, rhs[3]));
}

/// A complex number in registers.
type Pair<S> = [<S as Simd>::f64s; 2];

#[inline(always)]
fn scaled<S: Simd>(simd: S, y: C64, v: Pair<S>) -> Pair<S> {
    let (r, i) = (simd.splat_f64s(y.re), simd.splat_f64s(y.im));
    [simd.negate_mul_add_e_f64s(i, v[1], simd.mul_f64s(r, v[0])), simd.mul_add_e_f64s(i, v[0], simd.mul_f64s(r, v[1]))]
}

#[inline(always)]
fn flow_rhs<S: Simd>(simd: S, term: &FlowTerm, x: &[[S::f64s; 4]], z: S::f64s, rhs: &mut [[S::f64s; 4]]) {
    let [near, far] = term.positions;
    let v = [[x[near][0], x[near][1]], [x[far][0], x[far][1]]];
    let (a, b) = (scaled(simd, term.y_near, v[0]), scaled(simd, term.y_far, v[1]));
    let current = [simd.add_f64s(a[0], b[0]), simd.add_f64s(a[1], b[1])];
    let near_conj = [v[0][0], simd.neg_f64s(v[0][1])];
    // conj(V) Y is the conjugate of V conj(Y)
    let (a, b) = (scaled(simd, term.y_near, near_conj), scaled(simd, term.y_far, near_conj));
    let (h, g) = if term.active {
        let h = simd.mul_add_e_f64s(v[0][0], current[0], simd.mul_f64s(v[0][1], current[1]));
        (h, [[simd.add_f64s(a[0], current[0]), simd.sub_f64s(a[1], current[1])], b])
    } else {
        let h = simd.negate_mul_add_e_f64s(v[0][0], current[1], simd.mul_f64s(v[0][1], current[0]));
        // j (a - conj(i)), j b
        let d = [simd.sub_f64s(a[0], current[0]), simd.add_f64s(a[1], current[1])];
        (h, [[simd.neg_f64s(d[1]), d[0]], [simd.neg_f64s(b[1]), b[0]]])
    };
    let w = simd.splat_f64s(term.weight);
    let exact = simd.mul_f64s(w, simd.sub_f64s(h, z));
    let mut frozen = simd.splat_f64s(0.0);
    for k in 0..2 {
        let g = term.gradient[k];
        frozen = simd.mul_add_e_f64s(simd.splat_f64s(g.re), v[k][0], frozen);
        frozen = simd.negate_mul_add_e_f64s(simd.splat_f64s(g.im), v[k][1], frozen);
    }
    let frozen = simd.mul_f64s(w, frozen);
    for k in 0..2 {
        let row = &mut rhs[term.positions[k]];
        let base = [simd.splat_f64s(term.gradient[k].re), simd.splat_f64s(term.gradient[k].im)];
        for part in 0..2 {
            let sum = simd.mul_add_e_f64s(exact, g[k][part], row[2 + part]);
            row[2 + part] = simd.negate_mul_add_e_f64s(frozen, base[part], sum);
        }
    }
}

/// Many estimations that share one frozen factor.
pub struct BatchEstimator {
    estimator: Estimator,
    kernel: EstimateKernel,
    base: Vec<[f64; 4]>,
    /// value columns and weights that make up each entry of a scenario's data
    entries: Vec<Vec<(usize, f64)>>,
    outputs: Vec<usize>,
}

impl BatchEstimator {
    /// Freezes the equations at the estimate for the estimator's own values.
    ///
    /// # Errors
    /// Those of [`Estimator::estimate`].
    pub fn new(estimator: &Estimator) -> Result<Self, GridError> {
        let point = estimator.estimate()?.point;
        let sigmas: Vec<f64> = estimator.measurements.iter().map(|m| m.sigma_pu).collect();
        let kernel = estimator.kernel(&point, &sigmas)?;
        let plan = &estimator.plan;
        let mut entries = Vec::new();
        for term in &kernel.nodes {
            for part in 0..2 {
                let pooled = plan.pooled.iter().filter(|p| p.node == term.node && p.part == part);
                entries.push(pooled.map(|p| (p.column, p.share)).collect());
            }
        }
        entries.extend(kernel.voltages.iter().map(|t| vec![(t.column, 1.0)]));
        entries.extend(kernel.flows.iter().map(|t| vec![(t.column, 1.0)]));
        let base = kernel.symbolic.node.iter().map(|&i| [point.v[i].re, point.v[i].im, point.mu[i].re, point.mu[i].im]);
        Ok(Self {
            base: base.collect(),
            outputs: estimator.model.node_of_bus.iter().map(|&n| kernel.symbolic.position[n]).collect(),
            kernel,
            entries,
            estimator: estimator.clone(),
        })
    }

    /// Estimates every row of `values` (row-major, one column per measurement of the estimator, pu) on `threads` threads.
    ///
    /// # Errors
    /// Only for input of the wrong length or non-finite input; rows without a solution are in [`Voltages::failed`].
    pub fn estimate(&self, values: &[f64], tolerance: Tolerance, threads: usize) -> Result<Voltages, GridError> {
        let mut out = Voltages::default();
        self.estimate_into(values, tolerance, threads, &mut out)?;
        Ok(out)
    }

    /// [`BatchEstimator::estimate`] into an existing result, whose memory is reused.
    ///
    /// # Errors
    /// Those of [`BatchEstimator::estimate`].
    pub fn estimate_into(
        &self,
        values: &[f64],
        tolerance: Tolerance,
        threads: usize,
        out: &mut Voltages,
    ) -> Result<(), GridError> {
        let width = self.estimator.measurements.len();
        if width == 0 || !values.len().is_multiple_of(width) {
            return Err(GridError::Length { what: "the measured values", found: values.len(), expected: width });
        }
        if let Some(bad) = values.iter().position(|v| !v.is_finite()) {
            let name = self.estimator.measurements[bad % width].describe(&self.estimator.model.bus_ids);
            return Err(GridError::element(format!("{name}, row {}", bad / width), "its value is not a finite number"));
        }
        let count = values.len() / width;
        let buses = self.outputs.len();
        out.failed.clear();
        out.re.resize(count * buses, 0.0);
        out.im.resize(count * buses, 0.0);
        out.iterations.resize(count, 0);
        let piece = piece(count, threads);
        let rows = out.re.chunks_mut(piece * buses).zip(out.im.chunks_mut(piece * buses));
        share_out(rows.zip(out.iterations.chunks_mut(piece)), threads, |arch, k, ((re, im), iterations)| {
            let first = k * piece * width;
            let values = &values[first..first + iterations.len() * width];
            arch.dispatch(EstimateTask { batch: self, values, re, im, iterations, tolerance });
        });
        self.repair(values, out);
        Ok(())
    }

    /// Solves rows that did not contract on the frozen factor on their own.
    fn repair(&self, values: &[f64], out: &mut Voltages) {
        let (width, buses) = (self.estimator.measurements.len(), self.outputs.len());
        let sigmas: Vec<f64> = self.estimator.measurements.iter().map(|m| m.sigma_pu).collect();
        for row in 0..out.iterations.len() {
            if out.iterations[row] > 0 {
                continue;
            }
            let range = row * buses..(row + 1) * buses;
            match self.estimator.solve_point(&values[row * width..(row + 1) * width], &sigmas) {
                Ok((point, iterations)) => {
                    out.iterations[row] = u32::try_from(iterations).unwrap_or(u32::MAX);
                    let v = self.estimator.model.to_buses(&point.v);
                    for (k, i) in range.enumerate() {
                        (out.re[i], out.im[i]) = (v[k].re, v[k].im);
                    }
                }
                Err(error) => {
                    out.re[range.clone()].fill(f64::NAN);
                    out.im[range].fill(f64::NAN);
                    out.failed.push((row, error));
                }
            }
        }
    }
}

struct EstimateTask<'a> {
    batch: &'a BatchEstimator,
    values: &'a [f64],
    re: &'a mut [f64],
    im: &'a mut [f64],
    iterations: &'a mut [u32],
    tolerance: Tolerance,
}

impl WithSimd for EstimateTask<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let zero = simd.splat_f64s(0.0);
        let n = self.batch.kernel.symbolic.len();
        let mut x = vec![[zero; 4]; n];
        let mut rhs = vec![[zero; 4]; n];
        let mut data = vec![zero; self.batch.entries.len()];
        let count = self.iterations.len();
        let mut done = 0;
        while done < count {
            let lanes = S::F64_LANES.min(count - done);
            self.gather(done, S::F64_LANES, count, pulp::bytemuck::cast_slice_mut(&mut data));
            for (x, base) in x.iter_mut().zip(&self.batch.base) {
                for k in 0..4 {
                    x[k] = simd.splat_f64s(base[k]);
                }
            }
            let (iterations, step) = self.iterate(simd, &mut x, &mut rhs, &mut data);
            self.write::<S>(&x, done, lanes, iterations, step);
            done += lanes;
        }
    }
}

impl EstimateTask<'_> {
    #[inline(always)]
    fn gather(&self, first: usize, lanes: usize, count: usize, data: &mut [f64]) {
        let width = self.batch.estimator.measurements.len();
        for (entry, columns) in data.chunks_exact_mut(lanes).zip(&self.batch.entries) {
            entry.fill(0.0);
            for &(c, share) in columns {
                for (lane, value) in entry.iter_mut().enumerate() {
                    *value += share * self.values[(first + lane).min(count - 1) * width + c];
                }
            }
        }
    }

    #[inline(always)]
    fn iterate<S: Simd>(
        &self,
        simd: S,
        x: &mut [[S::f64s; 4]],
        rhs: &mut [[S::f64s; 4]],
        data: &mut [S::f64s],
    ) -> (usize, S::f64s) {
        let EstimateKernel { symbolic, factor, .. } = &self.batch.kernel;
        let zero = simd.splat_f64s(0.0);
        let mut step = simd.splat_f64s(f64::INFINITY);
        let mut iterations = 0;
        while iterations < self.tolerance.max_iterations {
            iterations += 1;
            self.batch.kernel.right_hand_side(simd, x, data, rhs);
            for i in symbolic.first_active..symbolic.len() {
                let b = rhs[i];
                rhs[i] = factor.forward(simd, symbolic, i, b, rhs);
            }
            step = zero;
            for i in (symbolic.first_active..symbolic.len()).rev() {
                let new = factor.backward(simd, symbolic, i, rhs[i], x);
                rhs[i] = [zero; 4];
                for k in 0..2 {
                    let change = simd.abs_f64s(simd.sub_f64s(new[k], x[i][k]));
                    step = simd.max_f64s(step, change);
                    // keeps a NaN that max would drop
                    step = simd.mul_add_e_f64s(zero, change, step);
                }
                x[i] = new;
            }
            let worst = simd.reduce_max_f64s(step);
            if worst < self.tolerance.step_pu || worst.is_nan() {
                break;
            }
        }
        for i in (0..symbolic.first_active).rev() {
            x[i] = factor.backward(simd, symbolic, i, [zero; 4], x);
        }
        (iterations, step)
    }

    #[inline(always)]
    fn write<S: Simd>(&mut self, x: &[[S::f64s; 4]], row: usize, lanes: usize, iterations: usize, step: S::f64s) {
        let width = self.batch.outputs.len();
        let x: &[f64] = pulp::bytemuck::cast_slice(pulp::bytemuck::cast_slice::<[S::f64s; 4], S::f64s>(x));
        let step: [S::f64s; 1] = [step];
        let step: &[f64] = pulp::bytemuck::cast_slice(&step);
        let (re, im) = (&mut self.re[row * width..], &mut self.im[row * width..]);
        for (k, &p) in self.batch.outputs.iter().enumerate() {
            let at = 4 * p * S::F64_LANES;
            for lane in 0..lanes {
                re[lane * width + k] = x[at + lane];
                im[lane * width + k] = x[at + S::F64_LANES + lane];
            }
        }
        for lane in 0..lanes {
            let good = step[lane] < self.tolerance.step_pu;
            self.iterations[row + lane] = if good { u32::try_from(iterations).unwrap_or(u32::MAX) } else { 0 };
        }
    }
}
