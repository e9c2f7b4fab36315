//! Running sums over samples, with a boundary that may cut a sample in two.
//!
//! A sample stands for the cell half a sample either side of it; a boundary inside a cell shares the sample in
//! proportion. Over whole cycles the error is of second order (below 1e-5 of S at 8 kS/s).

/// One simultaneous set of readings, each within 24 bits signed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// Voltage, counts.
    pub v: i32,
    /// Phase current, counts; positive into the consumer's installation.
    pub i: i32,
    /// Neutral current, counts, sign such that it equals the phase current in a sound installation.
    pub n: i32,
}

impl Sample {
    /// Largest magnitude of a reading.
    pub const LIMIT: i32 = (1 << 23) - 1;

    /// The sample with every reading forced into 24 bits.
    #[must_use]
    pub fn clamped(self) -> Self {
        let clamp = |x: i32| x.clamp(-Self::LIMIT, Self::LIMIT);
        Self { v: clamp(self.v), i: clamp(self.i), n: clamp(self.n) }
    }
}

/// Sums of readings and products, in counts and squared counts; `duration_q16` is their length in samples, Q16.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    /// Voltage squared.
    pub vv: i64,
    /// Phase current squared.
    pub ii: i64,
    /// Neutral current squared.
    pub nn: i64,
    /// Voltage times phase current.
    pub vi: i64,
    /// Voltage times neutral current.
    pub vn: i64,
    /// Voltage.
    pub v: i64,
    /// Phase current.
    pub i: i64,
    /// Neutral current.
    pub n: i64,
    /// Length, samples, Q16.
    pub duration_q16: u64,
}

/// Readings of 24 bits that fit a 32-bit sum.
const SHORT_SUM: usize = 128;

#[inline(always)]
fn product(a: i32, b: i32) -> i64 {
    i64::from(a) * i64::from(b)
}

impl Sums {
    /// The part `weight_q16` (0 to 65,536) of one sample.
    pub fn part(s: Sample, weight_q16: u32) -> Self {
        let weigh = |x: i64| (x * i64::from(weight_q16)) >> 16;
        Self {
            vv: weigh(product(s.v, s.v)),
            ii: weigh(product(s.i, s.i)),
            nn: weigh(product(s.n, s.n)),
            vi: weigh(product(s.v, s.i)),
            vn: weigh(product(s.v, s.n)),
            v: weigh(i64::from(s.v)),
            i: weigh(i64::from(s.i)),
            n: weigh(i64::from(s.n)),
            duration_q16: u64::from(weight_q16),
        }
    }

    /// Adds whole samples.
    pub fn add_samples(&mut self, samples: &[Sample]) {
        let (mut vv, mut ii, mut nn, mut vi, mut vn) = (self.vv, self.ii, self.nn, self.vi, self.vn);
        for part in samples.chunks(SHORT_SUM) {
            let (mut v, mut i, mut n) = (0i32, 0i32, 0i32);
            for s in part {
                vv += product(s.v, s.v);
                ii += product(s.i, s.i);
                nn += product(s.n, s.n);
                vi += product(s.v, s.i);
                vn += product(s.v, s.n);
                v += s.v;
                i += s.i;
                n += s.n;
            }
            self.v += i64::from(v);
            self.i += i64::from(i);
            self.n += i64::from(n);
        }
        (self.vv, self.ii, self.nn, self.vi, self.vn) = (vv, ii, nn, vi, vn);
        self.duration_q16 += (samples.len() as u64) << 16;
    }

    /// Mean voltage, counts, over at most 512 samples.
    pub fn v_mean(&self) -> i32 {
        ((self.v << 16) / (self.duration_q16.max(1) as i64)) as i32
    }

    /// Mean square of the voltage about `mean`, squared counts, over at most 300 samples. Sixty-four bits only, because
    /// it runs at every half cycle; the length is rounded to 1/512 sample.
    pub fn mean_square(&self, mean: i32) -> u64 {
        let square = (self.vv.unsigned_abs() << 9) / (self.duration_q16 >> 7).max(1);
        square.saturating_sub((i64::from(mean) * i64::from(mean)).unsigned_abs())
    }

    /// Adds other sums.
    pub fn add(&mut self, o: &Self) {
        self.combine(o, i64::wrapping_add);
        self.duration_q16 += o.duration_q16;
    }

    /// Takes other sums away, which must be part of these.
    pub fn subtract(&mut self, o: &Self) {
        self.combine(o, i64::wrapping_sub);
        self.duration_q16 -= o.duration_q16;
    }

    #[inline(never)]
    fn combine(&mut self, o: &Self, op: fn(i64, i64) -> i64) {
        let fields = [
            (&mut self.vv, o.vv),
            (&mut self.ii, o.ii),
            (&mut self.nn, o.nn),
            (&mut self.vi, o.vi),
            (&mut self.vn, o.vn),
            (&mut self.v, o.v),
            (&mut self.i, o.i),
            (&mut self.n, o.n),
        ];
        for (mine, other) in fields {
            *mine = op(*mine, other);
        }
    }

    /// `sum(ab) − sum(a)·sum(b)/length`: the sum of the product without direct current.
    #[inline(never)]
    fn without_dc(&self, product: i64, a: i64, b: i64) -> i64 {
        if self.duration_q16 == 0 {
            return 0;
        }
        let dc = ((i128::from(a) * i128::from(b)) << 16) / i128::from(self.duration_q16);
        (i128::from(product) - dc) as i64
    }

    /// Voltage squared without direct current.
    pub fn vv_ac(&self) -> i64 {
        self.without_dc(self.vv, self.v, self.v).max(0)
    }

    /// Phase current squared without direct current.
    pub fn ii_ac(&self) -> i64 {
        self.without_dc(self.ii, self.i, self.i).max(0)
    }

    /// Neutral current squared without direct current.
    pub fn nn_ac(&self) -> i64 {
        self.without_dc(self.nn, self.n, self.n).max(0)
    }

    /// Voltage times phase current without direct current.
    pub fn vi_ac(&self) -> i64 {
        self.without_dc(self.vi, self.v, self.i)
    }

    /// Voltage times neutral current without direct current.
    pub fn vn_ac(&self) -> i64 {
        self.without_dc(self.vn, self.v, self.n)
    }
}

#[cfg(all(test, feature = "std"))]
mod tests {
    use super::*;

    #[test]
    fn parts_make_the_whole_and_dc_leaves() {
        let s = Sample { v: -8_000_000, i: 4_000_000, n: 17 };
        let mut sum = Sums::part(s, 20_000);
        sum.add(&Sums::part(s, 45_536));
        assert_eq!(sum.duration_q16, 1 << 16);
        assert!((sum.vv - 64_000_000_000_000).abs() <= 1);
        assert!((sum.vi + 32_000_000_000_000).abs() <= 2);
        // One count of rounding in the mean: a millionth of the square.
        assert!(sum.vv_ac() < 64_000_000 && sum.ii_ac() < 64_000_000 && sum.vi_ac().abs() < 64_000_000);
    }
}
