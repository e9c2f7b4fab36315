//! The meter's half of a DLMS conversation, without a socket: an APDU in, an APDU out.

use alloc::vec::Vec;

use super::{
    acse::{Association, InitiateRequest, InitiateResponse, RELEASE_RESPONSE, conformance},
    apdu::{Block, Request, Response, Target, is_protected, protected_tag},
    axdr::{Value, length, put_length},
    objects::{ASSOCIATION, Objects, UNDEFINED},
    security::{self, CounterGuard, OwnCounter, SystemTitle},
    short_names::{ASSOCIATION_NAME, Answer, LIST_NAME, Names, Read},
};
use crate::{Fault, bytes::Cursor, cipher::Keys};

/// Who may associate.
#[derive(Clone, Debug, Default)]
pub struct Access {
    /// Without authentication.
    pub public: bool,
    /// With this password.
    pub password: Option<Vec<u8>>,
    /// With HLS-GMAC and these keys.
    pub keys: Option<Keys>,
}

/// A meter that is asked.
#[derive(Clone, Debug)]
pub struct Server {
    /// Its objects.
    pub objects: Objects,
    title: SystemTitle,
    access: Access,
    counter: OwnCounter,
    guard: CounterGuard,
    session: Option<Session>,
}

#[derive(Clone, Debug)]
struct Session {
    ciphered: bool,
    is_proved: bool,
    suite: u8,
    client: SystemTitle,
    to_client: Vec<u8>,
    to_server: Vec<u8>,
    max_pdu: usize,
    long: Option<Long>,
    /// A long value that the client is sending.
    incoming: Option<(Target, Vec<u8>, u32)>,
    /// Short names, when the client uses them.
    names: Option<Names>,
}

#[derive(Clone, Debug)]
struct Long {
    value: Vec<u8>,
    done: usize,
    number: u32,
}

/// How a request was protected, and so its answer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Plain,
    Service,
    General,
}

/// Smallest APDU that a client must receive.
const PDU_MIN: usize = 64;
/// Longest APDU that we receive.
const OUR_PDU: u16 = 2048;
const BLOCK_UNAVAILABLE: u8 = 14;
const DENIED: u8 = 3;
const LONG_SET_ABORTED: u8 = 17;
const NO_LONG_SET: u8 = 18;
/// Longest value that is taken in blocks, in bytes.
const SET_MAX: usize = 16 * 1024;

impl Server {
    /// Nobody associated. `counter` must have counters reserved when keys are given; `last_heard` is the clients' highest counter.
    pub fn new(
        objects: Objects,
        title: SystemTitle,
        access: Access,
        counter: OwnCounter,
        last_heard: Option<u32>,
    ) -> Self {
        Self { objects, title, access, counter, guard: CounterGuard::after(last_heard), session: None }
    }

    /// Our counter and the highest of the clients', to be kept.
    pub fn counters(&mut self) -> (&mut OwnCounter, Option<u32>) {
        (&mut self.counter, self.guard.last())
    }

    /// The connection has gone, and the association with it.
    pub fn disconnected(&mut self) {
        self.session = None;
    }

    /// Answers an APDU; `None`: nothing is answered. `challenge` is 16 random bytes, used for an association with HLS.
    pub fn answer(&mut self, apdu: &[u8], challenge: [u8; 16]) -> Option<Vec<u8>> {
        match apdu.first()? {
            0x60 => Some(self.associate(apdu, challenge)),
            0x62 => {
                self.session = None;
                Some(RELEASE_RESPONSE.to_vec())
            }
            _ => match self.service(apdu) {
                Ok(answer) => Some(answer),
                // State error "service not allowed", service error "operation not possible" or "decryption error".
                Err(Fault::WrongKey | Fault::Replayed) => Some(Response::Exception(1, 5).encode()),
                Err(_) => Some(Response::Exception(1, 1).encode()),
            },
        }
    }

    fn associate(&mut self, apdu: &[u8], challenge: [u8; 16]) -> Vec<u8> {
        self.session = None;
        match self.accept(apdu, challenge) {
            Ok(association) => association.encode_response(),
            Err(diagnostic) => {
                Association { context: 1, result: 1, diagnostic, title: Some(self.title), ..Association::default() }
                    .encode_response()
            }
        }
    }

    /// The AARE, or the diagnostic of a refusal.
    fn accept(&mut self, apdu: &[u8], challenge: [u8; 16]) -> Result<Association, u8> {
        let request = Association::parse(apdu).ok_or(1)?;
        let is_allowed = match request.mechanism {
            0 => self.access.public,
            1 => self.access.password.as_ref().is_some_and(|password| *password == request.authentication),
            5 => self.access.keys.is_some(),
            _ => return Err(11),
        };
        is_allowed.then_some(()).ok_or(13)?;
        let ciphered = matches!(request.context, 3);
        let short = request.context == 2;
        if !matches!(request.context, 1..=3) || ciphered != (request.mechanism == 5) {
            return Err(2);
        }
        let client = request.title.unwrap_or_default();
        let (initiate, suite) = self.initiate(&request.user_information, client, ciphered)?;
        let agreed = InitiateResponse {
            conformance: initiate.conformance
                & if short {
                    conformance::OURS_SHORT
                } else {
                    conformance::OURS & !conformance::GENERAL_BLOCK_TRANSFER
                },
            max_pdu: OUR_PDU,
            base_name: if short { ASSOCIATION_NAME } else { 7 },
        };
        let user_information = self.initiate_response(&agreed.encode(), ciphered, suite)?;
        let proves = request.mechanism == 5;
        let max_pdu =
            if initiate.max_pdu == 0 { usize::from(u16::MAX) } else { usize::from(initiate.max_pdu).max(PDU_MIN) };
        self.session = Some(Session {
            ciphered,
            is_proved: !proves,
            suite,
            client,
            to_client: challenge.to_vec(),
            to_server: request.authentication,
            max_pdu,
            long: None,
            incoming: None,
            names: short.then(|| Names::given(self.objects.codes())),
        });
        Ok(Association {
            context: request.context,
            result: 0,
            diagnostic: if proves { 14 } else { 0 },
            title: Some(self.title),
            mechanism: if proves { 5 } else { 0 },
            authentication: if proves { challenge.to_vec() } else { Vec::new() },
            user_information,
        })
    }

    fn initiate(&mut self, bytes: &[u8], client: SystemTitle, ciphered: bool) -> Result<(InitiateRequest, u8), u8> {
        if !ciphered {
            return Ok((InitiateRequest::parse(bytes).ok_or(1)?, 0));
        }
        let keys = self.access.keys.ok_or(13)?;
        let mut cursor = Cursor::new(bytes);
        (cursor.u8() == Some(0x21)).then_some(()).ok_or(13)?;
        let count = length(&mut cursor).filter(|count| *count == cursor.left()).ok_or(13)?;
        let opened = security::open(cursor.take(count).ok_or(13)?, client, &keys).map_err(|_| 13)?;
        // Only who has the keys may move the counter on.
        (opened.control & 0x30 == 0x30).then_some(()).ok_or(13)?;
        self.guard.accept(opened.counter).map_err(|_| 13)?;
        let initiate = InitiateRequest::parse(&opened.plain).ok_or(13)?;
        // A dedicated key is not taken up: the global one serves.
        Ok((initiate, opened.control & 0x0F))
    }

    fn initiate_response(&mut self, plain: &[u8], ciphered: bool, suite: u8) -> Result<Vec<u8>, u8> {
        if !ciphered {
            return Ok(plain.to_vec());
        }
        let keys = self.access.keys.ok_or(13)?;
        let sealed = security::seal(0x30 | suite, self.title, self.counter.take().ok_or(1)?, &keys, plain);
        let mut out = alloc::vec![0x28];
        put_length(&mut out, sealed.len());
        out.extend_from_slice(&sealed);
        Ok(out)
    }

    fn service(&mut self, apdu: &[u8]) -> Result<Vec<u8>, Fault> {
        let session = self.session.as_ref().ok_or(Fault::structure("no association"))?;
        let (ciphered, client, suite) = (session.ciphered, session.client, session.suite);
        let (plain, form) = self.unprotect(apdu, client)?;
        if ciphered != (form != Form::Plain) {
            return Err(Fault::structure("a request in the wrong form"));
        }
        if self.session.as_ref().is_some_and(|session| session.names.is_some()) {
            let read = Read::parse(&plain).ok_or(Fault::structure("no read of one short name"))?;
            return Ok(self.read(read));
        }
        let request = Request::parse(&plain).ok_or(Fault::structure("a request that makes no sense"))?;
        let answer = self.respond(&request)?;
        if form == Form::Plain {
            return Ok(answer);
        }
        let keys = self.access.keys.ok_or(Fault::KeyMissing)?;
        let counter = self.counter.take().ok_or(Fault::structure("no invocation counter is reserved"))?;
        let sealed = security::seal(0x30 | suite, self.title, counter, &keys, &answer);
        if form == Form::General {
            return Ok(security::general_glo(self.title, &sealed));
        }
        let mut out = alloc::vec![protected_tag(answer[0], false).ok_or(Fault::structure("no protected form"))?];
        put_length(&mut out, sealed.len());
        out.extend_from_slice(&sealed);
        Ok(out)
    }

    fn unprotect(&mut self, apdu: &[u8], client: SystemTitle) -> Result<(Vec<u8>, Form), Fault> {
        let mut cursor = Cursor::new(apdu);
        let form = match cursor.u8() {
            Some(0xDB) => {
                let title = cursor.u8().filter(|count| *count == 8).and_then(|_| cursor.array::<8>());
                (title == Some(client)).then_some(Form::General).ok_or(Fault::structure("another client's title"))?
            }
            Some(tag) if is_protected(tag) == Some(false) => Form::Service,
            _ => return Ok((apdu.to_vec(), Form::Plain)),
        };
        let keys = self.access.keys.ok_or(Fault::KeyMissing)?;
        let count = length(&mut cursor).filter(|count| *count == cursor.left());
        count.ok_or(Fault::structure("a protected request whose length is wrong"))?;
        let opened = security::open(cursor.rest(), client, &keys)?;
        if opened.control & 0x30 != 0x30 {
            return Err(Fault::structure("a request that is not authenticated and encrypted"));
        }
        self.guard.accept(opened.counter)?;
        Ok((opened.plain, form))
    }

    fn respond(&mut self, request: &Request<'_>) -> Result<Vec<u8>, Fault> {
        let session = self.session.as_mut().ok_or(Fault::structure("no association"))?;
        if !session.is_proved {
            return self.prove(request);
        }
        Ok(match request {
            Request::Get(invoke, target, selection) => {
                let value = self.objects.get(target, selection.as_ref());
                self.value(*invoke, value)
            }
            Request::GetNext(invoke, number) => self.next_block(*invoke, *number),
            Request::GetList(invoke, list) => {
                let values: Vec<Result<Vec<u8>, u8>> =
                    list.iter().map(|(target, selection)| self.objects.get(target, selection.as_ref())).collect();
                let results = values.iter().map(|value| value.as_deref().map_err(|code| *code)).collect();
                Response::GetList(*invoke, results).encode()
            }
            Request::Set(invoke, target, value) => Response::Set(*invoke, self.objects.set(target, value)).encode(),
            Request::Action(invoke, target, _) => Response::Action(*invoke, self.objects.action(target), None).encode(),
            Request::SetFirst(invoke, target, block) => {
                session.incoming = Some((*target, Vec::new(), 0));
                self.set_block(*invoke, block)
            }
            Request::SetBlock(invoke, block) => self.set_block(*invoke, block),
        })
    }

    /// Gathers a long value; one that is too long or out of order is given up.
    fn set_block(&mut self, invoke: u8, block: &Block<'_>) -> Vec<u8> {
        let Some(session) = self.session.as_mut() else { return Response::Exception(1, 1).encode() };
        let Some((target, mut value, taken)) = session.incoming.take() else {
            return Response::SetLast(invoke, NO_LONG_SET, block.number).encode();
        };
        if block.number != taken + 1 || value.len() + block.bytes.len() > SET_MAX {
            return Response::SetLast(invoke, LONG_SET_ABORTED, block.number).encode();
        }
        value.extend_from_slice(block.bytes);
        if !block.last {
            session.incoming = Some((target, value, block.number));
            return Response::SetBlock(invoke, block.number).encode();
        }
        // The blocks together must be one value.
        let result = if Value::whole(&value).is_some() { self.objects.set(&target, &value) } else { LONG_SET_ABORTED };
        Response::SetLast(invoke, result, block.number).encode()
    }

    /// A read by short name.
    fn read(&mut self, read: Read<'_>) -> Vec<u8> {
        let refused = |code| Answer::Refused(code).encode();
        let Some(session) = self.session.as_mut() else { return refused(DENIED) };
        let Some(names) = &session.names else { return refused(DENIED) };
        let (name, selection) = match read {
            Read::Next(number) => {
                let block = next_part(session, u32::from(number));
                return block.map_or_else(
                    || refused(BLOCK_UNAVAILABLE),
                    |(number, last, bytes)| Answer::Block(Block { last, number, bytes: &bytes }).encode(),
                );
            }
            Read::Name(name) => (name, None),
            Read::Part(name, selection) => (name, Some(selection)),
        };
        session.long = None;
        let value = match (name, names.target(name)) {
            (LIST_NAME, _) => Ok(names.list(|class, obis| self.objects.version(class, obis))),
            (_, Some(target)) => self.objects.get(&target, selection.as_ref()),
            (_, None) => Err(UNDEFINED),
        };
        match value {
            Ok(value) if value.len() + OVERHEAD > session.max_pdu => {
                session.long = Some(Long { value, done: 0, number: 0 });
                let first = next_part(session, 0);
                first.map_or_else(
                    || refused(BLOCK_UNAVAILABLE),
                    |(number, last, bytes)| Answer::Block(Block { last, number, bytes: &bytes }).encode(),
                )
            }
            Ok(value) => Answer::Value(&value).encode(),
            Err(code) => refused(code),
        }
    }

    /// Only the answer to our challenge is taken before the client has proved itself.
    fn prove(&mut self, request: &Request<'_>) -> Result<Vec<u8>, Fault> {
        let denied = Fault::structure("not authenticated");
        let Request::Action(invoke, target, Some(parameter)) = request else { return Err(denied) };
        if (target.class, target.obis, target.index) != (15, ASSOCIATION, 1) {
            return Err(denied);
        }
        let (keys, title) = (self.access.keys.ok_or(Fault::KeyMissing)?, self.title);
        let counter = self.counter.take().ok_or(Fault::structure("no invocation counter is reserved"))?;
        let session = self.session.as_mut().ok_or(denied)?;
        let answer = Value::whole(parameter).and_then(|value| value.octets().map(<[u8]>::to_vec)).unwrap_or_default();
        if security::check_gmac_answer(&answer, session.client, &keys, &session.to_client).is_none() {
            return Ok(Response::Action(*invoke, DENIED, None).encode());
        }
        session.is_proved = true;
        let ours = security::gmac_answer(session.suite, title, counter, &keys, &session.to_server);
        let returned = Value::Octets(&ours).encoded();
        Ok(Response::Action(*invoke, 0, Some(&returned)).encode())
    }

    /// A value, in blocks when the client cannot take it whole.
    fn value(&mut self, invoke: u8, value: Result<Vec<u8>, u8>) -> Vec<u8> {
        let Some(session) = self.session.as_mut() else { return Response::Exception(1, 1).encode() };
        session.long = None;
        match value {
            Ok(value) if value.len() + OVERHEAD > session.max_pdu => {
                session.long = Some(Long { value, done: 0, number: 0 });
                self.next_block(invoke, 0)
            }
            value => Response::Get(invoke, value.as_deref().map_err(|code| *code)).encode(),
        }
    }

    fn next_block(&mut self, invoke: u8, acknowledged: u32) -> Vec<u8> {
        let part = self.session.as_mut().and_then(|session| next_part(session, acknowledged));
        let Some((number, last, bytes)) = part else {
            return Response::GetBlockRefused(invoke, BLOCK_UNAVAILABLE).encode();
        };
        Response::GetBlock(invoke, Block { last, number, bytes: &bytes }).encode()
    }
}

/// The part after the one acknowledged: its number, whether it is the last, its bytes. `None`: that was not the last one sent.
fn next_part(session: &mut Session, acknowledged: u32) -> Option<(u32, bool, Vec<u8>)> {
    let size = session.max_pdu - OVERHEAD;
    let mut long = session.long.take().filter(|long| long.number == acknowledged)?;
    let end = (long.done + size).min(long.value.len());
    let (number, last) = (long.number + 1, end == long.value.len());
    let bytes = long.value.get(long.done..end)?.to_vec();
    (long.done, long.number) = (end, number);
    if !last {
        session.long = Some(long);
    }
    Some((number, last, bytes))
}

/// Headers of a block, and of its protection with a system title.
const OVERHEAD: usize = 12 + 32;
