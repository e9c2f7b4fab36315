//! Killed at any step: no cell twice, no budget lost, no mask again.

use privacy::{
    Custodian, Decision, Event, Field, MaskCounter, journal,
    query::{Query, Request},
};

use crate::{
    abuse::statistic,
    world::{FIRST, World, policy, signed},
};

/// The custodian as its shell runs it, on a journal of bytes that may end anywhere.
struct Shell {
    custodian: Custodian,
    journal: Vec<u8>,
}

impl Shell {
    fn start(journal: Vec<u8>, world: &World) -> Self {
        let (events, whole) = journal::read(&journal).expect("only the tail may be torn");
        let mut custodian = Custodian::new(policy(), [1; 32]).expect("a policy");
        for event in &events {
            custodian.apply(event);
        }
        for (meter, key) in &world.keys {
            custodian.insert_key(*meter, 1, key.clone());
        }
        Self { custodian, journal: journal[..whole].to_vec() }
    }

    /// Writes up to `left` more bytes, then is killed: `None`.
    fn ask(&mut self, request: &Request, left: &mut usize) -> Option<bool> {
        if let Decision::Commit(event) = self.custodian.decide(request, crate::world::NOW) {
            let line = journal::line(&event);
            let written = line.len().min(*left);
            self.journal.extend(&line[..written]);
            *left -= written;
            if written < line.len() {
                return None;
            }
            self.custodian.apply(&event);
            if matches!(event, Event::Refused { .. }) {
                return Some(false);
            }
        }
        Some(self.custodian.answer(&request.query).is_ok())
    }
}

/// Every byte of the journal is a place to die at; afterwards the client asks everything again.
#[test]
fn killed_after_any_byte_nothing_is_released_or_debited_twice() {
    let mut world = World::new(15, 1);
    world.fill(15, 96, Field::Import);
    world.fill(15, 96, Field::Clipped);
    let sum = world.spatial(0..15, FIRST, 48);
    let overlapping = world.spatial(0..15, FIRST + 40, 20);
    let noisy = Query::Statistic(statistic(&world, 96, 1, 700_000));
    let too_much = Query::Statistic(statistic(&world, 48, 2, 700_000));
    let requests: Vec<Request> = [sum, noisy, overlapping, too_much].map(signed).into();
    let setup: Vec<u8> = world.journal.iter().flat_map(journal::line).collect();
    let undisturbed = {
        let mut shell = Shell::start(setup.clone(), &world);
        let answers: Vec<_> = requests.iter().map(|r| shell.ask(r, &mut usize::MAX.clone())).collect();
        assert_eq!(answers, [Some(true), Some(true), Some(false), Some(false)]);
        (shell.custodian.answer(&requests[1].query).expect("answers"), shell.journal.len() - setup.len())
    };
    let step = 7;
    for killed_at in (0..undisturbed.1).step_by(step) {
        let mut shell = Shell::start(setup.clone(), &world);
        let mut left = killed_at;
        for request in &requests {
            if shell.ask(request, &mut left).is_none() {
                break;
            }
        }
        let mut shell = Shell::start(shell.journal, &world);
        let answers: Vec<_> = requests.iter().map(|r| shell.ask(r, &mut usize::MAX.clone())).collect();
        assert_eq!(answers, [Some(true), Some(true), Some(false), Some(false)], "killed after byte {killed_at}");
        assert_eq!(shell.custodian.state().epsilon_micro(), 700_000, "killed after byte {killed_at}");
        let again = shell.custodian.answer(&requests[1].query);
        assert_eq!(again.as_ref(), Ok(&undisturbed.0), "killed after byte {killed_at}: another draw of noise");
    }
}

#[test]
fn damage_before_the_end_is_not_taken_for_a_torn_line() {
    let world = World::new(15, 1);
    let mut bytes: Vec<u8> = world.journal.iter().flat_map(journal::line).collect();
    let (events, whole) = journal::read(&bytes).expect("whole");
    assert_eq!((events.len(), whole), (world.journal.len(), bytes.len()));
    bytes[40] ^= 1;
    assert!(journal::read(&bytes).is_err());
}

/// The counter is saved before a masked reading may leave; a meter that dies before the save never sent that reading.
#[test]
fn a_meter_killed_at_any_step_uses_no_mask_twice() {
    let mut sent = std::collections::BTreeSet::new();
    let mut saved = MaskCounter::default();
    let mut clock = 2_000_000_u64;
    for round in 0..2_000_u64 {
        let mut counter = saved;
        // clocks go back, stand still and jump
        clock = match round % 17 {
            3 => clock - 200,
            5 => clock,
            11 => clock + 90,
            _ => clock + 1,
        };
        let mine = counter.take(clock);
        if round % 3 == 0 {
            continue; // killed before the save
        }
        saved = counter;
        if round % 5 == 0 {
            continue; // killed between save and sending: the number is lost, and that is all
        }
        assert!(sent.insert(mine), "round {round} used counter {mine} again");
    }
}
