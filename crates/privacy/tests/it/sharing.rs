//! Shares: any t tell nothing, ℓ + t give back, altered ones are corrected up to the bound, linear functions are shares again.

use metering::MeterId;
use privacy::{
    draws::Draws,
    escrow::{self, EscrowError, Secrets},
    hex::Hex,
    ramp::{MODULUS, Ramp, Share, ShareError, accumulate, bytes_all_to_all},
};
use proptest::prelude::*;

fn secrets(draws: &mut Draws, count: usize) -> Vec<u64> {
    (0..count).map(|_| draws.below(u128::from(MODULUS)) as u64).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn altered_and_missing_shares_are_mended(
        seed in any::<[u8; 32]>(), secret_count in 1_usize..5, private in 1_usize..4, beyond in 0_usize..7, lost in 0_usize..7
    ) {
        let mut draws = Draws::new(&seed);
        let parties = secret_count + private + beyond;
        let ramp = Ramp::new(secret_count, private, parties).expect("possible");
        let secrets = secrets(&mut draws, secret_count);
        let mut shares = ramp.share(&secrets, &mut draws).expect("shares");
        let lost = lost.min(beyond);
        for _ in 0..lost {
            let gone = draws.below(shares.len() as u128) as usize;
            shares.remove(gone);
        }
        let corrects = (shares.len() - ramp.needed()) / 2;
        let mut altered: Vec<u8> = Vec::new();
        for share in shares.iter_mut().take(corrects) {
            share.value = (share.value + 1 + draws.below(1_000) as u64) % MODULUS;
            altered.push(share.party);
        }
        let joined = ramp.join(&shares).expect("joins");
        prop_assert_eq!(joined.secrets, secrets);
        prop_assert_eq!(joined.altered, altered);
    }
}

/// For every secret and every pair of parties the pair's shares take every value equally often: checked over all of a small run of
/// the randomness by the linear map being invertible, that is, two secrets explain any two shares.
#[test]
fn private_shares_fit_every_secret() {
    let ramp = Ramp::new(1, 2, 4).expect("possible");
    let mut draws = Draws::new(&[5; 32]);
    let shares = ramp.share(&[123_456], &mut draws).expect("shares");
    for guess in [0, 1, 99, MODULUS - 1] {
        // with any secret there is a polynomial through the two shares: f(z) = r0 + r1 z + guess z², solved for r0, r1
        for pair in [[0, 1], [1, 3], [0, 2]] {
            let (a, b) = (shares[pair[0]], shares[pair[1]]);
            let rest = |s: Share| {
                let z = u64::from(s.party);
                privacy::ramp::sub(s.value, privacy::ramp::mul(guess, privacy::ramp::mul(z, z)))
            };
            let slope = privacy::ramp::mul(
                privacy::ramp::sub(rest(b), rest(a)),
                privacy::ramp::invert(u64::from(b.party) - u64::from(a.party)),
            );
            let base = privacy::ramp::sub(rest(a), privacy::ramp::mul(slope, u64::from(a.party)));
            for s in [a, b] {
                let z = u64::from(s.party);
                let value = privacy::ramp::add(
                    base,
                    privacy::ramp::add(
                        privacy::ramp::mul(slope, z),
                        privacy::ramp::mul(guess, privacy::ramp::mul(z, z)),
                    ),
                );
                assert_eq!(value, s.value);
            }
        }
    }
}

#[test]
fn too_few_or_too_many_altered_shares_are_told() {
    let ramp = Ramp::new(1, 1, 3).expect("possible");
    let mut draws = Draws::new(&[6; 32]);
    let shares = ramp.share(&[42], &mut draws).expect("shares");
    assert_eq!(ramp.join(&shares[..1]), Err(ShareError::TooFew { given: 1, needed: 2 }));
    for two in [[0, 1], [0, 2], [1, 2]] {
        assert_eq!(ramp.join(&two.map(|k| shares[k])).expect("two of three").secrets, [42]);
    }
    let mut altered = shares.clone();
    altered[0].value ^= 1;
    assert_eq!(ramp.join(&altered), Err(ShareError::Altered), "three of three, one altered: seen, not corrected");
    assert_eq!(ramp.join(&[shares[0], shares[0]]), Err(ShareError::Shape));
}

#[test]
fn a_linear_function_of_a_thousand_clients_over_shares() {
    let ramp = Ramp::new(2, 1, 4).expect("possible");
    let mut draws = Draws::new(&[7; 32]);
    let mut sums: Vec<Share> = (1..=4).map(|party| Share { party, value: 0 }).collect();
    let mut truth = [0_u64; 2];
    for client in 0..1_000_u64 {
        let secrets = [draws.below(5_000) as u64, draws.below(5_000) as u64];
        let weight = client % 7;
        for (sum, share) in sums.iter_mut().zip(ramp.share(&secrets, &mut draws).expect("shares")) {
            accumulate(sum, weight, share);
        }
        truth[0] += weight * secrets[0];
        truth[1] += weight * secrets[1];
    }
    // one server is gone: three are enough
    assert_eq!(ramp.join(&sums[..3]).expect("joins").secrets, truth);
}

#[test]
fn bytes_grow_with_the_clients_and_not_with_their_square() {
    let ramp = Ramp::new(2, 1, 4).expect("possible");
    assert_eq!(ramp.bytes_of_sum(1_000), 16_000);
    assert_eq!(ramp.bytes_of_sum(2_000), 2 * ramp.bytes_of_sum(1_000));
    assert_eq!(bytes_all_to_all(1_000), 15_984_000);
    assert!(bytes_all_to_all(2_000) > 3 * bytes_all_to_all(1_000));
}

fn secrets_of(meters: usize) -> Secrets {
    let mut draws = Draws::new(&[11; 32]);
    let mut key = || Hex(draws.bytes());
    let name = |n: usize| MeterId::new(&format!("M-{n}")).expect("valid");
    Secrets {
        noise_key: key(),
        log_key: key(),
        meters: (0..meters).map(|n| (name(n), key())).collect(),
        head: Some("gridtally.custodian/1\n4\n…".into()),
    }
}

#[test]
fn a_custodians_secrets_come_back_from_any_two_of_three() {
    let secrets = secrets_of(40);
    let parts = escrow::split(&secrets, &mut Draws::new(&[12; 32])).expect("shares");
    for pair in [[0, 1], [0, 2], [1, 2], [2, 0]] {
        assert_eq!(escrow::join(&pair.map(|k| parts[k].clone())), Ok((secrets.clone(), Vec::new())));
    }
    assert_eq!(escrow::join(&parts), Ok((secrets.clone(), Vec::new())));
    assert!(matches!(escrow::join(&parts[..1]), Err(EscrowError::Share(ShareError::TooFew { given: 1, needed: 2 }))));
    // an altered one is found among three, and seen among two
    let mut altered = parts.clone();
    altered[1].shares[9] ^= 1;
    assert_eq!(escrow::join(&altered), Ok((secrets.clone(), vec![2])));
    assert_eq!(escrow::join(&altered[..2]), Err(EscrowError::Altered));
    let other = escrow::split(&secrets, &mut Draws::new(&[13; 32])).expect("shares");
    assert_eq!(escrow::join(&[parts[0].clone(), other[1].clone()]), Err(EscrowError::Mixed));
    // a holder's part has no run of the secret in it
    let one: Vec<u8> = parts[0].shares.iter().flat_map(|s| s.to_le_bytes()).collect();
    assert!(!one.windows(6).any(|w| w == &secrets.noise_key.0[..6]));
}
