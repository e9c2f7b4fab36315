//! The neighbourhood itself: who is connected where, and what truly happens, in steps of one minute.

use ed25519_dalek::VerifyingKey;
use meter::{
    Action, FrameId, Memory, Meter, MeterConfig, Outgoing, Settings, Uptime, clock::MeterClock, register::Registers,
};
use metering::{Down, EventKind, MeterId, Timestamp, UsagePointId, ZoneId, frame::RelayState};

use crate::{
    config::{LoadSource, SimConfig},
    error::SimError,
    home::{ActiveTheft, Home, Load, SensorErrors, observer_inputs},
    household::{Household, draw_annual},
    neighbours::Street,
    network::{Transformer, ZoneFlow, ZoneSum, source_volts},
    random::{Random, Stream, mix},
    report::{SimEvent, SimReport},
    theft::TheftKind,
    topology::{names, topology_csv},
    truth::{self, TheftState, ZoneState},
    waveform::Bench,
};

/// Length of a physics step, seconds.
pub const STEP_SECONDS: i64 = 60;
/// How long a thief leaves the cover open, seconds.
const COVER_OPEN_SECONDS: i64 = 1_800;
/// Rounds of relay, contact and meter that one instant may take.
const SETTLE_ROUNDS_MAX: usize = 4;

/// An observer meter: at a transformer's low-voltage side, or at the head of the feeder.
pub(crate) struct Observer {
    pub meter: Meter,
    pub errors: SensorErrors,
    /// 1, or less while someone has tampered with it.
    pub kept: f64,
    pub true_wh: f64,
}

/// A simulated neighbourhood at an instant.
pub struct World {
    pub(crate) config: SimConfig,
    pub(crate) now: Timestamp,
    pub(crate) ids: Vec<MeterId>,
    pub(crate) usage_points: Vec<UsagePointId>,
    pub(crate) zone_ids: Vec<ZoneId>,
    pub(crate) homes: Vec<Home>,
    pub(crate) observers: Vec<Observer>,
    pub(crate) feeder: Observer,
    pub(crate) zones: Vec<ZoneState>,
    pub(crate) thefts: Vec<TheftState>,
    pub(crate) frames_acknowledged: u64,
    transformers: Vec<Transformer>,
    flows: Vec<ZoneFlow>,
    flows_before: Vec<ZoneFlow>,
    /// Windows in which a home's link is down.
    outages: Vec<Vec<(Timestamp, Timestamp)>>,
    link_down: Vec<bool>,
    outages_drawn_until: Timestamp,
    /// The local link of each transformer's zone; none without a cut-off.
    streets: Vec<Street>,
    events: Vec<SimEvent>,
    csv: String,
}

impl World {
    /// Builds a neighbourhood; the same configuration gives the same one.
    pub fn new(config: &SimConfig) -> Result<Self, SimError> {
        config.check()?;
        let csv = topology_csv(config)?;
        let key = match config.verifying_key.map(|bytes| VerifyingKey::from_bytes(&bytes)) {
            None => None,
            Some(Ok(key)) => Some(key),
            Some(Err(_)) => return Err(SimError::Config("the server's verifying key is not an Ed25519 key".into())),
        };
        let (mut ids, mut usage_points, mut homes) = (Vec::new(), Vec::new(), Vec::new());
        let (mut zone_ids, mut observers) = (vec![names::feeder()?], Vec::new());
        for transformer in 0..config.transformers {
            zone_ids.push(names::zone(transformer)?);
            for home in 0..config.homes_per_transformer {
                let id = names::home_meter(transformer, home)?;
                ids.push(id);
                usage_points.push(names::usage_point(transformer, home)?);
                homes.push(new_home(config, homes.len(), usize::from(home % 3), id, key));
            }
        }
        for transformer in 0..=config.transformers {
            let last = transformer == config.transformers;
            let id = if last { names::feeder_observer()? } else { names::transformer_observer(transformer)? };
            let number = ids.len();
            ids.push(id);
            observers.push(new_observer(config, number, id, key));
        }
        let feeder = observers.pop().ok_or_else(|| SimError::Config("a feeder needs an observer".into()))?;
        let zones = vec![ZoneState::default(); zone_ids.len()];
        let transformers =
            (0..config.transformers).map(|t| Transformer::draw(config.seed, u64::from(t))).collect::<Vec<_>>();
        let mut world = Self {
            now: config.start,
            link_down: vec![false; ids.len()],
            outages: vec![Vec::new(); homes.len()],
            outages_drawn_until: config.start,
            streets: streets(config, &ids),
            flows: vec![ZoneFlow::default(); transformers.len()],
            flows_before: vec![ZoneFlow::default(); transformers.len()],
            config: config.clone(),
            ids,
            usage_points,
            zone_ids,
            homes,
            observers,
            feeder,
            zones,
            thefts: Vec::new(),
            frames_acknowledged: 0,
            transformers,
            events: Vec::new(),
            csv,
        };
        world.thefts = truth::plan_thefts(&world)?;
        if let Some(plan) = config.waveforms {
            for home in world.homes.iter_mut().take(usize::from(plan.homes)) {
                home.bench = Some(Bench::new(config.seed, home.index, plan)?);
            }
        }
        Ok(world)
    }

    /// Virtual time.
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// The settings it was built from.
    pub fn config(&self) -> &SimConfig {
        &self.config
    }

    /// Every meter: homes first, then transformers' observers, then the feeder's.
    pub fn meters(&self) -> &[MeterId] {
        &self.ids
    }

    /// The topology in the form `gridtally admin import-topology` takes. CT ratios are 1: the observers' registers count
    /// primary energy.
    pub fn topology_csv(&self) -> &str {
        &self.csv
    }

    /// The truth so far.
    pub fn report(&self) -> SimReport {
        truth::report(self)
    }

    /// Lets a minute pass.
    pub fn step(&mut self) {
        let from = self.now;
        self.begin_minute(from);
        self.flow(from);
        self.account();
        self.now = from.plus(STEP_SECONDS);
        self.feel();
        self.compare();
        self.watch_homes();
    }

    /// What happened since the last call.
    pub fn take_events(&mut self) -> Vec<SimEvent> {
        std::mem::take(&mut self.events)
    }

    /// Hands a frame from the server to a meter (by its place in [`World::meters`]) and lets the relay, if it moves, come to
    /// rest at this instant.
    pub fn deliver(&mut self, meter: usize, down: &Down) {
        let before = self.contact(meter);
        let actions: Vec<Action> = self.meter_mut(meter).receive(down).collect();
        self.act(meter, &actions);
        self.settle(meter);
        self.told_relay(meter, before);
    }

    /// The word of a meter's answer to a control; empty while it has none.
    pub fn answer_to(&self, meter: usize, control: u64) -> &'static str {
        self.meter(meter).answer_to(control).map_or("", |outcome| outcome.word())
    }

    /// The next frame a meter wants to send.
    pub fn next_to_send(&mut self, meter: usize) -> Option<Outgoing<'_>> {
        self.meter_mut(meter).next_to_send()
    }

    /// The server has acknowledged a frame of a meter.
    pub fn acknowledge(&mut self, meter: usize, frame: FrameId) {
        if self.meter_mut(meter).acknowledge(frame) {
            self.frames_acknowledged += 1;
        }
    }

    /// A meter's connection is gone.
    pub fn link_lost(&mut self, meter: usize) {
        self.meter_mut(meter).link_lost();
    }

    /// Whether a meter's link is down at this time (it cannot connect).
    pub fn is_link_down(&self, meter: usize) -> bool {
        self.link_down[meter]
    }

    /// Sets how many profile records the meters gather into one frame; 1 also sends what is gathered.
    pub fn gather_records(&mut self, records: u16) {
        for meter in 0..self.ids.len() {
            let meter = self.meter_mut(meter);
            meter.gather_records(records);
            if records <= 1 {
                meter.flush_profile();
            }
        }
    }

    /// A meter by its place.
    pub fn meter(&self, meter: usize) -> &Meter {
        let homes = self.homes.len();
        match meter.checked_sub(homes) {
            None => &self.homes[meter].meter,
            Some(observer) => self.observers.get(observer).map_or(&self.feeder.meter, |o| &o.meter),
        }
    }

    fn meter_mut(&mut self, meter: usize) -> &mut Meter {
        let homes = self.homes.len();
        match meter.checked_sub(homes) {
            None => &mut self.homes[meter].meter,
            Some(observer) => match self.observers.get_mut(observer) {
                Some(observer) => &mut observer.meter,
                None => &mut self.feeder.meter,
            },
        }
    }

    fn contact(&self, meter: usize) -> Option<bool> {
        self.homes.get(meter).map(|home| home.contact_closed)
    }

    fn homes_per(&self) -> usize {
        usize::from(self.config.homes_per_transformer)
    }

    /// Thefts begin and end, covers open, links fail, before the minute flows.
    fn begin_minute(&mut self, at: Timestamp) {
        self.flows_before.clone_from(&self.flows);
        self.homes.iter_mut().for_each(Home::begin_minute);
        self.begin_and_end_thefts(at);
        self.draw_outages(at);
        self.follow_links(at);
        let mut streets = std::mem::take(&mut self.streets);
        for street in &mut streets {
            street.begin_minute(|meter| self.link_down[meter], |meter| *self.meter(meter).registers());
        }
        self.streets = streets;
    }

    /// Links fail and come back, each by itself or all together.
    fn follow_links(&mut self, at: Timestamp) {
        let cut_off = self.config.cut_off.is_some_and(|cut| cut.from <= at && at < cut.to);
        for (place, is_down) in self.link_down.iter_mut().enumerate() {
            let mut windows = self.outages.get(place).into_iter().flatten();
            let down = cut_off || windows.any(|&(from, to)| from <= at && at < to);
            if down != *is_down {
                *is_down = down;
                let meter = self.ids[place];
                self.events.push(if down {
                    SimEvent::LinkLost { at, meter }
                } else {
                    SimEvent::LinkRestored { at, meter }
                });
            }
        }
        self.outages.iter_mut().for_each(|windows| windows.retain(|&(_, to)| to > at));
    }

    /// Meters that cannot reach the server compare what the minute brought.
    fn compare(&mut self) {
        let at = self.now;
        let mut streets = std::mem::take(&mut self.streets);
        for street in &mut streets {
            for (meter, kind) in street.end_minute(at, |meter| *self.meter(meter).registers()) {
                let actions: Vec<Action> = self.meter_mut(meter).note(kind).collect();
                self.act(meter, &actions);
                let is_missing = kind == EventKind::LocalDiscrepancy;
                self.events.push(SimEvent::NeighboursCompared { at, meter: self.ids[meter], is_missing });
            }
        }
        self.streets = streets;
    }

    fn begin_and_end_thefts(&mut self, at: Timestamp) {
        for (index, theft) in self.thefts.iter_mut().enumerate() {
            let (zone, usage_point) = (self.zone_ids[theft.zone], theft.home.map(|h| self.usage_points[h]));
            let kind = theft.plan.kind;
            if !theft.begun && theft.plan.start <= at {
                theft.begun = true;
                self.zones[theft.zone].theft_began(theft.plan.start);
                match theft.home {
                    Some(home) => {
                        self.homes[home].theft = Some(ActiveTheft { index, kind, extra_w: theft.extra_w });
                        self.homes[home].cover_open = kind.opens_cover();
                    }
                    None => {
                        if let TheftKind::TamperedObserver { kept } = kind {
                            self.observers[theft.zone - 1].kept = kept;
                            self.zones[0].theft_began(theft.plan.start);
                        }
                    }
                }
                self.events.push(SimEvent::TheftBegan { at, kind: kind.word(), zone, usage_point });
            }
            if let Some(home) = theft.home
                && self.homes[home].cover_open
                && at >= theft.plan.start.plus(COVER_OPEN_SECONDS)
            {
                self.homes[home].cover_open = false;
            }
            if theft.begun && !theft.ended && theft.plan.end.is_some_and(|end| end <= at) {
                theft.ended = true;
                match theft.home {
                    Some(home) => self.homes[home].theft = None,
                    None => self.observers[theft.zone - 1].kept = 1.0,
                }
                self.events.push(SimEvent::TheftEnded { at, kind: kind.word(), zone, usage_point });
            }
        }
    }

    /// Draws the link outages of a day when it begins. Thieves' links are left alone, so that the truth about when a theft can
    /// be seen stays simple.
    fn draw_outages(&mut self, at: Timestamp) {
        if at < self.outages_drawn_until {
            return;
        }
        let day = u64::try_from(at.day()).unwrap_or(0);
        for (home, windows) in self.outages.iter_mut().enumerate() {
            let mut random = Random::of(self.config.seed, Stream::Links, u64::try_from(home).unwrap_or(0), day);
            if random.chance(self.config.link_losses_per_month / 30.0)
                && !self.thefts.iter().any(|t| t.home == Some(home))
            {
                let from = at.plus(60 * i64::from(random.below(1_440) as u16));
                windows.push((from, from.plus(60 * (90 + i64::from(random.below(390) as u16)))));
            }
        }
        self.outages_drawn_until = Timestamp((at.day() + 1) * 86_400);
    }

    /// Computes what flows in the minute that begins at `at`.
    fn flow(&mut self, at: Timestamp) {
        let source = source_volts(self.config.seed, at.0);
        let per = self.homes_per();
        for (t, transformer) in self.transformers.iter().enumerate() {
            let before = self.flows_before[t];
            let amperes = before.phase_a.iter().sum::<f64>() / 3.0;
            let volts = source - amperes * transformer.copper_ohm * 2.0;
            let mut sum = ZoneSum::new(volts);
            for home in &mut self.homes[t * per..(t + 1) * per] {
                let restless = if home.theft.is_some() { restlessness(self.config.seed, home.index, at) } else { 1.0 };
                let bus = volts - before.phase_a[home.phase] * transformer.main_ohm;
                let flow = home.flow(at, bus, restless);
                sum.add(home.phase, flow.draw, home.service_ohm);
            }
            self.flows[t] = sum.finish(transformer);
        }
    }

    /// Adds the minute to the truth.
    fn account(&mut self) {
        let hours = STEP_SECONDS as f64 / 3_600.0;
        let per = self.homes_per();
        let (mut head_w, mut feeder_loss_w) = (0.0, 0.0);
        for (t, flow) in self.flows.iter().enumerate() {
            let lost = flow.transformer_loss_w(&self.transformers[t]);
            feeder_loss_w += lost;
            head_w += flow.supplied_w + lost;
            let mut stolen_w = 0.0;
            for home in &mut self.homes[t * per..(t + 1) * per] {
                let flow = home.last_flow();
                home.true_wh += flow.draw.watts * hours;
                if let Some(theft) = home.theft {
                    self.thefts[theft.index].stolen_wh += flow.stolen_w * hours;
                    stolen_w += flow.stolen_w;
                }
            }
            self.observers[t].true_wh += flow.supplied_w * hours;
            self.zones[t + 1].add(flow.supplied_w * hours, stolen_w * hours, flow.line_loss_w * hours);
        }
        // the medium-voltage line: 0.3 % at 100 kW
        let line_w = head_w * head_w * 3.0e-8;
        feeder_loss_w += line_w;
        head_w += line_w;
        self.feeder.true_wh += head_w * hours;
        self.zones[0].add(head_w * hours, 0.0, feeder_loss_w * hours);
        for theft in self.thefts.iter_mut().filter(|t| t.begun && !t.ended) {
            let supplied_w = self.flows[theft.zone - 1].supplied_w;
            theft.zone_supplied_wh += supplied_w * hours;
            if theft.home.is_none() {
                theft.stolen_wh += supplied_w * (1.0 - self.observers[theft.zone - 1].kept) * hours;
            }
        }
    }

    /// Every meter feels the minute that has passed; relays follow their pulses.
    fn feel(&mut self) {
        self.feel_observers();
        let minute = self.now.plus(-STEP_SECONDS);
        for home in self.homes.iter_mut().filter(|home| home.bench.is_some()) {
            home.sample_minute(minute);
        }
        for home in 0..self.homes.len() {
            let before = self.contact(home);
            self.press_button(home);
            self.settle(home);
            self.told_relay(home, before);
        }
    }

    fn feel_observers(&mut self) {
        let uptime = self.uptime();
        let mut head_w = 0.0;
        let mut phase_a = [0.0; 3];
        for ((observer, flow), transformer) in self.observers.iter_mut().zip(&self.flows).zip(&self.transformers) {
            let inputs = observer_inputs(flow.supplied_w, flow.volts, flow.phase_a, observer.errors, observer.kept);
            // an observer has no relay: nothing to act upon
            observer.meter.step(uptime, &inputs).for_each(drop);
            head_w += flow.supplied_w + flow.transformer_loss_w(transformer);
            for (sum, amperes) in phase_a.iter_mut().zip(flow.phase_a) {
                *sum += amperes;
            }
        }
        head_w += head_w * head_w * 3.0e-8;
        let volts = self.flows.first().map_or(0.0, |flow| flow.volts);
        let inputs = observer_inputs(head_w, volts, phase_a, self.feeder.errors, self.feeder.kept);
        self.feeder.meter.step(uptime, &inputs).for_each(drop);
    }

    fn uptime(&self) -> Uptime {
        uptime(self.config.start, self.now)
    }

    /// Steps a meter until its relay rests at this instant.
    fn settle(&mut self, meter: usize) {
        let uptime = self.uptime();
        if meter >= self.homes.len() {
            self.feel_observers();
            return;
        }
        for round in 0..SETTLE_ROUNDS_MAX {
            if round > 0 {
                // the contact has moved: what flows now is another thing
                self.flow(self.now.plus(-STEP_SECONDS));
                self.feel_observers();
            }
            let home = &mut self.homes[meter];
            let inputs = home.inputs();
            let actions: Vec<Action> = home.meter.step(uptime, &inputs).collect();
            if !self.act(meter, &actions) {
                break;
            }
        }
    }

    /// Carries out what a meter asks for; tells whether its contact moved.
    fn act(&mut self, meter: usize, actions: &[Action]) -> bool {
        let mut moved = false;
        for action in actions {
            if let (Action::Relay(pulse), Some(home)) = (action, self.homes.get_mut(meter)) {
                home.pulse(*pulse);
                moved = true;
            }
        }
        moved
    }

    fn told_relay(&mut self, meter: usize, before: Option<bool>) {
        let after = self.contact(meter);
        if before == after {
            return;
        }
        let (at, usage_point) = (self.now, self.usage_points[meter]);
        let still_supplied = self.homes[meter].is_live();
        self.events.push(match after {
            Some(true) => SimEvent::RelayClosed { at, usage_point },
            _ => SimEvent::RelayOpened { at, usage_point, still_supplied },
        });
    }

    fn press_button(&mut self, home: usize) {
        let at = self.now;
        let usage_point = self.usage_points[home];
        let home = &mut self.homes[home];
        home.pressing = home.press_at.is_some_and(|due| due <= at);
        if home.pressing {
            home.press_at = None;
            self.events.push(SimEvent::ButtonPressed { at, usage_point });
        }
    }

    /// People notice that their meter waits for the button.
    fn watch_homes(&mut self) {
        let (from, to) = self.config.button_minutes;
        for home in &mut self.homes {
            let ready = home.meter.relay_state() == Some(RelayState::Ready);
            if !ready {
                home.press_at = None;
            } else if home.press_at.is_none() {
                let minute = u64::try_from(self.now.0 / 60).unwrap_or(0);
                let mut random = Random::of(self.config.seed, Stream::Actors, home.index as u64, minute);
                let minutes = u64::from(from) + random.below(u64::from(to - from) + 1);
                home.press_at = Some(self.now.plus(60 * i64::try_from(minutes).unwrap_or(0)));
            }
        }
    }
}

/// Each transformer's homes and observer on one local link; only a world with a cut-off needs them.
fn streets(config: &SimConfig, ids: &[MeterId]) -> Vec<Street> {
    let Some(cut_off) = config.cut_off else { return Vec::new() };
    let (per, homes) = (
        usize::from(config.homes_per_transformer),
        usize::from(config.homes_per_transformer) * usize::from(config.transformers),
    );
    let street = |transformer: usize| {
        let places = (transformer * per..(transformer + 1) * per).chain([homes + transformer]);
        let meters: Vec<_> = places.map(|place| (place, ids[place])).collect();
        Street::enrol(config.seed, cut_off.lost_permille, &meters)
    };
    (0..usize::from(config.transformers)).map(street).collect()
}

fn uptime(start: Timestamp, now: Timestamp) -> Uptime {
    Uptime(u64::try_from(now.seconds_since(start)).unwrap_or(0) * 1_000)
}

/// A thief's extra load wavers from hour to hour.
fn restlessness(seed: u64, home: usize, at: Timestamp) -> f64 {
    let hour = at.0.div_euclid(3_600).unsigned_abs();
    Random::of(seed, Stream::Thefts, u64::try_from(home).unwrap_or(0), hour).between(0.85, 1.15)
}

fn new_home(config: &SimConfig, index: usize, phase: usize, id: MeterId, key: Option<VerifyingKey>) -> Home {
    let number = u64::try_from(index).unwrap_or(0);
    let (load, annual_wh) = match &config.loads {
        LoadSource::Generated => {
            let household = Household::draw(config.seed, number);
            let annual = household.annual_wh();
            (Load::Generated(Box::new(household)), annual)
        }
        LoadSource::Measured(profiles) => {
            let annual = draw_annual(config.seed, number);
            let mut random = Random::of(config.seed, Stream::Homes, number, 1);
            (Load::Measured(profiles.clone(), profiles.draw(&mut random, annual)), annual)
        }
    };
    let meter = new_meter(config, index, MeterConfig { verifying_key: key, ..MeterConfig::new(id) });
    Home::new(config.seed, index, phase, load, annual_wh / 8_766.0, meter)
}

fn new_observer(config: &SimConfig, number: usize, id: MeterId, key: Option<VerifyingKey>) -> Observer {
    let mut random = Random::of(config.seed, Stream::Meters, u64::try_from(number).unwrap_or(0), 1);
    let observer =
        MeterConfig { has_relay: false, model: "GT-3P-CT".into(), verifying_key: key, ..MeterConfig::new(id) };
    // observers are of a better class: 0.5 instead of 1
    let errors = SensorErrors::draw(&mut random, 0.002_5);
    Observer { meter: new_meter(config, number, observer), errors, kept: 1.0, true_wh: 0.0 }
}

/// A meter that was in use before: registers above zero, a clock a little ahead, a boot number that depends on the seed.
fn new_meter(config: &SimConfig, number: usize, settings: MeterConfig) -> Meter {
    let mut random = Random::of(config.seed, Stream::Meters, u64::try_from(number).unwrap_or(0), 0);
    let registers = Registers {
        import: meter::register::ActiveRegister::starting_at(500_000 + random.below(20_000_000)),
        ..Registers::default()
    };
    // up to 20 s ahead of true time: a real clock between two corrections
    let ahead_ms = i64::try_from(random.below(20_000)).unwrap_or(0);
    let clock = MeterClock::backed_up(config.start.0 * 1_000 + ahead_ms, Uptime(0));
    let server_set = Settings { now_seconds: config.now_seconds, ..Settings::default() };
    let memory = Memory::new(&settings, server_set).with_registers(registers);
    let boot = (mix(config.seed) & 0xffff_ffff) << 16 | 1;
    Meter::start(settings, memory, boot, clock, Uptime(0))
}
