//! The last step to a meter: takes the counter, signs, and hands a control to the meter's connection.

use std::{future::poll_fn, pin::Pin, sync::Arc, task::Poll};

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

/// Whether the deciding task waits until a meter has acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waiting {
    /// In simulated time, which stands still meanwhile.
    ForTheMeter,
    /// A meter that never acknowledges must not hold up what others need: its acknowledgement is awaited beside.
    ForNobody,
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

    /// Takes the counter, just before the sending, so that it grows in the order in which the meter sees controls.
    pub async fn prepare(
        &self,
        meter: MeterId,
        id: u64,
        kind: ControlKind,
        expires: Timestamp,
        approval: Approval,
    ) -> Result<ApprovedControl, StoreError> {
        let counter = self.store.next_counter(meter).await?;
        let control = Control { id, kind, expires, counter, signatures: Vec::new() };
        Ok(ApprovedControl::new(meter, control, approval))
    }

    /// Signs and sends what has its counter. Whether the meter's connection took it, as far as that is known by then.
    pub async fn deliver_approved(&self, approved: ApprovedControl, waiting: Waiting) -> bool {
        let approved = approved.signed(&self.key);
        let (meter, id, down) = (approved.meter(), approved.control().id, Down::Control(approved.control().clone()));
        let headend = self.headend.clone();
        let sending = async move {
            let sent = headend.send(meter, &down).await;
            if let Err(error) = &sent {
                tracing::warn!(%meter, control = id, %error, "control not delivered");
            }
            sent.is_ok()
        };
        match waiting {
            Waiting::ForTheMeter => sending.await,
            Waiting::ForNobody => {
                let mut sending: Pin<Box<dyn Future<Output = bool> + Send>> = Box::pin(sending);
                // The first poll puts it into the connection's queue, in the order of the counters; the rest is waiting, which the head-end
                // bounds for each frame and the queue for each meter.
                match poll_fn(|context| Poll::Ready(sending.as_mut().poll(context))).await {
                    Poll::Ready(sent) => sent,
                    Poll::Pending => {
                        tokio::spawn(sending);
                        true
                    }
                }
            }
        }
    }
}
