//! Orders that change what a custodian knows: a group's members, a meter's erasure. The operator signs them; its door lets in whoever has
//! a certificate, which a fitter or a stolen machine has too.
//!
//! A group's order names how many changes the group had before: an older order sent again names a number that is past, so nobody puts last
//! month's members back. An erasure cannot be taken back and destroys what a bill or a theft case could be checked with, so a person of the
//! policy approves it besides; sent again it changes nothing.

use ed25519_dalek::{Signer, SigningKey};
use metering::MeterId;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{
    hex::Hex,
    json,
    query::{Approval, approval_bytes},
};

/// A group has these members from the next UTC day on; none: it is dissolved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupOrder {
    /// Which group.
    pub group: String,
    /// Its members.
    pub members: Vec<MeterId>,
    /// Changes that the group had before this one: 0 for a new group.
    pub number: u64,
    /// By the operator's key over [`GroupOrder::signed_bytes`].
    pub signature: Hex<64>,
}

impl GroupOrder {
    /// Signs an order.
    pub fn sign(group: &str, members: Vec<MeterId>, number: u64, key: &SigningKey) -> Self {
        let mut order = Self { group: group.to_owned(), members, number, signature: Hex([0; 64]) };
        order.signature = Hex(key.sign(&order.signed_bytes()).to_bytes());
        order
    }

    /// What is signed: `gridtally group 1` and the JSON of group, members and number.
    pub fn signed_bytes(&self) -> Vec<u8> {
        let mut bytes = b"gridtally group 1 ".to_vec();
        json::append(&mut bytes, &(&self.group, &self.members, self.number));
        bytes
    }
}

/// A meter's keys are erased for good.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ErasureOrder {
    /// Which meter.
    pub meter: MeterId,
    /// By the operator's key over [`ErasureOrder::signed_bytes`].
    pub signature: Hex<64>,
    /// Who approved it: one person of the policy at least.
    pub approvals: Vec<Approval>,
}

impl ErasureOrder {
    /// Signs an order.
    pub fn sign(meter: MeterId, key: &SigningKey) -> Self {
        let mut order = Self { meter, signature: Hex([0; 64]), approvals: Vec::new() };
        order.signature = Hex(key.sign(&order.signed_bytes()).to_bytes());
        order
    }

    /// With a person's approval.
    #[must_use]
    pub fn approved(mut self, person: &str, expires: i64, key: &SigningKey) -> Self {
        let signature = Hex(key.sign(&approval_bytes(&self.hash(), expires)).to_bytes());
        self.approvals.push(Approval { person: person.to_owned(), expires, signature });
        self
    }

    /// What is signed: `gridtally erasure 1` and the meter's name.
    pub fn signed_bytes(&self) -> Vec<u8> {
        [b"gridtally erasure 1 ".as_slice(), self.meter.as_str().as_bytes()].concat()
    }

    /// SHA-256 of what is signed: its name in approvals.
    pub fn hash(&self) -> Hex<32> {
        Hex(Sha256::digest(self.signed_bytes()).into())
    }
}
