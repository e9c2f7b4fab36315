//! Meters by SMS: a signed text (`metering::sms`) becomes a frame and goes the way of every other frame, to the same pipeline and
//! the same store. How texts reach this machine is somebody else's: see `inbox.rs`.
//!
//! The number a text comes from proves nothing and is not looked at; its code does. The key is made from the meter's secret
//! and held beside the hash of the secret.

use metering::{
    Body, Frame, MeterEvent, MeterId, ProfileRecord, Timestamp,
    control::ReplyOutcome,
    frame::Profile,
    sms::{Text, TextBody, TextError, TextOrder},
};
use tokio::sync::oneshot;

use crate::{
    Headend,
    counters::Counting,
    delivery::{Batch, Delivery, Outcome},
};

/// Boot number of frames that came by text: no meter counts that far. The sequence number is the counter of the text.
pub const TEXT_BOOT: u64 = 0x0010_5445_5854_0000;

/// What became of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextOutcome {
    /// It was a register or an alert, and is durable.
    Frame(MeterId, Outcome),
    /// It answers the order with this counter.
    Answer(MeterId, u64, ReplyOutcome),
}

/// Why a text was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TextRefused {
    /// Not a genuine text.
    #[error("{0}")]
    NotGenuine(TextError),
    /// The meter is not enrolled here.
    #[error("meter {0} is not enrolled here")]
    Unknown(MeterId),
    /// It was enrolled when the keys of texts were made from what the database holds of a secret.
    #[error("meter {0} has no key for texts: enrol it again, and give it the new secret")]
    NoKey(MeterId),
    /// It is an order, which only a server sends.
    #[error("an order to a meter came to the server: the gateway sends texts back to where they came from")]
    Order,
    /// The pipeline did not store it: offer it again.
    #[error("not stored: offer it again")]
    NotStored,
}

impl Headend {
    /// Takes a text, from whatever number it came.
    pub async fn take_text(&self, line: &str) -> Result<TextOutcome, TextRefused> {
        let result = self.take(line).await;
        let counting = &self.shared.counting;
        Counting::one(match result {
            Ok(_) => &counting.texts_taken,
            Err(TextRefused::NotStored) => &counting.texts_not_stored,
            Err(_) => return result,
        });
        result
    }

    async fn take(&self, line: &str) -> Result<TextOutcome, TextRefused> {
        let meter = Text::meter_of(line.trim()).map_err(TextRefused::NotGenuine)?;
        let credentials = &self.shared.credentials;
        let key = credentials.text_key_of(meter).ok_or_else(|| match credentials.knows(meter) {
            true => TextRefused::NoKey(meter),
            false => TextRefused::Unknown(meter),
        })?;
        let text = Text::read(line, &key).map_err(TextRefused::NotGenuine)?;
        let body = match text.body {
            TextBody::Answer { to, outcome } => return Ok(TextOutcome::Answer(meter, to, outcome)),
            TextBody::Order { .. } => return Err(TextRefused::Order),
            TextBody::Register { end, length, flags, import_wh, export_wh } => {
                let record = ProfileRecord {
                    end,
                    flags,
                    import_wh,
                    export_wh,
                    voltage_mv: None,
                    current_ma: None,
                    extra: Vec::new(),
                    masked: None,
                };
                Body::Profile(Profile { minutes: length.minutes(), records: vec![record] })
            }
            TextBody::Alert { at, kind, import_wh } => {
                Body::Event(MeterEvent { import_wh: Some(import_wh), ..MeterEvent::bare(kind, at) })
            }
        };
        let frame = Frame::new(meter, TEXT_BOOT, text.counter, body);
        let outcome = self.store_text(meter, frame).await.ok_or(TextRefused::NotStored)?;
        Ok(TextOutcome::Frame(meter, outcome))
    }

    async fn store_text(&self, meter: MeterId, frame: Frame) -> Option<Outcome> {
        let delivery = Delivery {
            meter,
            kind: Some(frame.body.kind()),
            payload: frame.to_cbor().into(),
            frame: Ok(frame),
            received: (self.shared.now)(),
            peer: None,
        };
        let (done, committed) = oneshot::channel();
        self.shared.sink.send(Batch { deliveries: vec![delivery], done }).await.ok()?;
        committed.await.ok()?.first().copied()
    }

    /// The text that orders something, to be handed to a gateway; `None` for a meter that is not enrolled. `counter` must be
    /// above that of every order before it.
    pub fn write_order(&self, meter: MeterId, counter: u64, expires: Timestamp, order: TextOrder) -> Option<String> {
        let text = Text { meter, counter, body: TextBody::Order { expires, order } };
        Some(text.write(&self.shared.credentials.text_key_of(meter)?))
    }
}
