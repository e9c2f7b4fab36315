//! The demonstration's first day as meters send it: one signed frame a home, which carries the root of the day's commitments. When the
//! sums are there, slots are drawn, opened and checked: a custodian who gave a wrong sum of masks would be found.

use std::collections::BTreeMap;

use ed25519_dalek::{Signature, Signer, SigningKey, Verifier};
use metering::MeterId;
use privacy::{
    Field,
    commitment::{CommittedDay, Generators},
    frame::{BYTES_MAX, Day},
    hex::Hex,
    merkle,
    operator::slots_to_check,
    query::{Answer, CheckQuery, Query},
};

use super::{super::CommandError, town::Town};

/// Slots of the day that are checked.
const CHECKED: usize = 3;
/// Header, content type and tag of the TLS 1.3 record around a frame.
const RECORD_BYTES: u64 = 22;

/// What a home has to send of a day.
pub struct HomeDay {
    pub meter: MeterId,
    /// Registered, Wh a slot.
    pub readings: Vec<i64>,
    /// Slots whose readings are there in time; the others are sent later, by themselves.
    pub in_time: Vec<usize>,
}

/// The day's commitments, which stay in the meters, and what the link carried.
#[derive(Default)]
pub struct CommittedDays {
    days: BTreeMap<MeterId, CommittedDay>,
    /// Bytes of all frames.
    pub bytes: u64,
}

impl CommittedDays {
    /// A meter commits to its day, masks it, signs the frame; the operator reads it and keeps what it holds.
    pub fn send(&mut self, town: &mut Town, home: &HomeDay, first: u64) -> Result<(), CommandError> {
        let keys = town.keys.get(&home.meter).ok_or("a meter without keys")?;
        let end = "the counter is at its end";
        let day =
            CommittedDay::new(&Generators::default(), &keys[0], Field::Import, first, &home.readings).ok_or(end)?;
        let (mut present, mut values) = (vec![0_u8; home.readings.len().div_ceil(8)], Vec::new());
        for k in &home.in_time {
            let mut value = home.readings[*k].cast_unsigned();
            for key in keys {
                value = value.wrapping_add(key.mask(Field::Import, 0, first + *k as u64).ok_or(end)?);
            }
            present[k / 8] |= 1 << (k % 8);
            values.extend_from_slice(&value.to_le_bytes());
        }
        let present = if home.in_time.len() == home.readings.len() { &[] } else { present.as_slice() };
        let total = day.total().ok_or("a day without readings")?;
        let field_and_rev = Day::said(Field::Import, 0);
        let frame =
            Day { meter: home.meter, epoch: 1, field_and_rev, first, present, values: &values, root: day.root, total };
        let signer = SigningKey::from_bytes(&town.draws.bytes());
        let mut out = [0; BYTES_MAX];
        let bytes =
            frame.write(&mut out, |parts| signer.sign(&parts.concat()).to_bytes()).map_err(|e| e.to_string())?;
        self.bytes += bytes.len() as u64 + RECORD_BYTES;
        let is_signed = |parts: [&[u8]; 2], signature: &[u8; 64]| {
            signer.verifying_key().verify(&parts.concat(), &Signature::from_bytes(signature)).is_ok()
        };
        let read = Day::read(bytes, is_signed).map_err(|e| e.to_string())?;
        let (new, conflicts) = town.operator.take_day(&read);
        if new != home.in_time.len() || !conflicts.is_empty() {
            return Err(format!("{new} of {} readings of a frame were new", home.in_time.len()).into());
        }
        for (k, x) in home.readings.iter().enumerate().filter(|(k, _)| home.in_time.contains(k)) {
            town.truth.insert((home.meter, Field::Import, first + k as u64), *x);
        }
        self.days.insert(home.meter, day);
        Ok(())
    }

    /// Draws slots of the released sums of the day, opens and checks them: slots checked, and of those whose check held.
    pub fn check(&self, town: &mut Town, query: &Query, sums: &[i64], now: i64) -> Result<(u64, u64), CommandError> {
        let (mut checked, mut held) = (0, 0);
        for slot in slots_to_check(&Hex(town.draws.bytes()), CHECKED, u32::try_from(sums.len())?) {
            let request = town.sign(Query::Check(CheckQuery { of: query.hash(), slot }));
            let answers = town.ask(&request, now)?;
            // meters blind with the key that they share with the first custodian
            let Some(Answer::Blinding(blinding)) = answers.first() else { return Err("no blinding was given".into()) };
            let is_meant = |row: &&privacy::query::Row| {
                slot.checked_sub(row.offset).is_some_and(|k| row.has(usize::try_from(k).unwrap_or(usize::MAX)))
            };
            let mut opened = Vec::new();
            for row in query.rows().iter().filter(is_meant) {
                let day = self.days.get(&row.meter).ok_or("a meter without commitments")?;
                let (leaf, path) = day.open(usize::try_from(slot)?).ok_or("no such slot")?;
                if !merkle::check_inclusion(&merkle::leaf(&leaf), slot.into(), sums.len() as u64, &path, &day.root) {
                    return Err(format!("meter {} opened another reading than it had committed to", row.meter).into());
                }
                opened.push(leaf);
            }
            checked += 1;
            let sum = sums[usize::try_from(slot)?];
            held += u64::from(Generators::default().check_given(&opened, sum, blinding));
        }
        Ok((checked, held))
    }
}
