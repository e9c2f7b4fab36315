//! The last step to a meter: takes the counter, signs, and hands a control to the meter's connection.

use std::sync::Arc;

use ed25519_dalek::SigningKey;
use headend::{Headend, PresenceState};
use metering::{Approval, ApprovedControl, Control, ControlKind, Down, MeterId, Timestamp};
use store::{Store, StoreError};

/// What is needed to reach meters.
#[derive(Clone)]
pub struct Dispatch {
    store: Store,
    headend: Arc<Headend>,
    key: SigningKey,
}

impl Dispatch {
    /// Controls are signed with `key`.
    pub fn new(store: Store, headend: Arc<Headend>, key: SigningKey) -> Self {
        Self { store, headend, key }
    }

    /// Whether the meter is connected and listens to controls.
    pub fn is_listening(&self, meter: MeterId) -> bool {
        self.headend.presence(meter) == PresenceState::Listening
    }

    /// The gateway that reports a meter without a connection of its own.
    pub fn gateway_of(&self, meter: MeterId) -> Option<MeterId> {
        self.headend.gateway_of(meter)
    }

    /// Signs and sends; the counter is taken at the sending, so that it grows in the order in which the meter sees controls. Whether the
    /// meter's connection took it.
    pub async fn deliver(
        &self,
        meter: MeterId,
        id: u64,
        kind: ControlKind,
        expires: Timestamp,
        approval: Approval,
    ) -> Result<bool, StoreError> {
        let counter = self.store.next_counter(meter).await?;
        let control = Control { id, kind, expires, counter, signatures: Vec::new() };
        Ok(self.deliver_approved(ApprovedControl::new(meter, control, approval)).await)
    }

    /// Signs and sends what has its counter. Whether the meter's connection took it.
    pub async fn deliver_approved(&self, approved: ApprovedControl) -> bool {
        let approved = approved.signed(&self.key);
        let (meter, id) = (approved.meter(), approved.control().id);
        match self.headend.send(meter, &Down::Control(approved.control().clone())).await {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!(%meter, control = id, %error, "control not delivered");
                false
            }
        }
    }
}
