//! Which of two firmware slots starts, and when a new one is given up.
//!
//! A new image starts on trial: each start takes one of its tries, and only a self-test confirms it. When the tries are used up,
//! the slot before starts again. The state is written before the start it decides about, so a power cut at any moment costs a try
//! at most. It does not know flash: [`crate::record`] keeps its bytes.

use minicbor::{Decode, Encode};

use crate::image::Header;

/// Starts that an image on trial has to prove itself.
pub const TRIES: u8 = 3;

/// One of the two slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum Slot {
    /// The first.
    #[n(0)]
    A,
    /// The second.
    #[n(1)]
    B,
}

impl Slot {
    /// The other one.
    pub const fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }
}

/// An image that has not proved itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Trial {
    /// Its version.
    #[n(0)]
    pub version: u32,
    /// Its security floor, in force once it is confirmed.
    #[n(1)]
    pub security_floor: u32,
    /// Starts left.
    #[n(2)]
    pub tries: u8,
}

/// What survives a power cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct BootState {
    /// The slot that has proved itself.
    #[n(0)]
    pub confirmed: Slot,
    /// Its version.
    #[n(1)]
    pub version: u32,
    /// Versions below are barred; never falls.
    #[n(2)]
    pub security_floor: u32,
    /// An image in the other slot that is on trial.
    #[n(3)]
    pub trial: Option<Trial>,
}

/// What a start does, once the state is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// Run.
    Run,
    /// Tell the bootloader to start this slot, and start again.
    Switch(Slot),
}

impl BootState {
    /// A board as it leaves the maker: slot A runs `version`.
    pub const fn new(version: u32) -> Self {
        Self { confirmed: Slot::A, version, security_floor: version, trial: None }
    }

    /// A checked image lies in the slot that does not run: the next start tries it.
    pub fn install(&mut self, header: &Header) {
        self.trial = Some(Trial { version: header.version, security_floor: header.security_floor, tries: TRIES });
    }

    /// A start: gives the slot to run. Write the state before running it.
    pub fn start(&mut self) -> Slot {
        match &mut self.trial {
            Some(trial) if trial.tries > 0 => {
                trial.tries -= 1;
                self.confirmed.other()
            }
            _ => {
                self.trial = None;
                self.confirmed
            }
        }
    }

    /// A start of the program of `version` in the slot `running`, which the bootloader chose.
    ///
    /// A trial that goes on or has just ended switches where the bootloader chose otherwise. Without a trial it does not: the
    /// bootloader could not start the slot that had proved itself, and what runs is all there is.
    pub fn start_in(&mut self, running: Slot, version: u32) -> Start {
        let was_on_trial = self.trial.is_some();
        let slot = self.start();
        if slot != running && was_on_trial {
            return Start::Switch(slot);
        }
        if self.trial.is_none() {
            (self.confirmed, self.version) = (running, version);
        }
        Start::Run
    }

    /// The self-test of the slot that runs has passed. Tells whether that ended a trial.
    pub fn confirm(&mut self, running: Slot) -> bool {
        let Some(trial) = self.trial.filter(|_| running != self.confirmed) else { return false };
        self.confirmed = running;
        self.version = trial.version;
        self.security_floor = self.security_floor.max(trial.security_floor.min(trial.version));
        self.trial = None;
        true
    }
}

/// What a new image must show before it is confirmed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SelfTest {
    /// Measurement windows closed.
    pub windows: u32,
    /// Stored records could be read.
    pub storage: bool,
    /// Frames that the server has acknowledged.
    pub acknowledged: u32,
}

impl SelfTest {
    /// Ten seconds measured, storage readable, and the server reached: an image that cannot do these could not be replaced.
    pub const fn passed(&self) -> bool {
        self.windows >= 50 && self.storage && self.acknowledged > 0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn header(version: u32) -> Header {
        Header { hardware: 6, version, security_floor: version, length: 1, hash: [0; 32], is_downgrade: false }
    }

    #[test]
    fn an_image_that_never_confirms_is_given_up() {
        let mut state = BootState::new(1);
        state.install(&header(2));
        for _ in 0..TRIES {
            assert_eq!(state.start(), Slot::B);
        }
        assert_eq!(state.start(), Slot::A);
        assert_eq!((state.version, state.trial), (1, None));
        assert!(!state.confirm(Slot::A), "nothing is on trial");
    }

    #[test]
    fn a_confirmed_image_stays_and_raises_the_floor() {
        let mut state = BootState::new(1);
        state.install(&header(2));
        assert_eq!(state.start(), Slot::B);
        assert!(state.confirm(Slot::B));
        assert_eq!((state.start(), state.version, state.security_floor), (Slot::B, 2, 2));
        assert!(!SelfTest { windows: 50, storage: true, acknowledged: 0 }.passed());
    }

    #[test]
    fn a_trial_that_the_bootloader_ends_is_tried_again_and_then_given_up() {
        let mut state = BootState::new(1);
        state.install(&header(2));
        // a bootloader with rollback starts A again after each start of B that confirms nothing
        let mut starts = 0;
        while state.start_in(Slot::A, 1) == Start::Switch(Slot::B) {
            starts += 1;
            state.start_in(Slot::B, 2);
        }
        assert!((1..=TRIES).contains(&starts));
        assert_eq!((state.confirmed, state.version, state.trial), (Slot::A, 1, None));
    }

    #[test]
    fn a_slot_that_cannot_start_any_more_is_left() {
        let mut state = BootState { confirmed: Slot::B, ..BootState::new(2) };
        assert_eq!(state.start_in(Slot::A, 1), Start::Run);
        assert_eq!((state.confirmed, state.version, state.security_floor), (Slot::A, 1, 2));
    }

    proptest! {
        /// Whatever the bootloader starts: the board does not switch for ever.
        #[test]
        fn switching_ends(slots in prop::collection::vec(any::<bool>(), 20)) {
            let mut state = BootState::new(1);
            state.install(&header(2));
            let switches = slots.iter().filter(|b| {
                let running = if **b { Slot::B } else { Slot::A };
                matches!(state.start_in(running, 1), Start::Switch(_))
            });
            prop_assert!(switches.count() <= usize::from(TRIES) + 1);
        }

        #[test]
        fn a_slot_that_has_proved_itself_is_always_within_reach(steps in prop::collection::vec((0_u8..4, 1_u32..9), 1..200)) {
            let mut state = BootState::new(1);
            let mut running = state.start();
            for (step, version) in steps {
                let before = state;
                match step {
                    0 => state.install(&header(version)),
                    1 => running = state.start(),
                    2 => { state.confirm(running); }
                    _ => { // a power cut: what was written is read back
                        let bytes = minicbor::to_vec(state).expect("memory");
                        state = minicbor::decode(&bytes).expect("own bytes");
                        running = state.start();
                    }
                }
                prop_assert!(state.security_floor >= before.security_floor);
                // only a confirmation moves it
                prop_assert!(state.confirmed == before.confirmed || step == 2);
                let mut later = state;
                let starts = (0..=TRIES).map(|_| later.start()).last();
                prop_assert_eq!(starts, Some(state.confirmed));
            }
        }
    }
}
