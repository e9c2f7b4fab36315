//! State estimation on readings that their customers' noise protects: the trade-off between the estimate and the privacy level.
//!
//! After Sandberg, Dán and Thobaben, "Differentially private state estimation in distribution networks with smart meters" (2015).
//! Customer `i` sends `z_i = p_i + n_i`, `p_i` clipped to a range of width `D`, `n_i` discrete or continuous Laplace of scale `D/ε`:
//! ε-differential privacy towards everyone, the estimator included. Its variance `2(D/ε)²` is public, so the estimator weighs
//! with it, as a known variance and not as the error of an ordinary meter. What the operator measures itself (the head of the
//! feeder) has no noise. Everything linear is exact here and independent of the kind of network: rows of coefficients, whether
//! of power in a feeder or of flow in a water main. It draws nothing: noise comes as values.

/// Variance of Laplace noise of scale `D/ε`, in the square of the unit of `D`.
pub fn laplace_variance(width: f64, epsilon: f64) -> f64 {
    2.0 * (width / epsilon).powi(2)
}

/// No estimator of one customer's value from ε-private readings has a worst-case mean square error below this, whatever it does:
/// `(D/2)²/(1 + e^ε)` (Le Cam's two points, `D` apart, whose outputs an ε-private mechanism keeps within `e^ε`).
pub fn lower_bound(width: f64, epsilon: f64) -> f64 {
    (width / 2.0).powi(2) / (1.0 + epsilon.exp())
}

/// A Gaussian belief about unknown values, improved by linear measurements one at a time (Kalman's update without motion).
#[derive(Debug, Clone)]
pub struct Belief {
    mean: Vec<f64>,
    covariance: Vec<Vec<f64>>,
}

impl Belief {
    /// Independent values with these means and variances.
    pub fn new(mean: &[f64], variances: &[f64]) -> Self {
        let covariance = variances
            .iter()
            .enumerate()
            .map(|(i, v)| (0..mean.len()).map(|j| if i == j { *v } else { 0.0 }).collect())
            .collect();
        Self { mean: mean.to_vec(), covariance }
    }

    /// Takes in `value = row · x + noise` with the noise's variance (positive). Both slices follow the values.
    pub fn measure(&mut self, row: &[f64], value: f64, variance: f64) {
        let through: Vec<f64> = self.covariance.iter().map(|c| dot(c, row)).collect();
        let total = dot(&through, row) + variance;
        let step = (value - dot(&self.mean, row)) / total;
        for (i, gain) in through.iter().enumerate() {
            self.mean[i] += gain * step;
            for (j, other) in through.iter().enumerate() {
                self.covariance[i][j] -= gain * other / total;
            }
        }
    }

    /// The best estimates.
    pub fn mean(&self) -> &[f64] {
        &self.mean
    }

    /// Variance of `row · x`.
    pub fn variance_of(&self, row: &[f64]) -> f64 {
        let through: Vec<f64> = self.covariance.iter().map(|c| dot(c, row)).collect();
        dot(&through, row).max(0.0)
    }

    /// Mean of the variances of the single values.
    pub fn mean_variance(&self) -> f64 {
        let n = self.mean.len().max(1) as f64;
        (0..self.mean.len()).map(|i| self.covariance[i][i]).sum::<f64>() / n
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A small generator for the tests' draws: xorshift64*, uniform in (0, 1).
    fn uniform(state: &mut u64) -> f64 {
        *state ^= *state >> 12;
        *state ^= *state << 25;
        *state ^= *state >> 27;
        (state.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn laplace(state: &mut u64, scale: f64) -> f64 {
        let u = uniform(state) - 0.5;
        -scale * u.signum() * (1.0 - 2.0 * u.abs()).max(1e-300).ln()
    }

    /// A water network: one main with a branch, demand nodes 0 to 5 in litres a second. A pipe's flow is the sum of the demands behind
    /// it; the utility measures the flow out of the reservoir and in the branch, the homes' demands come with noise.
    const PIPES: [[f64; 6]; 2] = [[1.0; 6], [0.0, 0.0, 0.0, 1.0, 1.0, 1.0]];

    #[test]
    fn a_water_network_is_estimated_as_well_as_predicted() {
        let mut state = 0x5EED_u64;
        let demand = [0.8, 0.5, 1.1, 0.6, 0.9, 0.7];
        for epsilon in [0.3, 1.0, 3.0] {
            let width = 0.4;
            let variance = laplace_variance(width, epsilon);
            let rounds = 4_000;
            let mut errors = [0.0; 6];
            let mut flow_error = 0.0;
            let mut predicted = 0.0;
            let mut predicted_flow = 0.0;
            for _ in 0..rounds {
                // demands scatter around what is known of them
                let truth: Vec<f64> =
                    demand.iter().map(|d| d + 0.3 * (0..12).map(|_| uniform(&mut state) - 0.5).sum::<f64>()).collect();
                let mut belief = Belief::new(&demand, &[0.09; 6]);
                for (i, t) in truth.iter().enumerate() {
                    let row: Vec<f64> = (0..6).map(|j| f64::from(u8::from(i == j))).collect();
                    belief.measure(&row, t + laplace(&mut state, width / epsilon), variance);
                }
                for pipe in &PIPES {
                    belief.measure(pipe, dot(pipe, &truth) + 0.05 * (uniform(&mut state) - 0.5), 0.05 * 0.05 / 12.0);
                }
                for (error, (m, t)) in errors.iter_mut().zip(belief.mean().iter().zip(&truth)) {
                    *error += (m - t).powi(2) / f64::from(rounds);
                }
                let row = [1.0, 1.0, 0.0, 0.0, 0.0, 0.0];
                flow_error += (dot(belief.mean(), &row) - dot(&truth, &row)).powi(2) / f64::from(rounds);
                predicted = belief.mean_variance();
                predicted_flow = belief.variance_of(&row);
            }
            let measured = errors.iter().sum::<f64>() / 6.0;
            assert!((measured / predicted - 1.0).abs() < 0.12, "ε {epsilon}: {measured} against {predicted}");
            assert!(
                (flow_error / predicted_flow - 1.0).abs() < 0.15,
                "ε {epsilon}: {flow_error} against {predicted_flow}"
            );
        }
    }

    #[test]
    fn the_error_falls_with_epsilon_and_never_below_the_bound() {
        let mut last = f64::INFINITY;
        for step in 0..40 {
            let epsilon = 0.01 * 1.25_f64.powi(step);
            // nothing is known before: the estimate rests on the private reading alone
            let mut belief = Belief::new(&[0.0], &[1e6]);
            belief.measure(&[1.0], 0.0, laplace_variance(2.0, epsilon));
            let variance = belief.mean_variance();
            assert!(variance < last, "ε {epsilon}");
            assert!(variance >= lower_bound(2.0, epsilon), "ε {epsilon}: {variance} below the bound");
            last = variance;
        }
    }
}
