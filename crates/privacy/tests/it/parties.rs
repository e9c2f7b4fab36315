//! Every party killed at every step, hundreds of times: no mask is used twice, no cell is released twice, no budget is lost or spent
//! twice, no head is vouched for that does not continue the one before.
//!
//! Each party is what it has on its disk; a kill throws the rest away, at a step that is drawn, and the party starts again from there.

use std::collections::BTreeMap;

use privacy::{
    Custodian, Decision, Event, Field, MaskCounter,
    draws::Draws,
    journal,
    log::{Checkpoint, Signed},
    merkle,
    operator::{MaskedReading, MaskedStore, Taken},
    query::{Adjacency, Answer, Mechanism, Purpose, Query, Request, SpatialQuery, StatisticQuery},
};

use crate::world::{FIRST, NOW, World, id, key, policy, signed};

const HOMES: usize = 15;
const KILLS: usize = 240;

/// The party that dies in a round, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kill {
    /// Before it saved; after it saved and before it sent; after it sent and before it was acknowledged.
    Meter(usize, u8),
    /// Before it stored a frame; after it stored and before it acknowledged; before it asked; before it kept the answer.
    Operator(u8),
    /// After so many thousandths of the journal's line; beyond: after the line and before the answer.
    Custodian(u16),
    /// Before it remembered a head; after that and before it cosigned.
    Witness(u8),
}

fn drawn(draws: &mut Draws) -> Kill {
    let mut below = |end: u128| draws.below(end);
    match below(4) {
        0 => Kill::Meter(below(HOMES as u128) as usize, below(3) as u8),
        1 => Kill::Operator(below(4) as u8),
        2 => Kill::Custodian(below(1_200) as u16),
        _ => Kill::Witness(below(2) as u8),
    }
}

/// What lies in a meter's flash: the counter, and the readings that wait, masked.
#[derive(Clone, Default)]
struct Flash {
    counter: MaskCounter,
    waiting: Vec<MaskedReading>,
}

struct Parties {
    world: World,
    meters: Vec<Flash>,
    /// Everything that ever left a meter, by name of its mask.
    left: BTreeMap<(usize, Field, u64), u64>,
    store: MaskedStore,
    /// Answers that the operator keeps, by query.
    kept: BTreeMap<String, Answer>,
    custodian: Custodian,
    journal: Vec<u8>,
    seen: Option<Checkpoint>,
    cosigned: Vec<Signed>,
    killed: BTreeMap<&'static str, usize>,
}

impl Parties {
    fn new() -> Self {
        let world = World::new(HOMES, 1);
        let journal: Vec<u8> = world.journal.iter().flat_map(journal::line).collect();
        let custodian = restarted(&journal, &world).0;
        let (left, kept, killed) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        let meters = vec![Flash::default(); HOMES];
        let (seen, cosigned, store) = (None, Vec::new(), MaskedStore::default());
        Self { world, meters, left, store, kept, custodian, journal, seen, cosigned, killed }
    }

    /// A meter closes its interval, saves, sends until it is acknowledged; returns the counter, if the reading was not lost.
    fn meter(&mut self, home: usize, interval: u64, x: i64, kill: Option<Kill>) -> Option<u64> {
        let mut running = self.meters[home].clone();
        let counter = running.counter.take(interval);
        for (field, x) in [(Field::Import, x), (Field::Clipped, x.min(400))] {
            let mask = self.world.keys[&id(home)].mask(field, 0, counter).expect("in range");
            let value = x.cast_unsigned().wrapping_add(mask);
            running.waiting.push(MaskedReading { meter: id(home), field, epoch: 1, counter, rev: 0, value });
        }
        if kill == Some(Kill::Meter(home, 0)) {
            return None;
        }
        self.meters[home] = running;
        let dies_unacknowledged = kill == Some(Kill::Meter(home, 2));
        let operator = match kill {
            Some(Kill::Operator(step)) if home == 3 => Some(step),
            _ => None,
        };
        // it sends once, dies or the operator does, and sends again what waits
        for attempt in 0..2 {
            for reading in self.meters[home].waiting.clone() {
                let name = (home, reading.field, reading.counter);
                let before = self.left.insert(name, reading.value);
                assert!(before.is_none_or(|before| before == reading.value), "the mask of {name:?} hides two readings");
                if attempt == 0 && operator == Some(0) {
                    continue;
                }
                let taken = self.store.take(&reading);
                assert!(matches!(taken, Ok(Taken::New | Taken::Again)), "{taken:?}");
            }
            if attempt == 1 || !dies_unacknowledged && !matches!(operator, Some(0 | 1)) {
                break;
            }
        }
        self.meters[home].waiting.clear();
        Some(counter)
    }

    /// The custodian is asked; `None` when it died on the way.
    fn custodian(&mut self, request: &Request, kill: Option<Kill>) -> Option<Answer> {
        if let Decision::Commit(event) = self.custodian.decide(request, NOW) {
            let line = journal::line(&event);
            let written = match kill {
                Some(Kill::Custodian(part)) => line.len() * usize::from(part.min(1_000)) / 1_000,
                _ => line.len(),
            };
            self.journal.extend(&line[..written]);
            if matches!(kill, Some(Kill::Custodian(_))) {
                let (custodian, whole) = restarted(&self.journal, &self.world);
                self.journal.truncate(whole);
                self.custodian = custodian;
                return None;
            }
            self.custodian.apply(&event);
            assert!(!matches!(event, Event::Refused { .. }), "{event:?}");
        }
        Some(self.custodian.answer(&request.query).expect("was granted"))
    }

    /// The operator asks until it has kept an answer.
    fn ask(&mut self, query: Query, kill: Option<Kill>) -> Answer {
        let request = signed(query);
        let name = request.query.hash().to_string();
        let mut kill = kill;
        let mut first = None;
        loop {
            let dies = kill.take();
            if dies == Some(Kill::Operator(2)) {
                continue;
            }
            let Some(answer) = self.custodian(&request, dies) else { continue };
            assert!(first.replace(answer.clone()).is_none_or(|before| before == answer), "another answer");
            if dies == Some(Kill::Operator(3)) {
                continue;
            }
            self.kept.insert(name, answer.clone());
            return answer;
        }
    }

    /// The witness looks at the log until it has cosigned its head.
    fn witness(&mut self, kill: Option<Kill>) {
        let (events, _) = journal::read(&self.journal).expect("only the tail may be torn");
        let leaves: Vec<merkle::Hash> = events.iter().map(|e| merkle::leaf(&journal::public(e))).collect();
        let head =
            Checkpoint { origin: "gridtally.test/log".into(), size: leaves.len() as u64, root: merkle::root(&leaves) };
        for attempt in 0..2 {
            if let Some(seen) = &self.seen {
                let proof = merkle::consistency(&leaves, seen.size as usize);
                let (old, new) = ((seen.size, &seen.root), (head.size, &head.root));
                assert!(merkle::check_consistency(old, new, &proof), "the log has another history");
            }
            if attempt == 0 && kill == Some(Kill::Witness(0)) {
                continue;
            }
            self.seen = Some(head.clone());
            if attempt == 0 && kill == Some(Kill::Witness(1)) {
                continue;
            }
            let signed = head.clone().sign(&key(20)).cosign("witness.test", &key(21), attempt);
            self.cosigned.push(signed);
            return;
        }
    }
}

/// A custodian from what its disk holds, and how much of the journal is whole.
fn restarted(journal: &[u8], world: &World) -> (Custodian, usize) {
    let (events, whole) = journal::read(journal).expect("only the tail may be torn");
    let mut custodian = Custodian::new(policy(), [1; 32]).expect("a policy");
    events.iter().for_each(|event| custodian.apply(event));
    world.keys.iter().for_each(|(meter, key)| assert!(custodian.insert_key(*meter, 1, key.clone())));
    (custodian, whole)
}

fn statistic(parties: &Parties, counter: u64) -> Query {
    Query::Statistic(StatisticQuery {
        group: "T1".into(),
        day: (counter / 96) as i64,
        band: 1,
        bands: 1,
        rows: (0..HOMES).flat_map(|n| parties.store.rows(id(n), Field::Clipped, counter, 1)).collect(),
        adjacency: Adjacency::HomeDay,
        mechanism: Mechanism::Laplace,
        level_micro: 100,
        purpose: Purpose::PublicMap,
    })
}

#[test]
fn every_party_killed_at_every_step() {
    let mut parties = Parties::new();
    let mut draws = Draws::new(&[0x4B; 32]);
    let (mut granted, mut spent) = (0, 0);
    for round in 0..KILLS as u64 {
        let kill = Some(drawn(&mut draws));
        *parties
            .killed
            .entry(match kill {
                Some(Kill::Meter(..)) => "meter",
                Some(Kill::Operator(_)) => "operator",
                Some(Kill::Custodian(_)) => "custodian",
                _ => "witness",
            })
            .or_default() += 1;
        let interval = FIRST + round;
        let mut truth = 0;
        for home in 0..HOMES {
            let x = draws.below(800) as i64;
            match parties.meter(home, interval, x, kill) {
                Some(counter) => {
                    assert_eq!(counter, interval);
                    truth += x;
                }
                // a clock that went back or not: the interval is lost, and its number is not given to another reading
                None => assert_eq!(parties.meters[home].counter.next(), if round == 0 { 0 } else { interval }),
            }
        }
        let rows: Vec<_> = (0..HOMES).flat_map(|n| parties.store.rows(id(n), Field::Import, interval, 1)).collect();
        // below the floor without the one that died
        let is_whole = rows.len() == HOMES;
        if is_whole {
            let day = (interval / 96) as i64;
            let query = Query::Spatial(SpatialQuery { group: "T1".into(), field: Field::Import, day, slots: 1, rows });
            let answer = parties.ask(query.clone(), kill);
            assert_eq!(parties.store.decode(&query, &[answer]), Ok(vec![truth]), "round {round}");
            granted += 1;
        }
        if is_whole && round % 5 == 4 {
            let query = statistic(&parties, interval);
            parties.ask(query, kill);
            (granted, spent) = (granted + 1, spent + 100);
        }
        parties.witness(kill);
        let state = parties.custodian.state();
        assert_eq!((state.released(), state.epsilon_micro()), (granted, spent), "round {round}: {kill:?}");
    }
    assert!(parties.killed.len() == 4 && parties.killed.values().all(|times| *times > 30), "{:?}", parties.killed);
    assert_eq!(parties.cosigned.len(), KILLS);
    // everything that was kept is still the answer
    let (custodian, _) = restarted(&parties.journal, &parties.world);
    let (events, _) = journal::read(&parties.journal).expect("whole");
    let queries =
        events.iter().filter_map(|event| if let Event::Released { query, .. } = event { Some(query) } else { None });
    let again =
        queries.filter(|query| custodian.answer(query).as_ref() == Ok(&parties.kept[&query.hash().to_string()]));
    assert_eq!(again.count(), granted);
}
