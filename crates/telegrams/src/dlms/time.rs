//! Date and time of DLMS/COSEM: 12 bytes, `FF` for what is not given.

use metering::Timestamp;

use crate::{
    bytes::Cursor,
    zone::{Season, Zone},
};

/// A deviation of "not specified".
const UNSPECIFIED: i16 = i16::MIN;

/// A clock's reading with what it says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DateTime {
    /// Local civil time, as if it were UTC.
    pub local: Timestamp,
    /// Minutes to add to local time to get UTC; `None` when not specified.
    pub deviation: Option<i16>,
    /// Clock status byte: 80 summer time, 01 02 04 08 not to be trusted; FF not specified.
    pub status: u8,
}

impl DateTime {
    /// Reads 12 bytes; `None` when year, month, day, hour or minute are not given or cannot be.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let mut cursor = Cursor::new(bytes);
        let year = i64::from(cursor.u16().filter(|year| *year != 0xFFFF)?);
        let (month, day, _weekday) = (i64::from(cursor.u8()?), i64::from(cursor.u8()?), cursor.u8()?);
        let (hour, minute, second) = (i64::from(cursor.u8()?), i64::from(cursor.u8()?), i64::from(cursor.u8()?));
        let _hundredths = cursor.u8()?;
        let deviation = i16::from_be_bytes(cursor.array()?);
        let status = cursor.u8()?;
        cursor.is_empty().then_some(())?;
        let second = if second == 0xFF { 0 } else { second };
        let local = Timestamp::from_civil((year, month, day), (hour, minute, second))?;
        let deviation = (deviation != UNSPECIFIED && (-840..=840).contains(&deviation)).then_some(deviation);
        Some(Self { local, deviation, status })
    }

    /// The instant. Without a deviation the zone of the description decides; without both there is no usable time.
    pub fn to_utc(self, zone: Option<Zone>) -> Option<Timestamp> {
        if let Some(deviation) = self.deviation {
            return Some(self.local.plus(i64::from(deviation) * 60));
        }
        let season = match self.status {
            0xFF => Season::Unsaid,
            status if status & 0x80 != 0 => Season::Summer,
            // A status of zero comes from meters that never set it.
            _ => Season::Unsaid,
        };
        Some(zone?.to_utc(self.local, season))
    }

    /// Whether the meter itself doubts its clock.
    pub fn is_doubtful(self) -> bool {
        self.status != 0xFF && self.status & 0x0F != 0
    }

    /// The 12 bytes of an instant in UTC.
    pub fn encode_utc(at: Timestamp) -> [u8; 12] {
        let (year, month, day) = at.civil();
        let second = at.second_of_day();
        let small = |value: i64| u8::try_from(value).unwrap_or(0xFF);
        let [high, low] = u16::try_from(year).unwrap_or(0xFFFF).to_be_bytes();
        // 1970-01-01 was a Thursday; Monday is 1.
        let weekday = small((at.day() + 3).rem_euclid(7) + 1);
        let time = [small(second / 3_600), small(second / 60 % 60), small(second % 60)];
        [high, low, small(month), small(day), weekday, time[0], time[1], time[2], 0, 0, 0, 0]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn deviations_and_zones() {
        let summer = [0x07, 0xE7, 4, 1, 6, 21, 32, 35, 0, 0xFF, 0x88, 0x80];
        let time = DateTime::parse(&summer).expect("whole");
        assert_eq!(time.to_utc(None).map(|t| t.to_string()).as_deref(), Some("2023-04-01T19:32:35Z"));
        let unsaid = [0x07, 0xE1, 8, 16, 3, 16, 0, 5, 0xFF, 0x80, 0, 0];
        let time = DateTime::parse(&unsaid).expect("whole");
        assert_eq!(time.to_utc(None), None);
        let oslo = Zone::named("Europe/Oslo");
        assert_eq!(time.to_utc(oslo).map(|t| t.to_string()).as_deref(), Some("2017-08-16T14:00:05Z"));
        assert_eq!(DateTime::parse(&[0xFF; 12]), None);
    }

    #[test]
    fn an_instant_survives() {
        let at = Timestamp(1_767_225_600);
        assert_eq!(DateTime::parse(&DateTime::encode_utc(at)).and_then(|t| t.to_utc(None)), Some(at));
    }
}
