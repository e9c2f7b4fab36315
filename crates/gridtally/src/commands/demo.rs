//! `gridtally demo`: the server and a simulated neighbourhood in one process. Everything on the pages has come over real TCP from
//! the real meter code; only the homes, their wires and the thieves are simulated.
//!
//! Without `--days` and `--json` it is a story to be watched ([`sim::Story`]); with them it is the scenario that figures are made from
//! ([`SimConfig::demo`]).

mod narrate;
mod report;
mod stage;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    str::FromStr,
    time::{Duration, Instant},
};

use clap::Args;
use metering::{EventKind, Timestamp};
use sim::{CutOff, LoadSource, Pace, SimConfig, Story, Target, WaveformPlan, World};
use store::{NewUser, OneTime, Role, Store, SupplyPolicy};

use super::CommandError;
use crate::{
    config::Config,
    server::{Server, ServerOptions},
};

/// Days of history before the first theft.
const HISTORY_DAYS: u32 = 14;
/// How long the simulation waits for a server that does not answer.
const PATIENCE: Duration = Duration::from_secs(120);
/// Datagrams that a meter misses on the local link, thousandths.
const LOST_PERMILLE: u16 = 2;
/// The person that the one-time token signs in.
const PERSON: &str = "demo";
/// Homes at sample level when the story is watched, unless said otherwise.
const SAMPLED_HOMES: u16 = 2;
/// Speed of the scenario unless said otherwise, times real time.
const SPEED: Speed = Speed::Times(600.0);

/// How fast virtual time passes after the history.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Speed {
    /// This many times real time.
    Times(f64),
    /// As fast as the server follows, in lockstep.
    Max,
}

impl FromStr for Speed {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "max" => Ok(Self::Max),
            number => match number.parse::<f64>() {
                Ok(times) if (1.0..=100_000.0).contains(&times) => Ok(Self::Times(times)),
                _ => Err("a number from 1 to 100000, or max".into()),
            },
        }
    }
}

impl Speed {
    /// The simulator's pace.
    pub fn pace(self) -> Pace {
        match self {
            Self::Times(times) => Pace::Times(times),
            Self::Max => Pace::Lockstep,
        }
    }
}

/// Arguments of `demo`.
#[derive(Debug, Args)]
pub struct DemoArguments {
    /// Measured load profiles instead of generated ones (Parquet or CSV; see docs/howto/profiles.md)
    #[arg(long, value_name = "FILE")]
    profiles: Option<PathBuf>,
    /// Virtual days in all, history included; without it, a story to be watched, until Ctrl-C
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=3650))]
    days: Option<u32>,
    /// Speed after the history: N times real time, or max [default: 600; the story has a speed for each scene]
    #[arg(long, value_name = "N|max")]
    speed: Option<Speed>,
    /// Everything random follows from it
    #[arg(long, default_value_t = 1)]
    seed: u64,
    #[command(flatten)]
    waveform: WaveformArguments,
    #[command(flatten)]
    cut_off: CutOffArguments,
    /// Print one JSON object at the end; everything else goes to standard error
    #[arg(long)]
    json: bool,
    /// Settings of the server (docs/gridtally.toml); when a port is busy a free one is taken
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Keep the data in this directory instead of a temporary one
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
}

/// Homes at sample level.
#[derive(Debug, Args)]
pub struct WaveformArguments {
    /// Drive the first N homes at sample level (2 without a number): synthesised waveforms, a 12-bit converter and the real
    /// metrology engine, which also sends power-quality values
    #[arg(long, value_name = "N", num_args = 0..=1, default_missing_value = "2", value_parser = clap::value_parser!(u16).range(1..))]
    waveform: Option<u16>,
    /// Milliseconds of every minute that are sampled; 60000 is gapless and gives flicker, with about 130 times as many samples
    #[arg(long, value_name = "MS", default_value_t = 200, requires = "waveform", value_parser = clap::value_parser!(u32).range(200..=60_000))]
    waveform_ms: u32,
}

impl WaveformArguments {
    /// The plan, if any home shall be driven so.
    pub fn plan(&self) -> Option<WaveformPlan> {
        self.waveform.map(|homes| self.plan_of(homes, Timestamp(i64::MIN)))
    }

    fn plan_of(&self, homes: u16, from: Timestamp) -> WaveformPlan {
        WaveformPlan { homes, ms_per_minute: self.waveform_ms, from }
    }
}

/// A stretch without the server.
#[derive(Debug, Args)]
pub struct CutOffArguments {
    /// For so many hours from the first theft on no meter reaches the server; meanwhile the meters of each transformer compare
    /// among themselves, and what they find comes when the link is back (docs/howto/neighbours.md)
    #[arg(long, value_name = "HOURS", value_parser = clap::value_parser!(u16).range(1..=72))]
    cut_off: Option<u16>,
}

impl CutOffArguments {
    /// The stretch in this neighbourhood, if there shall be one.
    pub fn plan(&self, config: &SimConfig) -> Option<CutOff> {
        let first = config.thefts.iter().map(|theft| theft.start).min().unwrap_or(config.history_end());
        let to = |hours: u16| first.plus(i64::from(hours) * 3_600);
        self.cut_off.map(|hours| CutOff { from: first, to: to(hours), lost_permille: LOST_PERMILLE })
    }
}

/// Reads measured profiles, if any were named.
pub fn load_source(profiles: Option<&Path>) -> Result<LoadSource, CommandError> {
    Ok(match profiles {
        Some(path) => LoadSource::Measured(sim::profiles::Profiles::read(path)?),
        None => LoadSource::Generated,
    })
}

/// What is simulated, how fast, and the story if it is one.
struct Plan {
    config: SimConfig,
    pace: Pace,
    story: Option<Story>,
}

impl Plan {
    fn new(arguments: &DemoArguments, verifying_key: [u8; 32]) -> Result<Self, CommandError> {
        let is_story = arguments.days.is_none() && !arguments.json;
        let story = is_story.then(|| Story::new(arguments.seed, HISTORY_DAYS));
        let mut config = match &story {
            Some(story) => story.config.clone(),
            None => SimConfig::demo(arguments.seed, HISTORY_DAYS),
        };
        // Whoever watches shall not wait for two weeks of samples: the last day of the history is enough to look at.
        let last_day = config.history_end().plus(-86_400);
        let watched = is_story.then(|| arguments.waveform.plan_of(SAMPLED_HOMES, last_day));
        config.waveforms = arguments.waveform.plan().or(watched);
        config.loads = load_source(arguments.profiles.as_deref())?;
        config.cut_off = arguments.cut_off.plan(&config);
        config.verifying_key = Some(verifying_key);
        let pace = match (arguments.speed, &story) {
            (None, Some(story)) => Pace::Scenes(story.scenes.clone()),
            (speed, _) => speed.unwrap_or(SPEED).pace(),
        };
        // At one speed throughout, the times of the scenes would not be true.
        let story = story.filter(|_| arguments.speed.is_none());
        Ok(Self { config, pace, story })
    }
}

/// Runs the demo.
pub async fn run(arguments: DemoArguments) -> Result<ExitCode, CommandError> {
    let started = Instant::now();
    let temporary = tempfile::tempdir()?;
    let data = arguments.data.clone().unwrap_or_else(|| temporary.path().join("data"));
    let config = Config::load(arguments.config.as_deref())?;
    let server = Server::start(ServerOptions { data, config, simulated_clock: true, any_port: true }).await?;
    let say = narrate::Narrator::new(arguments.json);
    let Plan { config, pace, story } = Plan::new(&arguments, server.verifying_key)?;
    let token = prepare(&server.store, config.start).await?;
    let link = format!("http://{}/sign-in?token={}", server.http, token.sign_in);
    // Before the link is printed: a password set afterwards would end the session of whoever was quick.
    let players = match arguments.days.is_none() && !arguments.json {
        true => Some(stage::people(&server.store, config.start).await?),
        false => None,
    };
    say.line(&format!("console  {link}"));
    say.line(&format!("meters   mqtt://{}", server.mqtt));
    if let Some(players) = players {
        stage::tell(&say, &format!("http://{}", server.http), &link, &players, story.as_ref());
    }
    if let Some(story) = &story {
        stage::announce(&server.store, story, config.start).await?;
    }
    let days = arguments.days.unwrap_or(3_650);
    let until = config.start.plus(i64::from(days) * 86_400);
    let start = config.start;
    let world = World::new(&config)?;
    let target = Target {
        mqtt: server.mqtt.to_string(),
        http: server.http.to_string(),
        admin_token: token.api,
        patience: PATIENCE,
    };
    say.line(&format!("history  {HISTORY_DAYS} days from {start}, then live; seed {}", arguments.seed));
    let listening = narrate::server_changes(server.store.clone(), say.clone());
    let telling = say.clone();
    let drive = sim::drive(world, target, pace, until, move |event| telling.simulated(&event));
    let report = tokio::select! {
        report = drive => Some(report?),
        stopped = super::serve::stopped() => {
            stopped?;
            None
        }
    };
    listening.abort();
    if let Some(report) = report {
        let summary = report::Summary::gather(&server.store, &report, days, started.elapsed()).await?;
        if arguments.json {
            println!("{}", serde_json::to_string(&summary)?);
        } else {
            summary.tell(&say);
        }
    }
    server.stop().await;
    Ok(ExitCode::SUCCESS)
}

/// Tokens made for this run.
struct Tokens {
    sign_in: String,
    api: String,
}

/// A person to sign in, a token for the simulator, and the demo's policy: tampering that shows twice switches the power off.
async fn prepare(store: &Store, now: Timestamp) -> Result<Tokens, CommandError> {
    let (by, never) = (PERSON, Timestamp(i64::MAX / 2));
    if store.user_by_name(PERSON).await?.is_none() {
        // No password can match, unless one is set for those who watch.
        let person =
            NewUser { name: PERSON.into(), role: Role::Operator, usage_point: None, password_hash: "!".into() };
        store.create_user(person, by, now).await?;
    }
    let policy =
        SupplyPolicy { automatic_kinds: vec![EventKind::CoverOpen, EventKind::Bypass], ..SupplyPolicy::default() };
    store.set_setting("policy", &policy, by, now).await?;
    Ok(Tokens {
        sign_in: store.create_one_time(&OneTime::SignIn(PERSON.into()), never).await?,
        api: store.create_api_token("simulator", Role::Operator, by, now).await?,
    })
}
