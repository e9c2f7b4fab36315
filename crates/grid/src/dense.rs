//! Small dense matrices: conditioning of a Gaussian and a pivoted factor. Row-major, plain loops over rows.
//!
//! Why: the lost part of a feeder's measurements is a few dozen values, fully correlated. It is no general linear algebra.

/// A factor `P A = L U`.
#[derive(Debug, Clone)]
pub(crate) struct Lu {
    n: usize,
    a: Vec<f64>,
    rows: Vec<usize>,
}

impl Lu {
    /// Factors an `n` by `n` matrix; `None` when it is singular or not finite.
    pub(crate) fn new(n: usize, mut a: Vec<f64>) -> Option<Self> {
        let mut rows: Vec<usize> = (0..n).collect();
        for k in 0..n {
            let pivot = (k..n).max_by(|&x, &y| a[x * n + k].abs().total_cmp(&a[y * n + k].abs()))?;
            let size = a[pivot * n + k].abs();
            if !(size > 0.0 && size.is_finite()) {
                return None;
            }
            if pivot != k {
                rows.swap(pivot, k);
                for c in 0..n {
                    a.swap(pivot * n + c, k * n + c);
                }
            }
            let (top, below) = a.split_at_mut((k + 1) * n);
            let top = &top[k * n..];
            for row in below.chunks_exact_mut(n) {
                let factor = row[k] / top[k];
                row[k] = factor;
                for (x, t) in row[k + 1..].iter_mut().zip(&top[k + 1..]) {
                    *x -= factor * t;
                }
            }
        }
        Some(Self { n, a, rows })
    }

    /// Solves `A x = b`.
    pub(crate) fn solve(&self, b: &[f64]) -> Vec<f64> {
        let n = self.n;
        let mut x: Vec<f64> = self.rows.iter().map(|&r| b[r]).collect();
        for i in 1..n {
            let sum: f64 = (0..i).map(|k| self.a[i * n + k] * x[k]).sum();
            x[i] -= sum;
        }
        for i in (0..n).rev() {
            let sum: f64 = (i + 1..n).map(|k| self.a[i * n + k] * x[k]).sum();
            x[i] = (x[i] - sum) / self.a[i * n + i];
        }
        x
    }
}

/// `A x` for a square matrix.
pub(crate) fn times(a: &[f64], x: &[f64]) -> Vec<f64> {
    a.chunks_exact(x.len()).map(|row| row.iter().zip(x).map(|(a, x)| a * x).sum()).collect()
}

/// Conditions a Gaussian on its first `known` entries.
///
/// `matrix` (`n` by `n`, its upper triangle counts) is the covariance with the known entries first; `deviation` holds what
/// the known entries deviate from their means and zeros behind. Afterwards the lower right part of `matrix` (upper triangle)
/// is the conditional covariance of the others and `deviation` holds their conditional deviation. `None` when the known part
/// is not positive definite.
pub(crate) fn condition(n: usize, known: usize, matrix: &mut [f64], deviation: &mut [f64]) -> Option<()> {
    for j in 0..known {
        let (top, below) = matrix.split_at_mut((j + 1) * n);
        let top = &top[j * n..];
        let pivot = top[j];
        if pivot.is_nan() || pivot <= 0.0 {
            return None;
        }
        for (k, row) in below.chunks_exact_mut(n).enumerate() {
            let i = j + 1 + k;
            let factor = top[i] / pivot;
            if factor != 0.0 {
                for (x, t) in row[i..].iter_mut().zip(&top[i..]) {
                    *x -= factor * t;
                }
                deviation[i] -= factor * deviation[j];
            }
        }
    }
    deviation[known..].iter_mut().for_each(|d| *d = -*d);
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pivoted_system_is_solved() {
        let a = vec![0.0, 2.0, 1.0, 1.0, 1.0, 0.0, 3.0, -1.0, 4.0];
        let x = Lu::new(3, a.clone()).expect("regular").solve(&[7.0, 3.0, 13.0]);
        for (left, right) in times(&a, &x).iter().zip([7.0, 3.0, 13.0]) {
            assert!((left - right).abs() < 1e-12);
        }
        assert!(Lu::new(2, vec![1.0, 2.0, 2.0, 4.0]).is_none());
    }

    #[test]
    fn conditioning_is_the_textbook_formula() {
        // two known, one asked: mean S_la S_aa^-1 d, variance S_ll - S_la S_aa^-1 S_al
        let mut matrix = vec![2.0, 0.5, 0.8, 0.5, 1.0, 0.3, 0.8, 0.3, 1.5];
        let mut deviation = vec![0.4, -0.2, 0.0];
        let inverse = [1.0 / 1.75, -0.5 / 1.75, -0.5 / 1.75, 2.0 / 1.75];
        let gain = [0.8 * inverse[0] + 0.3 * inverse[2], 0.8 * inverse[1] + 0.3 * inverse[3]];
        condition(3, 2, &mut matrix, &mut deviation).expect("positive definite");
        assert!((deviation[2] - (gain[0] * 0.4 - gain[1] * 0.2)).abs() < 1e-12);
        assert!((matrix[8] - (1.5 - gain[0] * 0.8 - gain[1] * 0.3)).abs() < 1e-12);
    }
}
