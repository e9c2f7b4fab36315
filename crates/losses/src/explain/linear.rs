//! The little dense linear algebra the explanation needs: symmetric matrices in full row-major storage.

/// A square matrix.
pub(super) struct Square {
    pub(super) n: usize,
    pub(super) cells: Vec<f64>,
}

impl Square {
    pub(super) fn zero(n: usize) -> Self {
        Self { n, cells: vec![0.0; n * n] }
    }

    pub(super) fn at(&self, i: usize, j: usize) -> f64 {
        self.cells[i * self.n + j]
    }

    /// Adds `w·v·v'` to the upper triangle.
    pub(super) fn add_outer(&mut self, v: &[f64], w: f64) {
        for (i, &vi) in v.iter().enumerate() {
            let factor = w * vi;
            if factor == 0.0 {
                continue;
            }
            let row = &mut self.cells[i * self.n + i..(i + 1) * self.n];
            for (cell, vj) in row.iter_mut().zip(&v[i..]) {
                *cell += factor * vj;
            }
        }
    }

    /// Copies the upper triangle to the lower.
    pub(super) fn mirror(&mut self) {
        for i in 0..self.n {
            for j in 0..i {
                self.cells[i * self.n + j] = self.cells[j * self.n + i];
            }
        }
    }

    /// Eliminates pivot `k` from a symmetric matrix (one step of Gauss–Jordan: the Schur complement of cell (k, k)). A pivot
    /// that is nothing but rounding of `scale` is left alone and `false` returned: the column depends on those gone before.
    pub(super) fn sweep(&mut self, k: usize, scale: f64) -> bool {
        let n = self.n;
        let pivot = self.at(k, k);
        if pivot <= 1e-10 * scale || !pivot.is_finite() {
            return false;
        }
        let row: Vec<f64> = self.cells[k * n..(k + 1) * n].to_vec();
        for i in 0..n {
            let factor = row[i] / pivot;
            if factor == 0.0 || i == k {
                continue;
            }
            for (cell, value) in self.cells[i * n..(i + 1) * n].iter_mut().zip(&row) {
                *cell -= factor * value;
            }
        }
        for j in 0..n {
            self.cells[k * n + j] = 0.0;
            self.cells[j * n + k] = 0.0;
        }
        true
    }
}
