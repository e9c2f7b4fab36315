//! Ramp secret sharing by nested Reed–Solomon codes (after Thobaben, Dán and Sandberg 2014): escrow of keys, sealed archives and
//! linear functions over shares.
//!
//! Secrets `s_0 … s_{ℓ−1}` and uniform `r_0 … r_{t−1}` in GF(2^61 − 1) are the coefficients of one polynomial
//! `f(z) = Σ r_j z^j + z^t Σ s_j z^j`; party `i` holds `f(i)`, `i = 1 … n`. The codewords of the random part alone are a
//! Reed–Solomon code inside the code of all `f`; the secret is the coset. Any `t` shares are uniform whatever the secret is (a
//! Vandermonde matrix is invertible); any `ℓ + t` shares give it back; `n` shares correct `⌊(n − ℓ − t)/2⌋` altered ones, twice as
//! many missing ones. Between `t` and `ℓ + t` shares leak partially. Sums and multiples of shares are shares of the sums and
//! multiples: each client sends one element per server and ℓ secrets, so the bytes grow with the number of clients and not with
//! its square. Products of shares are not offered.

use crate::draws::Draws;

/// The field's modulus, the Mersenne prime 2^61 − 1.
pub const MODULUS: u64 = (1 << 61) - 1;
/// Most parties of one sharing.
pub const PARTIES_MAX: usize = 255;

/// Why shares cannot be made or joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ShareError {
    /// No secret, no privacy, or too few or too many parties.
    #[error(
        "a sharing needs at least one secret, one private share, secrets + private shares ≤ parties, and at most 255 parties"
    )]
    Shape,
    /// A number of 2^61 − 1 or more.
    #[error("a secret must be smaller than 2^61 - 1; divide longer ones into 7-byte parts")]
    Range,
    /// Fewer shares than secrets and private shares together.
    #[error("{given} shares are not enough, {needed} are needed")]
    TooFew {
        /// Usable shares.
        given: usize,
        /// Secrets plus private shares.
        needed: usize,
    },
    /// The shares contradict each other in more places than can be corrected.
    #[error("the shares contradict each other in more places than can be corrected; find an unaltered copy of some")]
    Altered,
}

fn reduce(x: u128) -> u64 {
    let m = u128::from(MODULUS);
    let once = (x & m) + (x >> 61);
    let twice = (once & m) + (once >> 61);
    // fits: both parts together are at most the modulus
    let low = u64::try_from(twice).unwrap_or(0);
    if low >= MODULUS { low - MODULUS } else { low }
}

/// Sum in the field.
pub fn add(a: u64, b: u64) -> u64 {
    reduce(u128::from(a) + u128::from(b))
}

/// Difference in the field.
pub fn sub(a: u64, b: u64) -> u64 {
    reduce(u128::from(a) + u128::from(MODULUS - b))
}

/// Product in the field.
pub fn mul(a: u64, b: u64) -> u64 {
    reduce(u128::from(a) * u128::from(b))
}

/// Inverse in the field, by Fermat; 0 has none and gives 0.
pub fn invert(a: u64) -> u64 {
    let (mut base, mut exponent, mut power) = (a, MODULUS - 2, 1);
    while exponent > 0 {
        if exponent & 1 == 1 {
            power = mul(power, base);
        }
        base = mul(base, base);
        exponent >>= 1;
    }
    power
}

/// The shape of a sharing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ramp {
    secrets: usize,
    private: usize,
    parties: usize,
}

/// A share: the party's number from 1, and its element.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Share {
    /// Party.
    pub party: u8,
    /// Element of the field.
    pub value: u64,
}

/// Secrets given back, and the parties whose shares had been altered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joined {
    /// The secrets.
    pub secrets: Vec<u64>,
    /// Parties with altered shares.
    pub altered: Vec<u8>,
}

impl Ramp {
    /// `secrets` per polynomial (ℓ), any `private` shares (t) tell nothing, `parties` (n) hold one share each.
    ///
    /// # Errors
    /// [`ShareError::Shape`].
    pub fn new(secrets: usize, private: usize, parties: usize) -> Result<Self, ShareError> {
        let is_possible = secrets > 0 && private > 0 && parties <= PARTIES_MAX && secrets + private <= parties;
        is_possible.then_some(Self { secrets, private, parties }).ok_or(ShareError::Shape)
    }

    /// Shares that give the secrets back.
    pub const fn needed(&self) -> usize {
        self.secrets + self.private
    }

    /// Altered shares that are corrected when all are there.
    pub const fn corrects(&self) -> usize {
        (self.parties - self.needed()) / 2
    }

    /// Bytes that `clients` send, when each shares one number with the servers: eight per server, ℓ numbers packed.
    pub fn bytes_of_sum(&self, clients: u64) -> u64 {
        clients * self.parties as u64 * 8 / self.secrets as u64
    }

    /// Shares ℓ secrets.
    ///
    /// # Errors
    /// [`ShareError::Shape`] for another number of secrets, [`ShareError::Range`].
    pub fn share(&self, secrets: &[u64], draws: &mut Draws) -> Result<Vec<Share>, ShareError> {
        if secrets.len() != self.secrets {
            return Err(ShareError::Shape);
        }
        if secrets.iter().any(|s| *s >= MODULUS) {
            return Err(ShareError::Range);
        }
        let random = core::iter::repeat_with(|| u64::try_from(draws.below(u128::from(MODULUS))).unwrap_or(0));
        let polynomial: Vec<u64> = random.take(self.private).chain(secrets.iter().copied()).collect();
        let parties = (1..=PARTIES_MAX).take(self.parties).filter_map(|i| u8::try_from(i).ok());
        Ok(parties.map(|party| Share { party, value: value_at(&polynomial, u64::from(party)) }).collect())
    }

    /// Joins shares; corrects altered ones up to half of what is there beyond the need.
    ///
    /// # Errors
    /// [`ShareError::TooFew`], [`ShareError::Altered`], [`ShareError::Shape`] for a party named twice or unknown.
    pub fn join(&self, shares: &[Share]) -> Result<Joined, ShareError> {
        let needed = self.needed();
        let mut parties: Vec<u8> = shares.iter().map(|s| s.party).collect();
        parties.sort_unstable();
        let is_known = parties.iter().all(|p| *p >= 1 && usize::from(*p) <= self.parties);
        if !is_known || parties.windows(2).any(|w| w[0] == w[1]) || shares.iter().any(|s| s.value >= MODULUS) {
            return Err(ShareError::Shape);
        }
        if shares.len() < needed {
            return Err(ShareError::TooFew { given: shares.len(), needed });
        }
        let polynomial = decode(shares, needed).ok_or(ShareError::Altered)?;
        let is_altered = |s: &&Share| value_at(&polynomial, u64::from(s.party)) != s.value;
        let altered: Vec<u8> = shares.iter().filter(is_altered).map(|s| s.party).collect();
        if altered.len() > (shares.len() - needed) / 2 {
            return Err(ShareError::Altered);
        }
        let mut secrets = polynomial[self.private.min(polynomial.len())..].to_vec();
        secrets.resize(self.secrets, 0);
        Ok(Joined { secrets, altered })
    }
}

/// Adds `weight · share` of the same party into `sum`: a linear function over shares.
pub fn accumulate(sum: &mut Share, weight: u64, share: Share) {
    debug_assert_eq!(sum.party, share.party);
    sum.value = add(sum.value, mul(weight, share.value));
}

/// Bytes that `clients` send when each shares its number with every other one (the all-to-all scheme of Ben-Or, Goldwasser and
/// Wigderson): one message to share, one to tell the share of the sum.
pub const fn bytes_all_to_all(clients: u64) -> u64 {
    2 * clients * clients.saturating_sub(1) * 8
}

fn value_at(polynomial: &[u64], at: u64) -> u64 {
    polynomial.iter().rev().fold(0, |sum, c| add(mul(sum, at), *c))
}

/// Gao's decoder: interpolate all points, then the extended Euclidean algorithm with `Π (z − i)` until the remainder is short.
fn decode(shares: &[Share], needed: usize) -> Option<Vec<u64>> {
    let n = shares.len();
    let points: Vec<u64> = shares.iter().map(|s| u64::from(s.party)).collect();
    let mut all = vec![1];
    for p in &points {
        all = multiply(&all, &[sub(0, *p), 1]);
    }
    let mut through = vec![0; n];
    for (share, p) in shares.iter().zip(&points) {
        let basis = divide(&all, &[sub(0, *p), 1])?.0;
        let scale = mul(share.value, invert(value_at(&basis, *p)));
        for (sum, b) in through.iter_mut().zip(&basis) {
            *sum = add(*sum, mul(scale, *b));
        }
    }
    let (mut r0, mut r1) = (all, trimmed(through));
    let (mut v0, mut v1) = (vec![0], vec![1]);
    while 2 * r1.len() > n + needed + 1 {
        let (quotient, rest) = divide(&r0, &r1)?;
        let v2 = subtract(&v0, &multiply(&quotient, &v1));
        (r0, r1) = (r1, rest);
        (v0, v1) = (v1, v2);
    }
    let (polynomial, rest) = divide(&r1, &v1)?;
    (rest.iter().all(|c| *c == 0) && polynomial.len() <= needed).then_some(polynomial)
}

fn trimmed(mut p: Vec<u64>) -> Vec<u64> {
    while p.len() > 1 && p.last() == Some(&0) {
        p.pop();
    }
    p
}

fn multiply(a: &[u64], b: &[u64]) -> Vec<u64> {
    let mut product = vec![0; a.len() + b.len() - 1];
    for (i, x) in a.iter().enumerate() {
        for (j, y) in b.iter().enumerate() {
            product[i + j] = add(product[i + j], mul(*x, *y));
        }
    }
    trimmed(product)
}

fn subtract(a: &[u64], b: &[u64]) -> Vec<u64> {
    let at = |p: &[u64], i: usize| p.get(i).copied().unwrap_or(0);
    trimmed((0..a.len().max(b.len())).map(|i| sub(at(a, i), at(b, i))).collect())
}

/// Quotient and rest; `None` when the divisor is zero.
fn divide(a: &[u64], b: &[u64]) -> Option<(Vec<u64>, Vec<u64>)> {
    let b = trimmed(b.to_vec());
    let lead = *b.last()?;
    if lead == 0 {
        return None;
    }
    let mut rest = a.to_vec();
    let mut quotient = vec![0; a.len().saturating_sub(b.len()) + 1];
    let inverse = invert(lead);
    for shift in (0..quotient.len()).rev() {
        let Some(top) = rest.get(shift + b.len() - 1).copied() else { continue };
        let factor = mul(top, inverse);
        quotient[shift] = factor;
        for (i, c) in b.iter().enumerate() {
            rest[shift + i] = sub(rest[shift + i], mul(factor, *c));
        }
    }
    rest.truncate((b.len() - 1).max(1));
    Some((trimmed(quotient), trimmed(rest)))
}
