//! MQTT topics of protocol version 1: `gt/1/<meter>/up/<kind>` and `gt/1/<meter>/down/<kind>`.

use alloc::{format, string::String};

use crate::id::MeterId;

/// What a meter sends; the last level of an up topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum UpKind {
    /// First frame after a start.
    Hello,
    /// A batch of profile records.
    Profile,
    /// Instantaneous values.
    Now,
    /// Something happened at the meter.
    Event,
    /// Answer to a control.
    Reply,
    /// Power quality: ten-minute values, harmonics, dips.
    Quality,
    /// Registers and power at one agreed second.
    Snapshot,
}

/// What a server sends; the last level of a down topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DownKind {
    /// A command with expiry, counter and signatures.
    Control,
    /// Settings the meter shall keep.
    Config,
    /// The time.
    Time,
}

impl UpKind {
    /// Every kind, in protocol order.
    pub const ALL: [Self; 7] =
        [Self::Hello, Self::Profile, Self::Now, Self::Event, Self::Reply, Self::Quality, Self::Snapshot];

    /// The number of the body on the wire and in storage.
    pub const fn code(self) -> u8 {
        match self {
            Self::Hello => 0,
            Self::Profile => 1,
            Self::Now => 2,
            Self::Event => 3,
            Self::Reply => 4,
            Self::Quality => 5,
            Self::Snapshot => 6,
        }
    }

    /// The kind of a number.
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.get(usize::from(code)).copied()
    }

    /// The level in the topic.
    pub const fn level(self) -> &'static str {
        match self {
            Self::Hello => "hello",
            Self::Profile => "profile",
            Self::Now => "now",
            Self::Event => "event",
            Self::Reply => "reply",
            Self::Quality => "quality",
            Self::Snapshot => "snapshot",
        }
    }
}

impl DownKind {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::Control, Self::Config, Self::Time];

    /// The level in the topic.
    pub const fn level(self) -> &'static str {
        match self {
            Self::Control => "control",
            Self::Config => "config",
            Self::Time => "time",
        }
    }
}

/// A topic of the protocol, parsed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topic {
    /// From a meter.
    Up(MeterId, UpKind),
    /// To a meter.
    Down(MeterId, DownKind),
}

impl Topic {
    /// Parses a topic name; `None` for anything that is not exactly a topic of this protocol.
    pub fn parse(name: &str) -> Option<Self> {
        let rest = name.strip_prefix("gt/1/")?;
        let (meter, rest) = rest.split_once('/')?;
        let meter = MeterId::new(meter).ok()?;
        let (direction, level) = rest.split_once('/')?;
        match direction {
            "up" => UpKind::ALL.into_iter().find(|kind| kind.level() == level).map(|kind| Self::Up(meter, kind)),
            "down" => DownKind::ALL.into_iter().find(|kind| kind.level() == level).map(|kind| Self::Down(meter, kind)),
            _ => None,
        }
    }

    /// The topic name.
    pub fn name(&self) -> String {
        match self {
            Self::Up(meter, kind) => format!("gt/1/{meter}/up/{}", kind.level()),
            Self::Down(meter, kind) => format!("gt/1/{meter}/down/{}", kind.level()),
        }
    }

    /// The filter a meter subscribes to for everything sent to it.
    pub fn down_filter(meter: MeterId) -> String {
        format!("gt/1/{meter}/down/#")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_exact_topics_are_topics() {
        let meter = MeterId::new("M-1").expect("valid");
        for kind in UpKind::ALL {
            assert_eq!(UpKind::from_code(kind.code()), Some(kind));
            let topic = Topic::Up(meter, kind);
            assert_eq!(Topic::parse(&topic.name()), Some(topic));
        }
        for kind in DownKind::ALL {
            let topic = Topic::Down(meter, kind);
            assert_eq!(Topic::parse(&topic.name()), Some(topic));
        }
        for bad in [
            "gt/1/M-1/up",
            "gt/1/M-1/up/profile/x",
            "gt/2/M-1/up/profile",
            "gt/1/+/up/profile",
            "gt/1//up/now",
            "/gt/1/a/up/now",
        ] {
            assert_eq!(Topic::parse(bad), None, "{bad}");
        }
    }
}
