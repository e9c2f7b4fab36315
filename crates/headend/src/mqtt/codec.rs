//! The only place that names `mqtt-protocol-core`: bytes to packets and back, for both versions of MQTT on one listener.
//!
//! The library checks the order and the shape of packets. What it lets pass is caught in `session`.

use mqtt_protocol_core::mqtt::{
    Connection, Version,
    common::Cursor,
    connection::{ConnectionOptions, prelude::*},
    packet::{
        AssignedClientIdentifier, GenericPacketTrait, MaximumQos, Packet, Property, Qos, ReceiveMaximum,
        RetainAvailable, ServerKeepAlive, SharedSubscriptionAvailable, SubscriptionIdentifierAvailable, v3_1_1, v5_0,
    },
    result_code::{
        ConnectReasonCode, ConnectReturnCode, DisconnectReasonCode, MqttError, PubackReasonCode, SubackReasonCode,
        SubackReturnCode, UnsubackReasonCode,
    },
    role::Server,
};

/// A packet of the peer, or something the library asks for.
pub(crate) enum Received {
    Connect(Box<Connect>),
    Publish(Publish),
    /// The peer acknowledged a publish of ours; `false` when it refused it.
    PublishAcknowledged(u16, bool),
    /// QoS 2: the peer may forget the message.
    Release(u16),
    /// QoS 2: the library wants to answer a repeated message whose first copy may not be durable yet.
    RepeatedQos2(u16),
    Subscribe(u16, Vec<(String, Grant)>),
    Unsubscribe(u16, Vec<String>),
    Ping,
    Disconnect,
    /// A packet that nothing here expects, such as AUTH.
    Unexpected,
    /// The connection must be closed.
    Failed(Failure),
}

/// Why the library gave up on a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    TooLarge,
    Protocol(String),
}

/// CONNECT.
pub(crate) struct Connect {
    pub(crate) client: String,
    pub(crate) clean: bool,
    pub(crate) keep_alive_s: u16,
    pub(crate) user: String,
    pub(crate) password: Vec<u8>,
    pub(crate) flags: u8,
    /// MQTT 5: the client asks for enhanced authentication.
    pub(crate) enhanced_authentication: bool,
}

/// QoS of a subscription, 2 treated as 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Grant {
    Qos0,
    Qos1,
}

/// QoS of a publish, with its packet identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    Qos0,
    Qos1(u16),
    Qos2(u16),
}

/// PUBLISH of either version.
pub(crate) enum Publish {
    V4(v3_1_1::Publish),
    V5(v5_0::Publish),
}

impl Publish {
    pub(crate) fn topic(&self) -> &str {
        match self {
            Self::V4(p) => p.topic_name(),
            Self::V5(p) => p.topic_name(),
        }
    }

    pub(crate) fn payload(&self) -> &[u8] {
        match self {
            Self::V4(p) => p.payload().as_slice(),
            Self::V5(p) => p.payload().as_slice(),
        }
    }

    pub(crate) fn level(&self) -> Level {
        let (qos, id) = match self {
            Self::V4(p) => (p.qos(), p.packet_id()),
            Self::V5(p) => (p.qos(), p.packet_id()),
        };
        match qos {
            Qos::AtMostOnce => Level::Qos0,
            Qos::AtLeastOnce => Level::Qos1(id.unwrap_or(0)),
            Qos::ExactlyOnce => Level::Qos2(id.unwrap_or(0)),
        }
    }

    pub(crate) fn is_dup(&self) -> bool {
        match self {
            Self::V4(p) => p.dup(),
            Self::V5(p) => p.dup(),
        }
    }

    pub(crate) fn is_retain(&self) -> bool {
        match self {
            Self::V4(p) => p.retain(),
            Self::V5(p) => p.retain(),
        }
    }
}

/// How a CONNECT is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ConnectRefusal {
    Secret,
    ClientIdentifier,
    Authentication,
    Malformed,
}

/// How a publish is acknowledged; MQTT 3.1.1 knows one way only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Acknowledgement {
    Taken,
    NotAFrame,
}

/// How a subscription is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SubscriptionAnswer {
    Granted(Grant),
    NotAuthorized,
    SharedNotSupported,
}

/// Why we end a connection, as MQTT 5 tells the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Farewell {
    Protocol,
    NotAuthorized,
    TopicInvalid,
    QosNotSupported,
    RetainNotSupported,
    KeepAlive,
    TakenOver,
    ShuttingDown,
    ServerBusy,
    Administrative,
}

/// What is announced to a client that may connect.
pub(crate) struct Announcement<'a> {
    /// MQTT 5: the identifier given to a client that came without one.
    pub(crate) assigned_client: Option<&'a str>,
    /// MQTT 5: a keep-alive to use in place of the client's.
    pub(crate) keep_alive_s: Option<u16>,
    /// MQTT 5: publishes that may wait for their acknowledgement.
    pub(crate) window: u16,
}

/// One connection's protocol state.
pub(crate) struct Codec {
    connection: Connection<Server>,
}

impl Codec {
    /// A fresh connection that takes either version. `publishes_max` closes a connection that ignores the window.
    pub(crate) fn new(packet_bytes_max: u32, publishes_max: u16) -> Self {
        let options =
            ConnectionOptions::new().maximum_packet_size_recv(packet_bytes_max).receive_maximum(publishes_max);
        Self { connection: Connection::with_options(Version::Undetermined, options) }
    }

    /// Whether the peer speaks MQTT 5.
    pub(crate) fn is_v5(&self) -> bool {
        self.connection.get_protocol_version() == Version::V5_0
    }

    /// Takes at most one packet from the front of `input`; what the library wants to say goes to `out`.
    pub(crate) fn receive(&mut self, input: &mut &[u8], out: &mut Vec<u8>, received: &mut Vec<Received>) {
        let mut cursor = Cursor::new(*input);
        let events = self.connection.recv(&mut cursor);
        let consumed = usize::try_from(cursor.position()).unwrap_or(input.len()).min(input.len());
        *input = &input[consumed..];
        let (mut is_closing, mut is_explained) = (false, false);
        for event in events {
            match event {
                Event::NotifyPacketReceived(packet) => received.push(translate(packet)),
                Event::RequestSendPacket { packet: Packet::V3_1_1Pubrec(p), .. } => {
                    received.push(Received::RepeatedQos2(p.packet_id()));
                }
                Event::RequestSendPacket { packet: Packet::V5_0Pubrec(p), .. } => {
                    received.push(Received::RepeatedQos2(p.packet_id()));
                }
                Event::RequestSendPacket { packet, .. } => out.extend_from_slice(&packet.to_continuous_buffer()),
                // some errors come without a request to close, some requests without an error: both end the connection
                Event::NotifyError(error) => {
                    is_explained = true;
                    received.push(Received::Failed(failure(error)));
                }
                Event::RequestClose => is_closing = true,
                Event::RequestTimerReset { .. } | Event::RequestTimerCancel(_) | Event::NotifyPacketIdReleased(_) => {}
            }
        }
        if is_closing && !is_explained {
            received.push(Received::Failed(Failure::Protocol("closed by the protocol library".into())));
        }
    }

    pub(crate) fn accept(&mut self, announce: &Announcement<'_>, out: &mut Vec<u8>) -> Result<(), Failure> {
        if !self.is_v5() {
            let packet = v3_1_1::Connack::builder().session_present(false).return_code(ConnectReturnCode::Accepted);
            return self.send(packet.build().map_err(failure)?, out);
        }
        let mut properties: Vec<Property> = vec![
            ReceiveMaximum::new(announce.window).map_err(failure)?.into(),
            MaximumQos::new(1).map_err(failure)?.into(),
            RetainAvailable::new(0).map_err(failure)?.into(),
            SubscriptionIdentifierAvailable::new(0).map_err(failure)?.into(),
            SharedSubscriptionAvailable::new(0).map_err(failure)?.into(),
        ];
        if let Some(client) = announce.assigned_client {
            properties.push(AssignedClientIdentifier::new(client).map_err(failure)?.into());
        }
        if let Some(seconds) = announce.keep_alive_s {
            properties.push(ServerKeepAlive::new(seconds).map_err(failure)?.into());
        }
        let packet = v5_0::Connack::builder()
            .session_present(false)
            .reason_code(ConnectReasonCode::Success)
            .props(properties)
            .build();
        self.send(packet.map_err(failure)?, out)
    }

    pub(crate) fn refuse(&mut self, why: ConnectRefusal, out: &mut Vec<u8>) -> Result<(), Failure> {
        if self.is_v5() {
            let code = match why {
                ConnectRefusal::Secret => ConnectReasonCode::BadUserNameOrPassword,
                ConnectRefusal::ClientIdentifier => ConnectReasonCode::ClientIdentifierNotValid,
                ConnectRefusal::Authentication => ConnectReasonCode::BadAuthenticationMethod,
                ConnectRefusal::Malformed => ConnectReasonCode::MalformedPacket,
            };
            let packet = v5_0::Connack::builder().session_present(false).reason_code(code).build();
            self.send(packet.map_err(failure)?, out)
        } else {
            let code = match why {
                ConnectRefusal::Secret | ConnectRefusal::Authentication => ConnectReturnCode::BadUserNameOrPassword,
                ConnectRefusal::ClientIdentifier => ConnectReturnCode::IdentifierRejected,
                // 3.1.1 closes without an answer
                ConnectRefusal::Malformed => return Ok(()),
            };
            let packet = v3_1_1::Connack::builder().session_present(false).return_code(code).build();
            self.send(packet.map_err(failure)?, out)
        }
    }

    pub(crate) fn acknowledge(&mut self, id: u16, how: Acknowledgement, out: &mut Vec<u8>) -> Result<(), Failure> {
        if self.is_v5() {
            let packet = v5_0::Puback::builder().packet_id(id);
            let packet = match how {
                Acknowledgement::Taken => packet,
                Acknowledgement::NotAFrame => packet.reason_code(PubackReasonCode::PayloadFormatInvalid),
            };
            self.send(packet.build().map_err(failure)?, out)
        } else {
            self.send(v3_1_1::Puback::builder().packet_id(id).build().map_err(failure)?, out)
        }
    }

    /// QoS 2, MQTT 3.1.1 only: MQTT 5 clients are told that 1 is the highest.
    pub(crate) fn acknowledge_qos2(&mut self, id: u16, out: &mut Vec<u8>) -> Result<(), Failure> {
        self.send(v3_1_1::Pubrec::builder().packet_id(id).build().map_err(failure)?, out)
    }

    pub(crate) fn complete_qos2(&mut self, id: u16, out: &mut Vec<u8>) -> Result<(), Failure> {
        self.send(v3_1_1::Pubcomp::builder().packet_id(id).build().map_err(failure)?, out)
    }

    pub(crate) fn answer_subscribe(
        &mut self,
        id: u16,
        answers: &[SubscriptionAnswer],
        out: &mut Vec<u8>,
    ) -> Result<(), Failure> {
        if self.is_v5() {
            let code = |answer: &SubscriptionAnswer| match answer {
                SubscriptionAnswer::Granted(Grant::Qos0) => SubackReasonCode::GrantedQos0,
                SubscriptionAnswer::Granted(Grant::Qos1) => SubackReasonCode::GrantedQos1,
                SubscriptionAnswer::NotAuthorized => SubackReasonCode::NotAuthorized,
                SubscriptionAnswer::SharedNotSupported => SubackReasonCode::SharedSubscriptionsNotSupported,
            };
            let packet = v5_0::Suback::builder().packet_id(id).reason_codes(answers.iter().map(code).collect());
            self.send(packet.build().map_err(failure)?, out)
        } else {
            let code = |answer: &SubscriptionAnswer| match answer {
                SubscriptionAnswer::Granted(Grant::Qos0) => SubackReturnCode::SuccessMaximumQos0,
                SubscriptionAnswer::Granted(Grant::Qos1) => SubackReturnCode::SuccessMaximumQos1,
                SubscriptionAnswer::NotAuthorized | SubscriptionAnswer::SharedNotSupported => SubackReturnCode::Failure,
            };
            let packet = v3_1_1::Suback::builder().packet_id(id).return_codes(answers.iter().map(code).collect());
            self.send(packet.build().map_err(failure)?, out)
        }
    }

    pub(crate) fn answer_unsubscribe(&mut self, id: u16, existed: &[bool], out: &mut Vec<u8>) -> Result<(), Failure> {
        if self.is_v5() {
            let code = |existed: &bool| match existed {
                true => UnsubackReasonCode::Success,
                false => UnsubackReasonCode::NoSubscriptionExisted,
            };
            let packet = v5_0::Unsuback::builder().packet_id(id).reason_codes(existed.iter().map(code).collect());
            self.send(packet.build().map_err(failure)?, out)
        } else {
            self.send(v3_1_1::Unsuback::builder().packet_id(id).build().map_err(failure)?, out)
        }
    }

    pub(crate) fn answer_ping(&mut self, out: &mut Vec<u8>) -> Result<(), Failure> {
        if self.is_v5() { self.send(v5_0::Pingresp::new(), out) } else { self.send(v3_1_1::Pingresp::new(), out) }
    }

    /// Publishes to the peer, never retained. With `Grant::Qos1` the packet identifier is returned.
    pub(crate) fn publish(
        &mut self,
        topic: &str,
        payload: &[u8],
        grant: Grant,
        out: &mut Vec<u8>,
    ) -> Result<Option<u16>, Failure> {
        let id = match grant {
            Grant::Qos0 => None,
            Grant::Qos1 => Some(self.connection.acquire_packet_id().map_err(failure)?),
        };
        let qos = if id.is_some() { Qos::AtLeastOnce } else { Qos::AtMostOnce };
        let sent = if self.is_v5() {
            let packet = v5_0::Publish::builder().topic_name(topic).map_err(failure)?.qos(qos);
            let packet = match id {
                Some(id) => packet.packet_id(id),
                None => packet,
            };
            packet.payload(payload).build().map_err(failure).and_then(|packet| self.send(packet, out))
        } else {
            let packet = v3_1_1::Publish::builder().topic_name(topic).map_err(failure)?.qos(qos);
            let packet = match id {
                Some(id) => packet.packet_id(id),
                None => packet,
            };
            packet.payload(payload).build().map_err(failure).and_then(|packet| self.send(packet, out))
        };
        if let (Err(_), Some(id)) = (&sent, id) {
            self.connection.release_packet_id(id);
        }
        sent.map(|()| id)
    }

    /// How many further publishes the peer is ready to take at once; `None` without a limit.
    pub(crate) fn vacancy(&self) -> Option<u16> {
        self.connection.get_receive_maximum_vacancy_for_send()
    }

    /// MQTT 5 tells the peer why; 3.1.1 has no words for it.
    pub(crate) fn disconnect(&mut self, why: Farewell, out: &mut Vec<u8>) {
        if !self.is_v5() {
            return;
        }
        let code = match why {
            Farewell::Protocol => DisconnectReasonCode::ProtocolError,
            Farewell::NotAuthorized => DisconnectReasonCode::NotAuthorized,
            Farewell::TopicInvalid => DisconnectReasonCode::TopicNameInvalid,
            Farewell::QosNotSupported => DisconnectReasonCode::QosNotSupported,
            Farewell::RetainNotSupported => DisconnectReasonCode::RetainNotSupported,
            Farewell::KeepAlive => DisconnectReasonCode::KeepAliveTimeout,
            Farewell::TakenOver => DisconnectReasonCode::SessionTakenOver,
            Farewell::ShuttingDown => DisconnectReasonCode::ServerShuttingDown,
            Farewell::ServerBusy => DisconnectReasonCode::ServerBusy,
            Farewell::Administrative => DisconnectReasonCode::AdministrativeAction,
        };
        if let Ok(packet) = v5_0::Disconnect::builder().reason_code(code).build() {
            // a connection that is not established yet cannot be told; it is closed all the same
            let _ = self.send(packet, out);
        }
    }

    fn send(&mut self, packet: impl Into<Packet>, out: &mut Vec<u8>) -> Result<(), Failure> {
        let mut result = Ok(());
        for event in self.connection.send(packet.into()) {
            match event {
                Event::RequestSendPacket { packet, .. } => out.extend_from_slice(&packet.to_continuous_buffer()),
                Event::NotifyError(error) => result = Err(failure(error)),
                _ => {}
            }
        }
        result
    }
}

fn failure(error: MqttError) -> Failure {
    match error {
        MqttError::PacketTooLarge => Failure::TooLarge,
        other => Failure::Protocol(other.to_string()),
    }
}

fn translate(packet: Packet) -> Received {
    match packet {
        Packet::V3_1_1Connect(p) => Received::Connect(Box::new(Connect {
            client: p.client_id().to_owned(),
            clean: p.clean_session(),
            keep_alive_s: p.keep_alive(),
            user: p.user_name().unwrap_or_default().to_owned(),
            password: p.password().unwrap_or_default().to_vec(),
            flags: connect_flags(&p.to_continuous_buffer()),
            enhanced_authentication: false,
        })),
        Packet::V5_0Connect(p) => Received::Connect(Box::new(Connect {
            client: p.client_id().to_owned(),
            clean: p.clean_start(),
            keep_alive_s: p.keep_alive(),
            user: p.user_name().unwrap_or_default().to_owned(),
            password: p.password().unwrap_or_default().to_vec(),
            flags: connect_flags(&p.to_continuous_buffer()),
            enhanced_authentication: p.props().iter().any(|p| matches!(p, Property::AuthenticationMethod(_))),
        })),
        Packet::V3_1_1Publish(p) => Received::Publish(Publish::V4(p)),
        Packet::V5_0Publish(p) => Received::Publish(Publish::V5(p)),
        Packet::V3_1_1Puback(p) => Received::PublishAcknowledged(p.packet_id(), true),
        Packet::V5_0Puback(p) => {
            Received::PublishAcknowledged(p.packet_id(), p.reason_code().is_none_or(|code| code.is_success()))
        }
        Packet::V3_1_1Pubrel(p) => Received::Release(p.packet_id()),
        Packet::V3_1_1Subscribe(p) => Received::Subscribe(
            p.packet_id(),
            p.entries().iter().map(|e| (e.topic_filter().to_owned(), grant(e.sub_opts().qos()))).collect(),
        ),
        Packet::V5_0Subscribe(p) => Received::Subscribe(
            p.packet_id(),
            p.entries().iter().map(|e| (e.topic_filter().to_owned(), grant(e.sub_opts().qos()))).collect(),
        ),
        Packet::V3_1_1Unsubscribe(p) => {
            Received::Unsubscribe(p.packet_id(), p.entries().iter().map(|e| e.as_str().to_owned()).collect())
        }
        Packet::V5_0Unsubscribe(p) => {
            Received::Unsubscribe(p.packet_id(), p.entries().iter().map(|e| e.as_str().to_owned()).collect())
        }
        Packet::V3_1_1Pingreq(_) | Packet::V5_0Pingreq(_) => Received::Ping,
        Packet::V3_1_1Disconnect(_) | Packet::V5_0Disconnect(_) => Received::Disconnect,
        _ => Received::Unexpected,
    }
}

fn grant(qos: Qos) -> Grant {
    if qos == Qos::AtMostOnce { Grant::Qos0 } else { Grant::Qos1 }
}

/// The flags byte of a CONNECT, which the library does not show: after the fixed header (type and a length of one to four bytes),
/// the six bytes of the protocol name and the protocol level.
fn connect_flags(packet: &[u8]) -> u8 {
    let length_bytes = packet.iter().skip(1).take_while(|byte| **byte & 0x80 != 0).count() + 1;
    packet.get(1 + length_bytes + 6 + 1).copied().unwrap_or(0xff)
}
