//! Whether a contact did what it was told: an ACTION's success is acceptance, not effect.

/// What was read back after a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadBack {
    /// Attribute 2, the contact.
    pub output: Option<bool>,
    /// Attribute 3: 0 disconnected, 1 connected, 2 ready for reconnection.
    pub control: Option<u8>,
    /// Attribute 4, the control mode.
    pub mode: Option<u8>,
    /// Voltage on the load side in whole volts, where the meter measures it.
    pub load_voltage: Option<u32>,
}

/// What was wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Open.
    Disconnected,
    /// Closed.
    Connected,
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The contact stands as wanted, and what else was read agrees.
    Verified,
    /// It is armed; a person must press the button at the meter.
    Armed,
    /// The meter did not take it: its mode does not allow it.
    Refused(&'static str),
    /// It was taken, and the readings say otherwise.
    Failed(&'static str),
    /// Too little could be read.
    Unknown,
}

/// Volts above which a line is live.
const LIVE: u32 = 50;

/// Judges a command by its action result (0 success) and what was read back.
pub fn judge(wanted: Wanted, action_result: u8, read: ReadBack) -> Effect {
    if read.mode == Some(0) {
        return Effect::Refused("control mode 0: the contact never opens");
    }
    if action_result != 0 {
        return Effect::Refused("the meter denied the action");
    }
    match (wanted, read.output, read.control, read.load_voltage) {
        (Wanted::Disconnected, Some(false), _, Some(volts)) if volts > LIVE => {
            Effect::Failed("supply still present behind an open contact")
        }
        (Wanted::Disconnected, Some(false), ..) => Effect::Verified,
        (Wanted::Disconnected, Some(true), ..) => Effect::Failed("the contact is still closed"),
        (Wanted::Connected, Some(true), _, Some(volts)) if volts <= LIVE => {
            Effect::Failed("no voltage behind a closed contact")
        }
        (Wanted::Connected, Some(true), ..) => Effect::Verified,
        // Modes 1, 3, 5 and 6 only arm it.
        (Wanted::Connected, Some(false), Some(2), _) => Effect::Armed,
        (Wanted::Connected, Some(false), ..) => Effect::Failed("the contact is still open"),
        _ => Effect::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn success_is_not_effect() {
        let read = |output, control, mode, volts| ReadBack {
            output,
            control: Some(control),
            mode: Some(mode),
            load_voltage: volts,
        };
        assert_eq!(judge(Wanted::Disconnected, 0, read(Some(false), 0, 4, Some(0))), Effect::Verified);
        assert!(matches!(judge(Wanted::Disconnected, 0, read(Some(false), 0, 4, Some(230))), Effect::Failed(_)));
        assert!(matches!(judge(Wanted::Disconnected, 0, read(Some(true), 1, 4, None)), Effect::Failed(_)));
        assert!(matches!(judge(Wanted::Disconnected, 3, read(Some(true), 1, 4, None)), Effect::Refused(_)));
        assert!(matches!(judge(Wanted::Disconnected, 0, read(Some(true), 1, 0, None)), Effect::Refused(_)));
        assert_eq!(judge(Wanted::Connected, 0, read(Some(false), 2, 1, None)), Effect::Armed);
        assert_eq!(judge(Wanted::Connected, 0, read(None, 1, 4, None)), Effect::Unknown);
    }
}
