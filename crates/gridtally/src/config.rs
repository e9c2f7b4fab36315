//! Configuration of `serve`: one struct per concern, unknown keys refused, everything has a default that works on one machine.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    num::{NonZeroU16, NonZeroU32},
    path::{Path, PathBuf},
};

use metering::{MeterId, ZoneId, supply::SupplyCeilings};
use serde::Deserialize;
use web::supply::NominalVoltage;

/// The whole file (`docs/gridtally.toml` is a sample; a test parses it).
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Pages, REST and readings by HTTP.
    pub http: HttpConfig,
    /// Meters by MQTT.
    pub mqtt: MqttConfig,
    /// Meters by SMS.
    pub texts: TextsConfig,
    /// The network's declared voltage.
    pub supply: SupplyConfig,
    /// What a reading must keep to.
    pub readings: ReadingsConfig,
    /// Slots, alarms, read-back.
    pub pipeline: PipelineConfig,
    /// What no policy that is set on the pages may go beyond.
    pub ceilings: SupplyCeilings,
}

/// What a reading must keep to in order to be believed.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ReadingsConfig {
    /// Largest power, watts, of a connection whose row in the topology names no `rating_w`.
    pub connection_watts: NonZeroU32,
}

impl Default for ReadingsConfig {
    /// 60 A × 400 V × 3 phases × 1.2.
    fn default() -> Self {
        Self { connection_watts: NonZeroU32::MIN.saturating_add(86_399) }
    }
}

/// Pages, REST and readings by HTTP.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HttpConfig {
    /// Address and port; port 0 takes a free one. Off loopback only with `tls` or `proxies`.
    pub listen: SocketAddr,
    /// The address that people open, as `https://gridtally.example`.
    pub public_url: Option<String>,
    /// Proxies that speak https before this server, as addresses or networks; only they are believed when they name a caller.
    pub proxies: Vec<String>,
    /// Address and port for readings by plain HTTP, and nothing else, from `[mqtt] plain_networks`.
    pub readings_listen: Option<SocketAddr>,
    /// Most connections to pages, REST and readings by HTTP at the same time.
    pub connections_max: NonZeroU32,
    /// Most of them from one address (of IPv6: one /64); proxies do not count.
    pub connections_per_address_max: NonZeroU32,
    /// Certificate for https.
    pub tls: Option<CertificateFiles>,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            public_url: None,
            proxies: Vec::new(),
            readings_listen: None,
            connections_max: const { NonZeroU32::new(2_000).expect("not zero") },
            connections_per_address_max: const { NonZeroU32::new(256).expect("not zero") },
            tls: None,
        }
    }
}

/// A certificate and its key; read again when they change, or on SIGHUP.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CertificateFiles {
    /// Certificate chain, PEM.
    pub certificate: PathBuf,
    /// Private key, PEM.
    pub key: PathBuf,
}

/// Meters by MQTT.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MqttConfig {
    /// Address and port of plain MQTT; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Networks from which plain MQTT, and readings by plain HTTP, are taken besides loopback, as `192.168.0.0/16`.
    pub plain_networks: Vec<String>,
    /// MQTT over TLS.
    pub tls: Option<TlsConfig>,
    /// Devices that hand on what many meters send.
    #[serde(rename = "gateway")]
    pub gateways: Vec<GatewayConfig>,
}

impl Default for MqttConfig {
    fn default() -> Self {
        let listen = SocketAddr::from(([127, 0, 0, 1], 1883));
        Self { listen, plain_networks: Vec::new(), tls: None, gateways: Vec::new() }
    }
}

/// A gateway and the meters that it speaks for.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GatewayConfig {
    /// Its user name, formed as a meter's identifier.
    pub name: MeterId,
    /// SHA-256 of the 32 bytes of its secret, 64 hexadecimal digits. Its password is the secret itself, hexadecimal.
    pub secret_sha256: String,
    /// Its meters.
    pub meters: Vec<MeterId>,
}

impl GatewayConfig {
    /// The hash; `None` when it is not 64 hexadecimal digits.
    pub fn hash(&self) -> Option<[u8; 32]> {
        telegrams::bytes::from_hex(&self.secret_sha256)?.try_into().ok()
    }
}

/// A TLS listener.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsConfig {
    /// Address and port, usually 8883.
    pub listen: SocketAddr,
    /// Certificate chain, PEM.
    pub certificate: PathBuf,
    /// Private key, PEM.
    pub key: PathBuf,
}

/// Meters by SMS, for when they have no data connection.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TextsConfig {
    /// Folder into which a modem's daemon puts a file for each text that came; without one, no texts are taken.
    pub inbox: Option<PathBuf>,
    /// Seconds between two looks into it.
    pub poll_seconds: NonZeroU32,
}

impl Default for TextsConfig {
    fn default() -> Self {
        Self { inbox: None, poll_seconds: NonZeroU32::MIN.saturating_add(9) }
    }
}

/// The network's declared voltage, against which power quality is judged.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SupplyConfig {
    /// Phase voltage of the low-voltage network, volts.
    pub nominal_volts: NonZeroU16,
    /// Other voltages of zones, volts; each holds for the zones in it too.
    pub zones: BTreeMap<ZoneId, NonZeroU16>,
}

impl Default for SupplyConfig {
    fn default() -> Self {
        let nominal_volts = const { NonZeroU16::new(web::supply::NOMINAL_VOLTS).expect("not zero") };
        Self { nominal_volts, zones: BTreeMap::new() }
    }
}

impl SupplyConfig {
    /// As the pages take it.
    pub fn nominal(&self) -> NominalVoltage {
        let zones = self.zones.iter().map(|(zone, volts)| (*zone, volts.get())).collect();
        NominalVoltage::new(self.nominal_volts.get(), zones)
    }
}

/// Slots, alarms, read-back.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PipelineConfig {
    /// How long after its end a slot waits for late meters, seconds (real clock only; at once when every meter has reported).
    pub slot_grace_seconds: u32,
    /// False zone alarms accepted per zone and month.
    #[serde(deserialize_with = "alarm_budget")]
    pub false_alarms_per_zone_month: f64,
    /// Seconds between a control's answer and the reading back that judges it (real clock; a simulation takes its step).
    pub read_back_seconds: u32,
    /// Seconds after which an acknowledged disconnect that could not be read back has failed.
    pub verify_within_seconds: u32,
    /// Reading all meters of an alarmed zone at the same second.
    pub snapshots: SnapshotConfig,
}

/// A rate of false alarms that the test can keep.
fn alarm_budget<'de, D: serde::Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
    let rate = f64::deserialize(from)?;
    if (1e-4..=10.0).contains(&rate) {
        return Ok(rate);
    }
    Err(serde::de::Error::custom(format!(
        "false_alarms_per_zone_month = {rate} is no budget: give a number from 0.0001 to 10, such as 0.01"
    )))
}

/// When energy is missing in a zone, all its meters are read at the same second, three times.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SnapshotConfig {
    /// Whether to do it.
    pub enabled: bool,
    /// Seconds from the asking to the second that is asked for: controls must have arrived by then.
    pub lead_seconds: NonZeroU32,
    /// Seconds between two of the three.
    pub apart_seconds: NonZeroU32,
    /// Seconds for which answers are waited for; they may come late when a link is bad.
    pub answers_seconds: u32,
    /// Most zones that are read so at the same time; others wait.
    pub zones_at_once: NonZeroU32,
    /// Hours from the begin of a zone's reading to its next one, at least, should it be alarmed again.
    pub zone_pause_hours: u32,
}

impl Default for SnapshotConfig {
    fn default() -> Self {
        const fn some(value: u32) -> NonZeroU32 {
            NonZeroU32::MIN.saturating_add(value - 1)
        }
        Self {
            enabled: true,
            lead_seconds: some(120),
            apart_seconds: some(1_800),
            answers_seconds: 600,
            zones_at_once: some(4),
            zone_pause_hours: 24,
        }
    }
}

impl Default for PipelineConfig {
    fn default() -> Self {
        Self {
            slot_grace_seconds: 300,
            false_alarms_per_zone_month: 0.01,
            read_back_seconds: 5,
            verify_within_seconds: 600,
            snapshots: SnapshotConfig::default(),
        }
    }
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A value that cannot be.
    #[error("the configuration {path}: {key} {why}")]
    Value {
        /// The file.
        path: PathBuf,
        /// The key.
        key: &'static str,
        /// What is wrong and what would be right.
        why: String,
    },
    /// The file does not say what it should.
    #[error("the configuration {path} is not understood: {source}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where and what.
        source: Box<toml::de::Error>,
    },
}

impl Config {
    /// Reads a file; without one, the defaults.
    pub fn load(path: Option<&Path>) -> Result<Self, ConfigError> {
        let Some(path) = path else { return Ok(Self::default()) };
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.into(), source })?;
        let config: Self = toml::from_str(&text)
            .map_err(|source| ConfigError::Parse { path: path.into(), source: Box::new(source) })?;
        config.check().map_err(|(key, why)| ConfigError::Value { path: path.into(), key, why })?;
        Ok(config)
    }

    /// What the types cannot say.
    fn check(&self) -> Result<(), (&'static str, String)> {
        for network in self.http.proxies.iter().chain(&self.mqtt.plain_networks) {
            if let Err(error) = network.parse::<headend::Network>() {
                return Err(("[http] proxies or [mqtt] plain_networks:", error.to_string()));
            }
        }
        if let Some(gateway) = self.mqtt.gateways.iter().find(|gateway| gateway.hash().is_none()) {
            let why = format!("secret_sha256 of {} is not 64 hexadecimal digits", gateway.name);
            return Err(("[[mqtt.gateway]]", why));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sample_file_states_the_defaults() {
        let sample: Config = toml::from_str(include_str!("../../../docs/gridtally.toml")).expect("the sample parses");
        assert_eq!(sample, Config::default());
    }

    #[test]
    fn zones_may_have_another_voltage() {
        let text = "[supply]\nnominal_volts = 240\nzones = { F-2 = 120 }\n[texts]\ninbox = \"/var/spool/inbox\"";
        let config: Config = toml::from_str(text).expect("parses");
        let zone = ZoneId::new("F-2").expect("id");
        assert_eq!(config.supply.nominal(), NominalVoltage::new(240, BTreeMap::from([(zone, 120)])));
        assert!(toml::from_str::<Config>("[supply]\nnominal_volts = 0").is_err());
        assert!(toml::from_str::<Config>("[texts]\npoll_seconds = 0").is_err());
    }

    #[test]
    fn a_budget_of_alarms_that_is_none_is_refused() {
        for rate in ["-1", "0", "nan", "inf", "-0.0", "11"] {
            let text = format!("[pipeline]\nfalse_alarms_per_zone_month = {rate}");
            let error = toml::from_str::<Config>(&text).expect_err(rate).to_string();
            assert!(error.contains("is no budget"), "{error}");
        }
        assert!(toml::from_str::<Config>("[pipeline]\nfalse_alarms_per_zone_month = 0.5").is_ok());
        assert!(toml::from_str::<Config>("[readings]\nconnection_watts = 0").is_err());
    }

    #[test]
    fn values_that_cannot_be_are_refused() {
        for text in ["[http]\nproxies = [\"example.org\"]", "[mqtt]\nplain_networks = [\"10.0.0.0/33\"]"] {
            let config: Config = toml::from_str(text).expect(text);
            assert!(config.check().is_err(), "{text}");
        }
        assert!(toml::from_str::<Config>("[http]\nconnections_max = 0").is_err());
        assert_eq!(Config::default().check(), Ok(()));
    }

    #[test]
    fn an_unknown_key_is_refused() {
        let gateway =
            |hash: &str| format!("[[mqtt.gateway]]\nname = \"site-1\"\nsecret_sha256 = \"{hash}\"\nmeters = [\"M-1\"]");
        let known: Config = toml::from_str(&gateway(&"ab".repeat(32))).expect("a gateway");
        assert!(known.check().is_ok());
        let unknown: Config = toml::from_str(&gateway("secret")).expect("a gateway");
        assert!(unknown.check().is_err());
        assert!(toml::from_str::<Config>("[mqtt]\nlitsen = \"127.0.0.1:1883\"").is_err());
    }
}
