//! The hand-over between programs: what a start, a confirmation and an installation write, and in which order.
//!
//! The boot state is written before the bootloader's choice, so that a power cut between the two is made good by the next start.
//! What is decided is in [`crate::rollback`]; this only writes it.

use core::fmt;

use embedded_storage::nor_flash::NorFlash;

use crate::{
    image::Header,
    otadata::{self, ImageState},
    partitions::BOOT,
    record::{self, SaveError},
    rollback::{BootState, Slot, Start},
};

/// The boot state as it was written last; a new board's, when there is none.
///
/// # Errors
/// When the flash fails.
pub fn state<F: NorFlash>(flash: &mut F, running: Slot, version: u32) -> Result<BootState, F::Error> {
    let written = record::load(flash, BOOT)?.and_then(|bytes| minicbor::decode(&bytes).ok());
    Ok(written.unwrap_or(BootState { confirmed: running, ..BootState::new(version) }))
}

fn write<F: NorFlash>(flash: &mut F, state: &BootState) -> Result<(), SaveError<F::Error>> {
    let bytes = minicbor::to_vec(state).map_err(|_| SaveError::TooLong)?;
    record::save(flash, BOOT, &bytes)
}

/// The first thing a program does: `Switch` means that it must start the chip again at once.
///
/// # Errors
/// When the flash fails; then the program runs on.
pub fn begin<F: NorFlash>(flash: &mut F, running: Slot, version: u32) -> Result<Start, SaveError<F::Error>>
where
    F::Error: fmt::Debug,
{
    let mut state = state(flash, running, version).map_err(SaveError::Flash)?;
    let before = state;
    let start = state.start_in(running, version);
    if state != before {
        write(flash, &state)?;
    }
    if let Start::Switch(slot) = start {
        let image = if state.trial.is_some() { ImageState::New } else { ImageState::Valid };
        otadata::select(flash, slot, image).map_err(SaveError::Flash)?;
    }
    Ok(start)
}

/// The self-test has passed: ends a trial. Tells whether there was one.
///
/// # Errors
/// When the flash fails; the trial goes on.
pub fn confirm<F: NorFlash>(flash: &mut F, running: Slot, version: u32) -> Result<bool, SaveError<F::Error>> {
    let mut state = state(flash, running, version).map_err(SaveError::Flash)?;
    if !state.confirm(running) {
        return Ok(false);
    }
    otadata::select(flash, running, ImageState::Valid).map_err(SaveError::Flash)?;
    write(flash, &state)?;
    Ok(true)
}

/// A checked image lies in the other slot: the next start tries it.
///
/// # Errors
/// When the flash fails; nothing is tried then, or the next start tries it.
pub fn install<F: NorFlash>(flash: &mut F, state: &BootState, header: &Header) -> Result<(), SaveError<F::Error>> {
    let mut state = *state;
    state.install(header);
    write(flash, &state)?;
    otadata::select(flash, state.confirmed.other(), ImageState::New).map_err(SaveError::Flash)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ram::RamFlash, rollback::TRIES};

    const HEADER: Header =
        Header { hardware: 6, version: 2, security_floor: 2, length: 1, hash: [0; 32], is_downgrade: false };

    fn board() -> RamFlash {
        RamFlash::new(0x32_0000 / 4_096)
    }

    /// Starts until something runs; the version in slot B is 2.
    fn run(flash: &mut RamFlash) -> Slot {
        for _ in 0..10 {
            let slot = otadata::selected(flash).expect("power");
            if begin(flash, slot, if slot == Slot::A { 1 } else { 2 }).expect("power") == Start::Run {
                return slot;
            }
        }
        panic!("it starts for ever");
    }

    #[test]
    fn an_image_is_tried_confirmed_and_kept_or_given_up() {
        let mut flash = board();
        assert_eq!(run(&mut flash), Slot::A);
        assert_eq!(confirm(&mut flash, Slot::A, 1), Ok(false));
        let now = state(&mut flash, Slot::A, 1).expect("power");
        install(&mut flash, &now, &HEADER).expect("power");
        let mut good = flash.clone();
        for _ in 0..TRIES {
            assert_eq!(run(&mut flash), Slot::B);
        }
        assert_eq!((run(&mut flash), run(&mut flash)), (Slot::A, Slot::A), "it never reached the server");
        assert_eq!(run(&mut good), Slot::B);
        assert_eq!(confirm(&mut good, Slot::B, 2), Ok(true));
        for _ in 0..10 {
            assert_eq!(run(&mut good), Slot::B);
        }
        let kept = state(&mut good, Slot::B, 2).expect("power");
        assert_eq!((kept.version, kept.security_floor, kept.trial), (2, 2, None));
    }

    #[test]
    fn a_power_cut_in_any_step_leaves_a_slot_that_starts() {
        for words in 0..200 {
            let mut flash = board();
            let now = state(&mut flash, Slot::A, 1).expect("power");
            flash.left = Some(words);
            let result = install(&mut flash, &now, &HEADER)
                .and_then(|()| begin(&mut flash, Slot::B, 2))
                .and_then(|_| confirm(&mut flash, Slot::B, 2));
            flash.left = None;
            let slot = run(&mut flash);
            if result == Ok(true) {
                assert_eq!(slot, Slot::B);
            }
            // without a confirmation the old one comes back in the end
            for _ in 0..=TRIES {
                run(&mut flash);
            }
            let kept = state(&mut flash, slot, 1).expect("power");
            let last = run(&mut flash);
            assert_eq!((kept.confirmed, kept.trial), (last, None), "cut after {words} words");
        }
    }
}
