//! What was counted at one place over a time, by whichever meter hung there: the one reader of past slots for histories, recomputation
//! and synthetic thefts.

use metering::Timestamp;
use registry::{Flow, Installation};
use store::{Store, StoreError, flow};

use super::SLOT;

/// What was counted in each slot that ends at one of `ends` (ascending), before the ratio; `None` where it is not known, where no meter
/// hung for the whole slot, and where one did with another ratio than the last, which this series cannot be told in.
pub async fn series(
    store: &Store,
    installations: &[Installation],
    ends: &[Timestamp],
) -> Result<Vec<Option<Flow>>, StoreError> {
    let mut slots = vec![None; ends.len()];
    let (Some(last), Some(first_end), Some(last_end)) = (installations.last(), ends.first(), ends.last()) else {
        return Ok(slots);
    };
    let length = SLOT.seconds();
    for installation in installations.iter().filter(|i| i.ct_ratio == last.ct_ratio) {
        let from = installation.valid_from.max(first_end.plus(-length));
        let to = installation.valid_to.map_or(*last_end, |to| to.min(*last_end));
        let records = store.profile(installation.meter, from.plus(-1), to).await?;
        for (slot, end) in slots.iter_mut().zip(ends) {
            let begin = end.plus(-length);
            if installation.covers(begin, *end) {
                *slot = flow(&records, begin, *end);
            }
        }
    }
    Ok(slots)
}
