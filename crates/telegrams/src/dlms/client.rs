//! The client's half of a DLMS conversation, without a socket: APDUs to send, and what the answers mean.
//!
//! One request at a time. Everything the AARE says binds: services, the meter's longest APDU, its system title. The meter's answer to
//! our challenge is checked before anything is asked; its invocation counters must grow.

use alloc::vec::Vec;

use super::{
    acse::{Association, InitiateRequest, InitiateResponse, RELEASE_REQUEST, conformance},
    apdu::{INVOKE, Request, Response, Selection, Target, access_result, is_protected, protected_tag},
    axdr::{Value, length, put_length},
    push_link::Block,
    security::{self, CounterGuard, OwnCounter, SystemTitle},
    short_names::{Answer, LIST_NAME, Names, Read},
};
use crate::{Fault, bytes::Cursor, cipher::Keys};

/// How the client proves who it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Authentication {
    /// Public client.
    None,
    /// A password.
    Lls(Vec<u8>),
    /// Challenge and answer with GMAC, everything ciphered.
    HlsGmac {
        /// Global keys.
        keys: Keys,
        /// Our system title.
        title: SystemTitle,
        /// A challenge of ours, 8 to 64 random bytes.
        challenge: Vec<u8>,
        /// Security suite, 0 or 1.
        suite: u8,
    },
}

/// Longest value that is put together from blocks, in bytes.
pub const VALUE_MAX: usize = 1024 * 1024;
/// Most blocks of one value.
const BLOCKS_MAX: u32 = 65_536;

/// What an answer led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Send this, then wait.
    Send(Vec<u8>),
    /// More comes without being asked for: wait.
    Wait,
    /// The association is open.
    Opened,
    /// The encoded value that was asked for.
    Value(Vec<u8>),
    /// The meter refuses: data access result.
    Refused(u8),
    /// It took the value or the call: 0 success. Success is acceptance, not effect.
    Done(u8, Option<Vec<u8>>),
    /// The association is closed.
    Closed,
}

/// A client and its association.
#[derive(Clone, Debug)]
pub struct Client {
    authentication: Authentication,
    max_pdu: u16,
    counter: OwnCounter,
    guard: CounterGuard,
    meter_title: Option<SystemTitle>,
    agreed: Option<InitiateResponse>,
    is_open: bool,
    received: Vec<u8>,
    next_block: u32,
    pieces: Vec<u8>,
    next_piece: u16,
    /// Pieces that were asked for again.
    lost_pieces: u8,
    /// Short names, when they are used.
    names: Option<Names>,
    /// A long value on its way to the meter.
    outgoing: Option<Outgoing>,
}

#[derive(Clone, Debug)]
struct Outgoing {
    value: Vec<u8>,
    done: usize,
    number: u32,
}

/// Pieces that are asked for again before it is given up.
const LOST_PIECES_MAX: u8 = 16;
/// Headers of a request with a block, and of its protection.
const OVERHEAD: usize = 24 + 32;

const ASSOCIATION: Target = Target { class: 15, obis: [0, 0, 40, 0, 0, 255], index: 1 };

impl Client {
    /// Before an association. `counter` must have counters reserved when ciphering is used; `last_heard` is the meter's highest
    /// counter of earlier associations.
    pub fn new(authentication: Authentication, max_pdu: u16, counter: OwnCounter, last_heard: Option<u32>) -> Self {
        Self {
            authentication,
            max_pdu,
            counter,
            guard: CounterGuard::after(last_heard),
            meter_title: None,
            agreed: None,
            is_open: false,
            received: Vec::new(),
            next_block: 0,
            pieces: Vec::new(),
            next_piece: 1,
            lost_pieces: 0,
            names: None,
            outgoing: None,
        }
    }

    /// The same with short names: without authentication or with a password; it reads only.
    #[must_use]
    pub fn with_short_names(mut self) -> Self {
        self.names = Some(Names::default());
        self
    }

    /// The association request.
    pub fn open(&mut self) -> Result<Vec<u8>, Fault> {
        let (context, conformance) =
            if self.names.is_some() { (2, conformance::OURS_SHORT) } else { (1, conformance::OURS) };
        let initiate = InitiateRequest { dedicated_key: None, conformance, max_pdu: self.max_pdu }.encode();
        let association = match &self.authentication {
            Authentication::HlsGmac { .. } if self.names.is_some() => {
                return Err(Fault::Unsupported("HLS with short names".into()));
            }
            Authentication::None => Association { context, user_information: initiate, ..Association::default() },
            Authentication::Lls(password) => Association {
                context,
                mechanism: 1,
                authentication: password.clone(),
                user_information: initiate,
                ..Association::default()
            },
            Authentication::HlsGmac { keys, title, challenge, suite } => {
                let counter = self.counter.take().ok_or_else(no_counter)?;
                let sealed = security::seal(0x30 | suite, *title, counter, keys, &initiate);
                let mut user_information = alloc::vec![0x21];
                put_length(&mut user_information, sealed.len());
                user_information.extend_from_slice(&sealed);
                Association {
                    context: 3,
                    mechanism: 5,
                    title: Some(*title),
                    authentication: challenge.clone(),
                    user_information,
                    ..Association::default()
                }
            }
        };
        Ok(association.encode_request())
    }

    /// Reads an attribute, or a part of it.
    ///
    /// With short names the list of objects must be known: see [`Client::list_names`].
    pub fn get(&mut self, target: Target, selection: Option<Selection<'_>>) -> Result<Vec<u8>, Fault> {
        self.begin();
        if let Some(names) = &self.names {
            let name =
                names.of(&target).ok_or(Fault::structure("the meter's list of short names has no such object"))?;
            return Ok(selection.map_or(Read::Name(name), |selection| Read::Part(name, selection)).encode());
        }
        self.protect(&Request::Get(INVOKE, target, selection).encode())
    }

    /// Asks for the list of short names; its value goes to [`Client::take_names`].
    pub fn list_names(&mut self) -> Vec<u8> {
        self.begin();
        Read::Name(LIST_NAME).encode()
    }

    /// Keeps the list of short names.
    pub fn take_names(&mut self, encoded: &[u8]) -> Result<(), Fault> {
        let names = Value::whole(encoded).as_ref().and_then(Names::of_list);
        self.names = Some(names.ok_or(Fault::structure("not a list of short names"))?);
        Ok(())
    }

    /// Sets an attribute to an encoded value, in blocks when the meter cannot take it whole.
    pub fn set(&mut self, target: Target, value: &[u8]) -> Result<Vec<u8>, Fault> {
        self.begin();
        if self.names.is_some() {
            return Err(Fault::Unsupported("writing by short names".into()));
        }
        let room = self.block_room();
        if value.len() <= room {
            return self.protect(&Request::Set(INVOKE, target, value).encode());
        }
        let bytes = value.get(..room).unwrap_or_default();
        let block = super::apdu::Block { last: false, number: 1, bytes };
        let request = Request::SetFirst(INVOKE, target, block).encode();
        self.outgoing = Some(Outgoing { value: value.to_vec(), done: room, number: 1 });
        self.protect(&request)
    }

    /// Bytes of a value that fit into one request to this meter; 0 means that it sets no limit.
    fn block_room(&self) -> usize {
        let limit = self.agreed.map_or(128, |agreed| usize::from(agreed.max_pdu));
        if limit == 0 { VALUE_MAX } else { limit.saturating_sub(OVERHEAD).max(8) }
    }

    /// The block after the one that the meter has taken.
    fn next_set_block(&mut self, taken: u32) -> Result<Progress, Fault> {
        let room = self.block_room();
        let Some(outgoing) = self.outgoing.as_mut().filter(|outgoing| outgoing.number == taken) else {
            self.outgoing = None;
            return Err(Fault::structure("an answer to a block that was not sent"));
        };
        let end = (outgoing.done + room).min(outgoing.value.len());
        outgoing.number += 1;
        let last = end == outgoing.value.len();
        let bytes = &outgoing.value[outgoing.done..end];
        let request = Request::SetBlock(INVOKE, super::apdu::Block { last, number: outgoing.number, bytes }).encode();
        outgoing.done = end;
        self.protect(&request).map(Progress::Send)
    }

    /// Calls a method.
    pub fn action(&mut self, target: Target, parameter: Option<&[u8]>) -> Result<Vec<u8>, Fault> {
        self.begin();
        self.protect(&Request::Action(INVOKE, target, parameter).encode())
    }

    /// Asks to end the association.
    pub fn close(&mut self) -> Vec<u8> {
        RELEASE_REQUEST.to_vec()
    }

    /// The meter's title, once it is known.
    pub fn meter_title(&self) -> Option<SystemTitle> {
        self.meter_title
    }

    /// What the meter agreed to.
    pub fn agreed(&self) -> Option<InitiateResponse> {
        self.agreed
    }

    /// Our counter and the highest of the meter's, to be kept.
    pub fn counters(&self) -> (OwnCounter, Option<u32>) {
        (self.counter, self.guard.last())
    }

    /// Takes up our counter after its next limit was kept; it never goes back.
    pub fn keep(&mut self, counter: OwnCounter) {
        self.counter = self.counter.later(counter);
    }

    fn begin(&mut self) {
        self.received.clear();
        self.next_block = 1;
        self.outgoing = None;
        self.pieces.clear();
        (self.next_piece, self.lost_pieces) = (1, 0);
    }

    /// What an answer means.
    pub fn take(&mut self, apdu: &[u8]) -> Result<Progress, Fault> {
        match apdu.first() {
            Some(0x61) => self.accepted(apdu),
            Some(0x63) => {
                self.is_open = false;
                Ok(Progress::Closed)
            }
            Some(0xE0) => self.piece(apdu),
            Some(0x0E) => {
                Err(Fault::structure("the meter answers with a confirmed service error: close and associate anew"))
            }
            _ => {
                let plain = self.unprotect(apdu)?;
                self.answer(&plain)
            }
        }
    }

    /// A block of general block transfer: acknowledged, until the last.
    fn piece(&mut self, apdu: &[u8]) -> Result<Progress, Fault> {
        let block = Block::parse(apdu).ok_or(Fault::structure("not a block of general block transfer"))?;
        if block.number != self.next_piece {
            // Lost: ask again from the last that came without a gap.
            self.lost_pieces += 1;
            if self.lost_pieces > LOST_PIECES_MAX {
                return Err(Fault::structure("blocks of general block transfer are lost again and again"));
            }
            let ack = Block {
                last: true,
                streaming: false,
                window: 1,
                number: 1,
                acknowledged: self.next_piece - 1,
                bytes: &[],
            };
            return Ok(Progress::Send(ack.encode()));
        }
        if self.pieces.len() + block.bytes.len() > VALUE_MAX {
            return Err(Fault::TooLong("the answer"));
        }
        self.pieces.extend_from_slice(block.bytes);
        if block.last {
            self.next_piece = 1;
            let whole = core::mem::take(&mut self.pieces);
            return if whole.first() == Some(&0xE0) {
                Err(Fault::structure("a block in a block"))
            } else {
                self.take(&whole)
            };
        }
        let acknowledged = block.number;
        let goes_on = block.streaming;
        self.next_piece = self.next_piece.checked_add(1).ok_or(Fault::TooLong("the answer"))?;
        if goes_on {
            return Ok(Progress::Wait);
        }
        let ack = Block { last: true, streaming: false, window: 1, number: 1, acknowledged, bytes: &[] };
        Ok(Progress::Send(ack.encode()))
    }

    fn accepted(&mut self, apdu: &[u8]) -> Result<Progress, Fault> {
        let association = Association::parse(apdu).ok_or(Fault::structure("an AARE that makes no sense"))?;
        self.meter_title = association.title.or(self.meter_title);
        let wants_answer = association.diagnostic == 14;
        if association.result != 0 {
            return Err(Fault::structure(refusal(association.diagnostic)));
        }
        let initiate = self.initiate(&association.user_information)?;
        self.agreed = Some(initiate);
        let Authentication::HlsGmac { keys, title, suite, .. } = self.authentication.clone() else {
            if wants_answer {
                return Err(Fault::structure("the meter wants a challenge answered: use HLS"));
            }
            self.is_open = true;
            return Ok(Progress::Opened);
        };
        // Some meters leave the diagnostic at 0: their challenge says enough, and they must still prove themselves.
        if association.mechanism != 5 || association.authentication.is_empty() {
            return Err(Fault::structure("the meter did not ask for the GMAC answer: it is not the one it should be"));
        }
        let counter = self.counter.take().ok_or_else(no_counter)?;
        let answer = security::gmac_answer(suite, title, counter, &keys, &association.authentication);
        let parameter = Value::Octets(&answer).encoded();
        let request = Request::Action(INVOKE, ASSOCIATION, Some(&parameter)).encode();
        self.protect(&request).map(Progress::Send)
    }

    fn initiate(&mut self, user_information: &[u8]) -> Result<InitiateResponse, Fault> {
        let bad = || Fault::structure("an initiate response that makes no sense");
        let plain = match user_information.first() {
            Some(0x28) => {
                let mut cursor = Cursor::new(user_information.get(1..).unwrap_or_default());
                let count = length(&mut cursor).filter(|count| *count == cursor.left()).ok_or_else(bad)?;
                let body = cursor.take(count).ok_or_else(bad)?;
                self.open_body(body)?
            }
            _ if matches!(self.authentication, Authentication::HlsGmac { .. }) => {
                return Err(Fault::structure("the meter answers unciphered in a ciphered context"));
            }
            _ => user_information.to_vec(),
        };
        InitiateResponse::parse(&plain).ok_or_else(bad)
    }

    fn open_body(&mut self, body: &[u8]) -> Result<Vec<u8>, Fault> {
        let Authentication::HlsGmac { keys, .. } = &self.authentication else { return Err(Fault::KeyMissing) };
        let title = self.meter_title.ok_or(Fault::structure("a ciphered answer of a meter without a title"))?;
        let opened = security::open(body, title, keys)?;
        if opened.control & 0x30 != 0x30 {
            return Err(Fault::structure("an answer that is not authenticated and encrypted"));
        }
        self.guard.accept(opened.counter)?;
        Ok(opened.plain)
    }

    fn protect(&mut self, apdu: &[u8]) -> Result<Vec<u8>, Fault> {
        let Authentication::HlsGmac { keys, title, suite, .. } = &self.authentication else { return Ok(apdu.to_vec()) };
        let (keys, title, control) = (*keys, *title, 0x30 | *suite);
        let tag =
            apdu.first().and_then(|tag| protected_tag(*tag, false)).ok_or(Fault::structure("no protected form"))?;
        let sealed = security::seal(control, title, self.counter.take().ok_or_else(no_counter)?, &keys, apdu);
        let mut out = alloc::vec![tag];
        put_length(&mut out, sealed.len());
        out.extend_from_slice(&sealed);
        Ok(out)
    }

    fn unprotect(&mut self, apdu: &[u8]) -> Result<Vec<u8>, Fault> {
        let ciphered = matches!(self.authentication, Authentication::HlsGmac { .. });
        let bad = || Fault::structure("a protected answer whose length is wrong");
        let mut cursor = Cursor::new(apdu);
        match cursor.u8() {
            Some(0xDB) => {
                let title = cursor.u8().filter(|count| *count == 8).and_then(|_| cursor.array::<8>());
                if title.is_none() || title != self.meter_title {
                    return Err(Fault::structure("an answer of another system title"));
                }
                let count = length(&mut cursor).filter(|count| *count == cursor.left()).ok_or_else(bad)?;
                let body = cursor.take(count).ok_or_else(bad)?;
                self.open_body(body)
            }
            Some(tag) if is_protected(tag) == Some(false) => {
                let count = length(&mut cursor).filter(|count| *count == cursor.left()).ok_or_else(bad)?;
                let body = cursor.take(count).ok_or_else(bad)?;
                self.open_body(body)
            }
            // A meter that cannot decipher says so in the clear.
            Some(0xD8) => Ok(apdu.to_vec()),
            _ if ciphered => Err(Fault::structure("an unciphered answer in a ciphered association")),
            _ => Ok(apdu.to_vec()),
        }
    }

    /// A part of a long answer, whichever service brings it.
    fn part(&mut self, block: super::apdu::Block<'_>) -> Result<Progress, Fault> {
        if block.number != self.next_block || block.number > BLOCKS_MAX {
            self.begin();
            return Err(Fault::structure("a block out of order: the long answer is given up"));
        }
        if self.received.len() + block.bytes.len() > VALUE_MAX {
            return Err(Fault::TooLong("the answer"));
        }
        self.received.extend_from_slice(block.bytes);
        if block.last {
            return Ok(Progress::Value(core::mem::take(&mut self.received)));
        }
        self.next_block += 1;
        if self.names.is_some() {
            let number = u16::try_from(block.number).map_err(|_| Fault::TooLong("the answer"))?;
            return Ok(Progress::Send(Read::Next(number).encode()));
        }
        self.protect(&Request::GetNext(INVOKE, block.number).encode()).map(Progress::Send)
    }

    fn answer(&mut self, apdu: &[u8]) -> Result<Progress, Fault> {
        if self.names.is_some() && Answer::is_one(apdu) {
            return match Answer::parse(apdu).ok_or(Fault::structure("an answer that makes no sense"))? {
                Answer::Value(value) => Ok(Progress::Value(value.to_vec())),
                Answer::Refused(code) => Ok(Progress::Refused(code)),
                Answer::Block(block) => self.part(block),
            };
        }
        let response = Response::parse(apdu).ok_or(Fault::structure("an answer that makes no sense"))?;
        match response {
            Response::Get(_, Ok(value)) => Ok(Progress::Value(value.to_vec())),
            Response::Get(_, Err(code)) | Response::GetBlockRefused(_, code) => Ok(Progress::Refused(code)),
            Response::GetBlock(_, block) => self.part(block),
            Response::SetBlock(_, number) => self.next_set_block(number),
            Response::Action(_, code, returned) if !self.is_open => self.proved(code, returned),
            Response::Action(_, code, returned) => Ok(Progress::Done(code, returned.map(<[u8]>::to_vec))),
            Response::Set(_, code) | Response::SetLast(_, code, _) => Ok(Progress::Done(code, None)),
            Response::Exception(_, service) => Err(Fault::structure(alloc::format!(
                "the meter refuses the service (exception {service}): an older association may still be open; close it, wait, try again"
            ))),
            Response::GetList(..) => Err(Fault::structure("an answer to what was not asked")),
        }
    }

    /// The meter's answer to our challenge.
    fn proved(&mut self, code: u8, returned: Option<&[u8]>) -> Result<Progress, Fault> {
        let Authentication::HlsGmac { keys, challenge, .. } = &self.authentication else {
            return Err(Fault::structure("an answer to what was not asked"));
        };
        if code != 0 {
            return Err(Fault::structure(alloc::format!(
                "the meter does not take our proof ({}): wrong key",
                access_result(code)
            )));
        }
        let answer = returned.and_then(Value::whole).and_then(|value| value.octets().map(<[u8]>::to_vec));
        let title = self.meter_title.unwrap_or_default();
        let counter = answer.and_then(|answer| security::check_gmac_answer(&answer, title, keys, challenge));
        counter.ok_or(Fault::WrongKey)?;
        self.is_open = true;
        Ok(Progress::Opened)
    }
}

fn no_counter() -> Fault {
    Fault::structure("no invocation counter is reserved: keep the next limit durably first")
}

fn refusal(diagnostic: u8) -> &'static str {
    match diagnostic {
        2 => "the meter does not know the application context (ciphered or not)",
        11 => "the meter does not know the authentication mechanism",
        12 => "the meter wants an authentication mechanism",
        13 => "the meter refuses: wrong password or key",
        14 => "the meter wants authentication",
        _ => "the meter refuses the association",
    }
}
