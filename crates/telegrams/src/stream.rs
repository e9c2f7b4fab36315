//! A stream of bytes to readings: framing, telegram, description, in pieces of any size.

use crate::{
    Fault, Reading, Zone,
    cipher::Keys,
    dlms::{
        push::{self, Notification},
        push_link::Assembler,
        security::CounterGuard,
    },
    framing::{Sink, Splitter, hdlc::HdlcFraming, mbus::MBusFraming, p1::P1, sml, sml::SmlTransport},
    mbus::{Formats, quantity, telegram},
    models::Models,
    p1, sml as sml_telegram,
};

/// What arrives on a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line {
    /// P1, and IEC 62056-21.
    P1,
    /// SML.
    Sml,
    /// DLMS push in HDLC frames.
    PushHdlc,
    /// DLMS push in M-Bus frames.
    PushMBus,
    /// Wired M-Bus.
    MBus,
}

enum Frames {
    P1(Splitter<P1>),
    Sml(Splitter<SmlTransport>),
    PushHdlc(Splitter<HdlcFraming>, Assembler),
    PushMBus(Splitter<MBusFraming>, Assembler),
    MBus(Splitter<MBusFraming>, Formats),
}

/// What a connection knows about its meter.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// Descriptions.
    pub models: &'a Models,
    /// Zone of the meter's clock.
    pub zone: Option<Zone>,
    /// Keys of the meter.
    pub keys: Option<Keys>,
}

/// One telegram's readings, or why there are none.
pub type Outcome = Result<Vec<Reading>, Fault>;

/// A line that is being read.
pub struct Stream<'a> {
    context: Context<'a>,
    frames: Frames,
    guard: CounterGuard,
}

impl<'a> Stream<'a> {
    /// At the beginning.
    pub fn new(line: Line, context: Context<'a>) -> Self {
        let frames = match line {
            Line::P1 => Frames::P1(Splitter::new(P1)),
            Line::Sml => Frames::Sml(Splitter::new(SmlTransport)),
            Line::PushHdlc => Frames::PushHdlc(Splitter::new(HdlcFraming), Assembler::new()),
            Line::PushMBus => Frames::PushMBus(Splitter::new(MBusFraming), Assembler::new()),
            Line::MBus => Frames::MBus(Splitter::new(MBusFraming), Formats::default()),
        };
        Self { context, frames, guard: CounterGuard::default() }
    }

    /// More bytes; what they complete goes to `sink`.
    pub fn push(&mut self, bytes: &[u8], sink: &mut dyn FnMut(Outcome)) {
        self.feed(Some(bytes), sink);
    }

    /// The stream has ended.
    pub fn end(&mut self, sink: &mut dyn FnMut(Outcome)) {
        self.feed(None, sink);
    }

    fn feed(&mut self, bytes: Option<&[u8]>, sink: &mut dyn FnMut(Outcome)) {
        let Self { context, frames, guard } = self;
        match frames {
            Frames::P1(splitter) => feed(splitter, bytes, &mut |frame| {
                sink(frame.and_then(|frame| p1::decode_next(frame, context.zone, context.keys.as_ref(), guard)));
            }),
            Frames::Sml(splitter) => feed(splitter, bytes, &mut |frame| {
                sink(frame.and_then(|frame| sml_readings(frame, context.models)));
            }),
            Frames::PushHdlc(splitter, assembler) => feed(splitter, bytes, &mut |frame| {
                let apdu = assembled(frame, assembler, Assembler::hdlc);
                apdu.map(|apdu| apdu.and_then(|apdu| notification(&apdu, *context, guard)))
                    .into_iter()
                    .for_each(&mut *sink);
            }),
            Frames::PushMBus(splitter, assembler) => feed(splitter, bytes, &mut |frame| {
                let apdu = assembled(frame, assembler, |assembler, frame| {
                    let bad = Fault::structure("an M-Bus frame without data");
                    assembler.mbus(crate::framing::mbus::user_data(frame).ok_or(bad)?.2)
                });
                apdu.map(|apdu| apdu.and_then(|apdu| notification(&apdu, *context, guard)))
                    .into_iter()
                    .for_each(&mut *sink);
            }),
            Frames::MBus(splitter, formats) => feed(splitter, bytes, &mut |frame| {
                let key = context.keys.map(|keys| keys.encryption);
                sink(frame.and_then(|frame| {
                    let telegram = telegram::wired(frame, key.as_ref(), formats)?;
                    quantity::wired(&telegram)
                }));
            }),
        }
    }
}

fn feed<F: crate::framing::Framing>(splitter: &mut Splitter<F>, bytes: Option<&[u8]>, sink: &mut Sink<'_>) {
    match bytes {
        Some(bytes) => splitter.push(bytes, sink),
        None => splitter.end(sink),
    }
}

/// A whole APDU, or a fault; `None` while segments are missing.
fn assembled(
    frame: Result<&[u8], Fault>,
    assembler: &mut Assembler,
    add: impl FnOnce(&mut Assembler, &[u8]) -> Result<Option<Vec<u8>>, Fault>,
) -> Option<Result<Vec<u8>, Fault>> {
    match frame.and_then(|frame| add(assembler, frame)) {
        Ok(apdu) => apdu.map(Ok),
        Err(fault) => {
            assembler.reset();
            Some(Err(fault))
        }
    }
}

/// The readings of one SML frame.
pub fn sml_readings(frame: &[u8], models: &Models) -> Outcome {
    let contents = sml::contents(frame)?;
    let lists = sml_telegram::lists(&contents)?;
    let readings = lists.iter().flat_map(|list| {
        let quirk = models.sml(list.server).map(crate::models::Model::quirk).unwrap_or_default();
        sml_telegram::readings(list, quirk)
    });
    Ok(readings.collect())
}

/// The readings of one pushed APDU.
pub fn notification(apdu: &[u8], context: Context<'_>, guard: &mut CounterGuard) -> Outcome {
    let (plain, opened) = push::plain(apdu, context.keys.as_ref())?;
    let parsed = Notification::parse(&plain);
    // Without a tag, sense to the last byte is the only proof of the key.
    let notification = parsed.ok_or_else(|| match &opened {
        Some(_) => Fault::WrongKey,
        None => Fault::structure("a notification that does not end where it says"),
    })?;
    if let Some(opened) = &opened {
        guard.accept(opened.counter)?;
    }
    let model = context.models.push(&notification, opened.and_then(|opened| opened.title));
    let plain_layout = push::Layout { trust_clock: true, ..push::Layout::default() };
    let layout = match model {
        Some(model) => model.layout(),
        None if notification.is_self_contained() => &plain_layout,
        None => return Err(Fault::ModelUnknown(notification.shown())),
    };
    Ok(notification.readings(layout, context.zone))
}
