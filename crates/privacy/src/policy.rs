//! The custodian's policy: who may ask, who approves, floors, periods and budgets. A file that people read and sign off.

use serde::{Deserialize, Serialize};

use crate::{hex::Hex, query::Purpose};

/// Who runs the custodian; shown wherever its answers are shown, because masks hide nothing within one organisation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TrustModel {
    /// A separate role within the utility.
    Trusted,
    /// Another legal entity.
    Split,
}

/// A person who may approve.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Approver {
    /// Name.
    pub person: String,
    /// Employer.
    pub organisation: String,
    /// Ed25519 public key.
    pub key: Hex<32>,
}

/// A budget of ε in millionths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Budget {
    /// For one home and day.
    pub home_day_micro: u64,
    /// For one home in 365 days.
    pub home_year_micro: u64,
}

/// The policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// Who runs the custodian.
    pub trust: TrustModel,
    /// The operator's Ed25519 key: every request is signed with it.
    pub operator_key: Hex<32>,
    /// Signs the registers of tariffs.
    pub tariff_key: Hex<32>,
    /// Keys of meter manufacturers; one of them signs each meter's key.
    pub manufacturer_keys: Vec<Hex<32>>,
    /// Keys of installers; one of them signs where a meter was installed.
    pub installer_keys: Vec<Hex<32>>,
    /// Who approves.
    #[serde(default)]
    pub approvers: Vec<Approver>,
    /// Fewest homes in a released sum.
    #[serde(default = "defaults::floor")]
    pub floor: u32,
    /// Slots of a day.
    #[serde(default = "defaults::day_slots")]
    pub day_slots: u32,
    /// Shortest period of a bill, days.
    #[serde(default = "defaults::period_days")]
    pub bill_days_min: u32,
    /// Most registers of a meter that are released for overlapping periods.
    #[serde(default = "defaults::registers")]
    pub registers_max: u32,
    /// Fewest slots that any combination of released numbers may depend on.
    #[serde(default = "defaults::day_slots")]
    pub support_min: u32,
    /// Fewest slots by which the weights of two homes' sums over time may differ where they overlap.
    #[serde(default = "defaults::twin_support")]
    pub twin_support_min: u32,
    /// Most slots of an unmasked curve.
    #[serde(default = "defaults::unmask_slots")]
    pub unmask_slots_max: u32,
    /// Longest delay of the customer's notice, days.
    #[serde(default = "defaults::notice_days")]
    pub notice_days_max: u32,
    /// Theft cases per home in 365 days.
    #[serde(default = "defaults::cases")]
    pub theft_cases_max: u32,
    /// A theft case needs this share of the group's energy missing, thousandths, …
    #[serde(default = "defaults::alarm_permille")]
    pub alarm_permille: u32,
    /// … or this much a day, Wh, whichever is less.
    #[serde(default = "defaults::alarm_wh")]
    pub alarm_wh_day: u32,
    /// Allowance of the clipped field a day, Wh; set in the meters.
    #[serde(default = "defaults::clip_day")]
    pub clip_day_wh: u32,
    /// Allowance of the clipped field a slot, Wh; set in the meters.
    #[serde(default = "defaults::clip_slot")]
    pub clip_slot_wh: u32,
    /// Budget of research.
    #[serde(default = "defaults::research")]
    pub research: Budget,
    /// Budget of public maps.
    #[serde(default = "defaults::public_map")]
    pub public_map: Budget,
    /// Budget of theft cases.
    #[serde(default = "defaults::theft")]
    pub theft: Budget,
}

mod defaults {
    use super::Budget;

    pub(super) const fn floor() -> u32 {
        15
    }
    pub(super) const fn day_slots() -> u32 {
        96
    }
    pub(super) const fn period_days() -> u32 {
        7
    }
    pub(super) const fn registers() -> u32 {
        8
    }
    pub(super) const fn twin_support() -> u32 {
        16
    }
    pub(super) const fn unmask_slots() -> u32 {
        31 * 96
    }
    pub(super) const fn notice_days() -> u32 {
        30
    }
    pub(super) const fn cases() -> u32 {
        2
    }
    pub(super) const fn alarm_permille() -> u32 {
        30
    }
    pub(super) const fn alarm_wh() -> u32 {
        5_000
    }
    pub(super) const fn clip_day() -> u32 {
        20_000
    }
    pub(super) const fn clip_slot() -> u32 {
        2_000
    }
    pub(super) const fn research() -> Budget {
        Budget { home_day_micro: 1_000_000, home_year_micro: 12_000_000 }
    }
    pub(super) const fn public_map() -> Budget {
        Budget { home_day_micro: 1_000_000, home_year_micro: 12_000_000 }
    }
    pub(super) const fn theft() -> Budget {
        Budget { home_day_micro: 4_000_000, home_year_micro: 8_000_000 }
    }
}

/// Why a policy cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// Below what any policy may say.
    #[error(
        "floor = {0} is too low: a sum of fewer than 10 homes tells too much of each; set 10 or more (15 is usual)"
    )]
    Floor(u32),
    /// A number that must not be zero.
    #[error("{0} must not be 0")]
    Zero(&'static str),
    /// Two people cannot approve what needs two.
    #[error("the approver '{0}' is named twice")]
    Twice(String),
    /// Nobody could enrol a meter.
    #[error("manufacturer_keys and installer_keys must each hold a key: the custodian enrols meters itself")]
    Enrolment,
}

impl Policy {
    /// Checks what the types do not.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn check(&self) -> Result<(), PolicyError> {
        if self.floor < 10 {
            return Err(PolicyError::Floor(self.floor));
        }
        let positive = [
            ("day_slots", self.day_slots),
            ("bill_days_min", self.bill_days_min),
            ("support_min", self.support_min),
            ("twin_support_min", self.twin_support_min),
            ("clip_day_wh", self.clip_day_wh),
            ("clip_slot_wh", self.clip_slot_wh),
        ];
        if let Some((name, _)) = positive.iter().find(|(_, value)| *value == 0) {
            return Err(PolicyError::Zero(name));
        }
        for (k, approver) in self.approvers.iter().enumerate() {
            let is_known = |a: &Approver| a.person == approver.person || a.key == approver.key;
            if self.approvers[..k].iter().any(is_known) {
                return Err(PolicyError::Twice(approver.person.clone()));
            }
        }
        if self.manufacturer_keys.is_empty() || self.installer_keys.is_empty() {
            return Err(PolicyError::Enrolment);
        }
        Ok(())
    }

    /// The budget of a purpose.
    pub const fn budget(&self, purpose: Purpose) -> Budget {
        match purpose {
            Purpose::Research => self.research,
            Purpose::PublicMap => self.public_map,
            Purpose::Theft => self.theft,
        }
    }
}
