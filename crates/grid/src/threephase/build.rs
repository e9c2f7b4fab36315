//! Builds a three-phase network from published line codes, transformers and a source, as admittances between nodes.
//!
//! A line is a series matrix and half its shunt at each end. Sequence data of a transposed line give its matrix by
//! `Z_self = (Z0 + 2 Z1)/3`, `Z_mutual = (Z0 - Z1)/3`; matrices that are published as such are taken as they are. Neutral
//! conductors are eliminated already (Kron); there is no Carson's equation here: conductor spacings are not an input.

use super::{PhaseLoad, PhaseNetwork};
use crate::error::GridError;
use num_complex::Complex64 as C64;
use std::collections::HashMap;

/// A 3 by 3 matrix by phases.
pub type Matrix3 = [[C64; 3]; 3];

/// Series impedance (Ω/km) and shunt admittance (S/km) of a three-phase line.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LineCode {
    pub series_ohm_per_km: Matrix3,
    pub shunt_s_per_km: Matrix3,
}

/// How a transformer's windings are connected; the second winding is a grounded star.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Connection {
    /// Grounded star to grounded star, no phase shift.
    StarStar,
    /// Delta to grounded star; the second side lags by 30 degrees (Dyn1).
    DeltaStar,
}

/// A transformer by its nameplate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Transformer {
    pub connection: Connection,
    /// Rated line-to-line voltages, V.
    pub first_v: f64,
    pub second_v: f64,
    pub rated_va: f64,
    /// Short-circuit resistance and reactance, per unit of the rating.
    pub r_pu: f64,
    pub x_pu: f64,
}

impl LineCode {
    /// From positive- and zero-sequence impedances (Ω/km) and shunt admittances (S/km).
    pub fn from_sequence(z1: C64, z0: C64, y1: C64, y0: C64) -> Self {
        Self { series_ohm_per_km: transposed(z1, z0), shunt_s_per_km: transposed(y1, y0) }
    }

    /// From published matrices: resistance and reactance in Ω/km, capacitance in nF/km at a frequency in Hz.
    pub fn from_matrices(r: &[[f64; 3]; 3], x: &[[f64; 3]; 3], c_nf: &[[f64; 3]; 3], frequency_hz: f64) -> Self {
        let mut out = Self { series_ohm_per_km: [[C64::ZERO; 3]; 3], shunt_s_per_km: [[C64::ZERO; 3]; 3] };
        for i in 0..3 {
            for j in 0..3 {
                out.series_ohm_per_km[i][j] = C64::new(r[i][j], x[i][j]);
                out.shunt_s_per_km[i][j] = C64::new(0.0, std::f64::consts::TAU * frequency_hz * c_nf[i][j] * 1e-9);
            }
        }
        out
    }
}

/// A matrix with equal diagonal and equal other entries from its sequence values.
fn transposed(one: C64, zero: C64) -> Matrix3 {
    let (own, mutual) = ((zero + 2.0 * one) / 3.0, (zero - one) / 3.0);
    let mut out = [[mutual; 3]; 3];
    (0..3).for_each(|i| out[i][i] = own);
    out
}

/// Inverts the part of a matrix that the present phases span; `None` when it is singular.
fn inverse(matrix: &Matrix3, phases: &[usize]) -> Option<Matrix3> {
    let n = phases.len();
    let mut a = vec![vec![C64::ZERO; 2 * n]; n];
    for (i, &p) in phases.iter().enumerate() {
        for (j, &q) in phases.iter().enumerate() {
            a[i][j] = matrix[p][q];
        }
        a[i][n + i] = C64::ONE;
    }
    for k in 0..n {
        let pivot = (k..n).max_by(|&x, &y| a[x][k].norm().total_cmp(&a[y][k].norm()))?;
        a.swap(k, pivot);
        let scale = a[k][k];
        if scale.norm() == 0.0 || !scale.is_finite() {
            return None;
        }
        a[k].iter_mut().for_each(|x| *x /= scale);
        let row = a[k].clone();
        for (_, other) in a.iter_mut().enumerate().filter(|(i, _)| *i != k) {
            let factor = other[k];
            other.iter_mut().zip(&row).for_each(|(x, r)| *x -= factor * r);
        }
    }
    let mut out = [[C64::ZERO; 3]; 3];
    for (i, &p) in phases.iter().enumerate() {
        for (j, &q) in phases.iter().enumerate() {
            out[p][q] = a[i][n + j];
        }
    }
    Some(out)
}

/// Collects elements; [`Builder::finish`] gives the network.
#[derive(Debug, Default)]
pub struct Builder {
    nodes: Vec<String>,
    base_v: Vec<f64>,
    index: HashMap<String, usize>,
    admittance: Vec<(usize, usize, C64)>,
    source_a: Vec<C64>,
    loads: Vec<PhaseLoad>,
}

impl Builder {
    /// Adds the phases (0, 1, 2) of a bus with its line-to-neutral base voltage, V.
    ///
    /// # Errors
    /// A phase above 2, or a bus that is there already.
    pub fn bus(&mut self, name: &str, phases: &[usize], base_v: f64) -> Result<(), GridError> {
        for &phase in phases {
            let node = format!("{name}.{}", phase + 1);
            if phase > 2 || self.index.insert(node.clone(), self.nodes.len()).is_some() {
                return Err(GridError::element(
                    format!("bus {name}"),
                    format!("phase {} is wrong or twice", phase + 1),
                ));
            }
            self.nodes.push(node);
            self.base_v.push(base_v);
            self.source_a.push(C64::ZERO);
        }
        Ok(())
    }

    /// Position of a phase of a bus.
    ///
    /// # Errors
    /// When the bus or the phase is not there.
    pub fn node(&self, bus: &str, phase: usize) -> Result<usize, GridError> {
        let found = self.index.get(&format!("{bus}.{}", phase + 1)).copied();
        found.ok_or_else(|| GridError::element(format!("bus {bus}"), format!("has no phase {}", phase + 1)))
    }

    /// Adds a line between the given phases of two buses.
    ///
    /// # Errors
    /// A length that is not positive, a singular line code, or a missing phase.
    pub fn line(
        &mut self,
        name: &str,
        [from, to]: [&str; 2],
        phases: &[usize],
        code: &LineCode,
        length_km: f64,
    ) -> Result<(), GridError> {
        let fail = |reason: &str| GridError::element(format!("line {name}"), reason);
        if !(length_km.is_finite() && length_km > 0.0) {
            return Err(fail("its length must be positive"));
        }
        if phases.iter().any(|p| *p > 2) {
            return Err(fail("phases are 0, 1 and 2"));
        }
        let y = inverse(&code.series_ohm_per_km, phases).ok_or_else(|| fail("its series impedance is singular"))?;
        for &p in phases {
            for &q in phases {
                let ends = [[self.node(from, p)?, self.node(from, q)?], [self.node(to, p)?, self.node(to, q)?]];
                let series = y[p][q] / length_km;
                let half = code.shunt_s_per_km[p][q] * length_km / 2.0;
                for (a, row) in ends.iter().enumerate() {
                    for (b, column) in ends.iter().enumerate() {
                        let value = if a == b { series + half } else { -series };
                        self.admittance.push((row[0], column[1], value));
                    }
                }
            }
        }
        Ok(())
    }

    /// Adds a three-phase transformer between two buses.
    ///
    /// # Errors
    /// A nameplate without impedance, or a missing phase.
    pub fn transformer(&mut self, name: &str, [from, to]: [&str; 2], t: &Transformer) -> Result<(), GridError> {
        let fail = |reason: &str| GridError::element(format!("transformer {name}"), reason);
        let sizes = [t.first_v, t.second_v, t.rated_va];
        if !sizes.into_iter().all(|x| x.is_finite() && x > 0.0) || t.r_pu.hypot(t.x_pu) == 0.0 {
            return Err(fail("rated voltages and power must be positive and its impedance not zero"));
        }
        // one leakage per phase, seen from the second winding, whose voltage is line to neutral
        let leakage = C64::new(t.r_pu, t.x_pu) * t.second_v * t.second_v / t.rated_va;
        for phase in 0..3 {
            let winding = t.second_v / 3f64.sqrt();
            let mut terms = vec![(self.node(to, phase)?, 1.0)];
            match t.connection {
                Connection::StarStar => terms.push((self.node(from, phase)?, -winding * 3f64.sqrt() / t.first_v)),
                Connection::DeltaStar => {
                    // Dyn1: the winding of phase a lies between a and c
                    terms.push((self.node(from, phase)?, -winding / t.first_v));
                    terms.push((self.node(from, (phase + 2) % 3)?, winding / t.first_v));
                }
            }
            for &(i, a) in &terms {
                for &(j, b) in &terms {
                    self.admittance.push((i, j, a * b / leakage));
                }
            }
        }
        Ok(())
    }

    /// Adds a balanced source at a bus: line-to-neutral EMF, V, behind sequence impedances, Ω.
    ///
    /// # Errors
    /// A singular impedance or a missing phase.
    pub fn source(&mut self, bus: &str, emf: C64, z1: C64, z0: C64) -> Result<(), GridError> {
        let y = inverse(&transposed(z1, z0), &[0, 1, 2])
            .ok_or_else(|| GridError::element(format!("source at bus {bus}"), "its impedance is singular"))?;
        for p in 0..3 {
            for q in 0..3 {
                let (row, column) = (self.node(bus, p)?, self.node(bus, q)?);
                let angle = -std::f64::consts::TAU * q as f64 / 3.0;
                self.admittance.push((row, column, y[p][q]));
                self.source_a[row] += y[p][q] * emf * C64::from_polar(1.0, angle);
            }
        }
        Ok(())
    }

    /// Adds a load whose nodes [`Builder::node`] gave.
    pub fn load(&mut self, load: PhaseLoad) {
        self.loads.push(load);
    }

    /// The network, validated.
    ///
    /// # Errors
    /// Those of [`PhaseNetwork::validate`].
    pub fn finish(self, name: &str) -> Result<PhaseNetwork, GridError> {
        let network = PhaseNetwork {
            name: name.to_owned(),
            nodes: self.nodes,
            base_v: self.base_v,
            admittance: self.admittance,
            source_a: self.source_a,
            loads: self.loads,
        };
        network.validate()?;
        Ok(network)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::threephase::{PhaseLoadModel, PhaseSolver};

    fn feeder(p_w: [f64; 3], connection: Connection) -> PhaseNetwork {
        let mut b = Builder::default();
        for (bus, base) in [("grid", 11_000.0), ("busbar", 400.0), ("end", 400.0)] {
            b.bus(bus, &[0, 1, 2], base / 3f64.sqrt()).expect("new bus");
        }
        b.source("grid", C64::new(11_000.0 / 3f64.sqrt(), 0.0), C64::new(0.05, 0.5), C64::new(0.1, 1.0))
            .expect("regular");
        let t = Transformer { connection, first_v: 11_000.0, second_v: 400.0, rated_va: 4e5, r_pu: 0.01, x_pu: 0.04 };
        b.transformer("T", ["grid", "busbar"], &t).expect("nameplate");
        let code = LineCode::from_sequence(C64::new(0.32, 0.07), C64::new(1.28, 0.28), C64::ZERO, C64::ZERO);
        b.line("L", ["busbar", "end"], &[0, 1, 2], &code, 0.2).expect("regular");
        for (phase, p_w) in p_w.into_iter().enumerate() {
            let from = b.node("end", phase).expect("three phases");
            let rated_v = 400.0 / 3f64.sqrt();
            let model = PhaseLoadModel::Power;
            b.load(PhaseLoad { name: format!("{phase}"), from, to: None, rated_v, p_w, q_var: 0.2 * p_w, model });
        }
        b.finish("feeder").expect("valid")
    }

    #[test]
    fn a_balanced_feeder_is_its_single_phase_equivalent() {
        for (connection, shift) in [(Connection::StarStar, 0.0), (Connection::DeltaStar, -30f64)] {
            let state =
                PhaseSolver::new(&feeder([8000.0; 3], connection)).expect("solvable").solve().expect("converges");
            // everything seen from 400 V: source, transformer, line in series
            let ratio = (400.0f64 / 11_000.0).powi(2);
            let z = C64::new(0.05, 0.5) * ratio + C64::new(0.01, 0.04) * 0.4 + C64::new(0.32, 0.07) * 0.2;
            let e = C64::new(400.0 / 3f64.sqrt(), 0.0);
            let mut v = e;
            for _ in 0..50 {
                v = e - z * (C64::new(8000.0, 1600.0) / v).conj();
            }
            let found = state.v[6];
            assert!((found.norm() - v.norm()).abs() < 1e-6, "{connection:?}");
            let turned = (found.arg() - v.arg()).to_degrees();
            assert!((turned - shift).abs() < 1e-6, "{connection:?}: {turned}");
        }
    }

    #[test]
    fn unbalance_drops_by_the_loop_impedance_of_the_phase() {
        // one loaded phase behind a stiff star: drop is Z_self = (Z0 + 2 Z1)/3 of the line plus the transformer's
        let network = feeder([6000.0, 0.0, 0.0], Connection::DeltaStar);
        let state = PhaseSolver::new(&network).expect("solvable").solve().expect("converges");
        let own = (C64::new(1.28, 0.28) + 2.0 * C64::new(0.32, 0.07)) / 3.0 * 0.2;
        let current = (C64::new(6000.0, 1200.0) / state.v[6]).conj();
        assert!((state.v[3] - state.v[6] - own * current).norm() < 1e-6);
        let mutual = (C64::new(1.28, 0.28) - C64::new(0.32, 0.07)) / 3.0 * 0.2;
        assert!((state.v[4] - state.v[7] - mutual * current).norm() < 1e-6);
    }

    #[test]
    fn nonsense_is_named() {
        let mut b = Builder::default();
        b.bus("a", &[0, 2], 230.0).expect("new bus");
        assert!(b.bus("a", &[0], 230.0).is_err());
        let code = LineCode::from_matrices(&[[0.0; 3]; 3], &[[0.0; 3]; 3], &[[0.0; 3]; 3], 50.0);
        b.bus("b", &[0, 2], 230.0).expect("new bus");
        let error = b.line("L7", ["a", "b"], &[0, 2], &code, 0.1).expect_err("no impedance");
        assert!(error.to_string().contains("line L7"), "{error}");
        assert!(b.line("L7", ["a", "b"], &[0], &code, -1.0).is_err());
        assert!(b.node("a", 1).is_err());
    }
}
