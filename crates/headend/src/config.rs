//! The settings of the head-end, and the networks that may speak without TLS.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    str::FromStr,
    time::Duration,
};

use metering::frame::FRAME_BYTES_MAX;

/// Settings of the head-end. The defaults are for production; a test shortens the times.
#[derive(Clone, Debug)]
pub struct HeadendConfig {
    /// Where plain MQTT listens; `None` switches it off. Port 0 takes a free port.
    pub mqtt: Option<SocketAddr>,
    /// Where MQTT over TLS listens, and with which certificate; `None` switches it off.
    pub mqtts: Option<TlsListen>,
    /// Who may speak without TLS, besides the loopback: nobody unless set.
    pub plain_networks: Networks,
    /// Most connections at once.
    pub connections_max: usize,
    /// Most connections of one address that have not logged on; a further one ends the oldest of them.
    pub waiting_per_address_max: usize,
    /// Most connections of one meter at once, each with its own client identifier; a further one ends the oldest.
    pub connections_per_meter_max: usize,
    /// Largest MQTT packet in bytes; a larger one is refused when its length is read, before anything is allocated.
    pub packet_bytes_max: u32,
    /// Deliveries of one connection that may wait for their commit; then its socket is not read until some are committed.
    pub window: usize,
    /// Commands that may wait for the acknowledgement of one meter.
    pub down_window: usize,
    /// From the TCP connection to the accepted CONNECT, the TLS handshake included, whatever the peer sends meanwhile.
    pub connect_timeout: Duration,
    /// From the head of a request with readings to the end of its body.
    pub body_timeout: Duration,
    /// A connection without keep-alive, or with a longer one, is closed after one and a half times this silence.
    pub keep_alive_max: Duration,
    /// A peer that takes nothing of what waits for it is closed after this.
    pub write_timeout: Duration,
    /// How long [`Headend::send`](crate::Headend::send) waits for the acknowledgement of the meter.
    pub down_timeout: Duration,
}

/// A TLS listener and its certificate.
#[derive(Clone, Debug)]
pub struct TlsListen {
    /// Where it listens.
    pub listen: SocketAddr,
    /// PEM file with the certificate and the chain behind it.
    pub certificates: PathBuf,
    /// PEM file with the private key.
    pub key: PathBuf,
}

impl Default for HeadendConfig {
    fn default() -> Self {
        Self {
            mqtt: Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 1883))),
            mqtts: None,
            plain_networks: Networks::default(),
            connections_max: 20_000,
            waiting_per_address_max: 512,
            connections_per_meter_max: 4,
            // a frame of the largest size, its topic and its headers
            packet_bytes_max: u32::try_from(FRAME_BYTES_MAX).unwrap_or(u32::MAX) + 256,
            window: 64,
            down_window: 16,
            connect_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(20),
            keep_alive_max: Duration::from_secs(3_600),
            write_timeout: Duration::from_secs(30),
            down_timeout: Duration::from_secs(20),
        }
    }
}

/// Networks in CIDR notation. The loopback always belongs to them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Networks(Vec<Network>);

/// One network: an address and how many leading bits count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    bits: u8,
}

/// A text is not a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkError(String);

impl fmt::Display for NetworkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?} is not a network: write an address and its prefix length, like 192.168.1.0/24 or fd00::/8",
            self.0
        )
    }
}

impl std::error::Error for NetworkError {}

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let error = || NetworkError(text.to_owned());
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits.parse::<u8>().map_err(|_| error())?)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| error())?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.unwrap_or(most);
        if bits > most { Err(error()) } else { Ok(Self { address, bits }) }
    }
}

impl Network {
    fn contains(&self, ip: IpAddr) -> bool {
        let (own, other, width) = match (self.address, ip) {
            (IpAddr::V4(own), IpAddr::V4(other)) => (u128::from(own.to_bits()), u128::from(other.to_bits()), 32),
            (IpAddr::V6(own), IpAddr::V6(other)) => (own.to_bits(), other.to_bits(), 128),
            _ => return false,
        };
        (own ^ other).checked_shr(width - u32::from(self.bits)).unwrap_or(0) == 0
    }
}

impl FromIterator<Network> for Networks {
    fn from_iter<T: IntoIterator<Item = Network>>(networks: T) -> Self {
        Self(networks.into_iter().collect())
    }
}

impl Networks {
    /// Whether an address is the loopback or in one of the networks. An IPv4 address written as IPv6 counts as IPv4.
    pub fn contains(&self, ip: IpAddr) -> bool {
        ip.to_canonical().is_loopback() || self.contains_beyond_loopback(ip)
    }

    /// Whether an address is in one of the networks; the loopback only when a network holds it.
    pub fn contains_beyond_loopback(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        self.0.iter().any(|network| network.contains(ip))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_hold_what_they_say() {
        let networks: Networks = ["192.168.1.0/24", "10.1.2.3", "fd00::/8"]
            .iter()
            .map(|text| text.parse::<Network>().expect(text))
            .collect();
        for inside in ["127.0.0.1", "::1", "::ffff:127.0.0.1", "192.168.1.77", "10.1.2.3", "fd12::1", "::ffff:10.1.2.3"]
        {
            assert!(networks.contains(inside.parse().expect(inside)), "{inside}");
        }
        for outside in ["192.168.2.1", "10.1.2.4", "fe80::1", "8.8.8.8", "::"] {
            assert!(!networks.contains(outside.parse().expect(outside)), "{outside}");
        }
        let all: Networks = ["0.0.0.0/0", "::/0"].iter().map(|text| text.parse::<Network>().expect(text)).collect();
        assert!(all.contains("8.8.8.8".parse().expect("ip")) && all.contains("2001::1".parse().expect("ip")));
        for bad in ["", "192.168.1.0/33", "fd00::/129", "example.org/8", "10.0.0.0/", "10.0.0.0/-1"] {
            assert!(bad.parse::<Network>().is_err(), "{bad}");
        }
    }
}
