//! The demonstration that a person watches: the same neighbourhood as [`SimConfig::demo`], with thefts so close together that the
//! whole story passes within three minutes, and every scene played at its own speed: hours of waiting pass in seconds, a
//! disconnection takes as long as it takes to read.
//!
//! Not here: what the server finds. An [`Act`] says what the neighbourhood does and where to look, never what will be seen there.

use std::time::Duration;

use metering::Timestamp;

use crate::{
    config::SimConfig,
    drive::Scene,
    theft::{TheftKind, TheftPlan},
};

const MINUTE: i64 = 60;
const HOUR: i64 = 3_600;
const DAY: i64 = 86_400;
/// Speed of the calm at the beginning and of everything after the story, times real time.
const CALM: f64 = 600.0;
/// Speed while evidence gathers.
const GATHERING: f64 = 1_200.0;
/// Speed of a disconnection.
const CUTTING: f64 = 20.0;
/// How long a control is on its way to a meter during a disconnection: as over a slow radio, so that every state can be read.
const ON_THE_WAY: Duration = Duration::from_millis(2_500);

/// Something that happens in the neighbourhood, announced to those who watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Act {
    /// Virtual time.
    pub at: Timestamp,
    /// What happens.
    pub what: &'static str,
    /// Where to look.
    pub look: &'static str,
}

/// A neighbourhood, how fast it is played, and what happens in it.
#[derive(Clone, Debug)]
pub struct Story {
    /// The neighbourhood.
    pub config: SimConfig,
    /// Its speeds, in order of time.
    pub scenes: Vec<Scene>,
    /// What happens, in order of time.
    pub acts: Vec<Act>,
}

impl Story {
    /// The story after `history_days` of history.
    pub fn new(seed: u64, history_days: u32) -> Self {
        let mut config = SimConfig::honest(seed, history_days);
        let begin = config.history_end();
        let at = |day: i64, hour: i64, minute: i64| begin.plus(day * DAY + hour * HOUR + minute * MINUTE);
        let theft = |kind, transformer, start, end, zone_share| TheftPlan {
            kind,
            transformer,
            home: None,
            start,
            end,
            zone_share: Some(zone_share),
        };
        config.thefts = vec![
            theft(TheftKind::UnderRegistration { kept: 0.2 }, 1, at(0, 3, 0), None, 0.2),
            theft(TheftKind::Shunt { kept: 0.08 }, 0, at(0, 19, 0), None, 0.25),
            theft(TheftKind::WireAround { kept: 0.1 }, 3, at(0, 20, 0), None, 0.12),
            theft(TheftKind::NightBypass { from_hour: 22, to_hour: 5 }, 2, at(0, 22, 0), Some(at(7, 5, 0)), 0.12),
            theft(TheftKind::Tap, 0, at(4, 11, 0), None, 0.08),
            TheftPlan {
                zone_share: None,
                ..theft(TheftKind::TamperedObserver { kept: 0.85 }, 2, at(8, 8, 0), None, 0.0)
            },
        ];
        let scene = |from, times| Scene { from, times, on_the_way: Duration::ZERO };
        let cut = |from| Scene { from, times: CUTTING, on_the_way: ON_THE_WAY };
        let scenes = vec![
            scene(begin, CALM),
            scene(at(0, 3, 0), GATHERING),
            cut(at(0, 19, 0)),
            scene(at(0, 19, 6), CALM),
            cut(at(0, 20, 0)),
            scene(at(0, 20, 6), CALM),
        ];
        Self { config, scenes, acts: acts(at) }
    }

    /// Real time from the end of the history to a virtual time, as long as the server follows, seconds. What controls spend on their
    /// way is not counted.
    pub fn seconds_until(&self, at: Timestamp) -> f64 {
        let ends = self.scenes.iter().skip(1).map(|scene| scene.from).chain([Timestamp(i64::MAX)]);
        let played = |(scene, end): (&Scene, Timestamp)| {
            let seconds = end.min(at).seconds_since(scene.from).max(0);
            i32::try_from(seconds).map_or(f64::INFINITY, f64::from) / scene.times
        };
        self.scenes.iter().zip(ends).map(played).sum()
    }
}

fn acts(at: impl Fn(i64, i64, i64) -> Timestamp) -> Vec<Act> {
    let act = |at, what, look| Act { at, what, look };
    vec![
        act(
            at(0, 3, 0),
            "somewhere in F1-T2 a meter begins to count only a fifth of what its home uses",
            "the bar of F1-T2, which grows a hatched end, and its case, which names a home as soon as only one explains it",
        ),
        act(
            at(0, 19, 0),
            "a home in F1-T1 opens its meter's cover and bridges the sensor",
            "the steps of its disconnection: Approved, Sent, Acknowledged, Verified",
        ),
        act(
            at(0, 20, 0),
            "a home in F1-T4 leads a wire around its meter",
            "its disconnection, which fails: supply is still present behind the open contact",
        ),
        act(at(0, 22, 0), "a home in F1-T3 bypasses its meter, at night only", "Suspects, after a night or two"),
        act(at(4, 11, 0), "a line is tapped ahead of the meters in F1-T1", "a case that names the zone only"),
        act(
            at(8, 8, 0),
            "the meter that observes F1-T3 begins to read low",
            "its two cases, which are one: a faulty meter, no thief",
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_story_is_whole_within_three_minutes_and_scenes_are_in_order() {
        let story = Story::new(1, 14);
        story.config.check().expect("can work");
        assert!(story.scenes.windows(2).all(|pair| pair[0].from < pair[1].from));
        assert_eq!(story.seconds_until(story.config.history_end()), 0.0);
        assert_eq!(story.seconds_until(story.config.history_end().plus(HOUR)), 6.0);
        let failed_cut = story.acts[2].at;
        let slow = 2.0 * 4.0 * ON_THE_WAY.as_secs_f64();
        assert!(story.seconds_until(failed_cut.plus(6 * MINUTE)) + slow < 165.0);
        let calm = story.seconds_until(story.acts[0].at);
        assert!((15.0..40.0).contains(&calm), "{calm}");
    }

    #[test]
    fn every_act_is_a_theft_of_the_neighbourhood() {
        let story = Story::new(1, 14);
        let starts: Vec<_> = story.config.thefts.iter().map(|theft| theft.start).collect();
        assert_eq!(story.acts.iter().map(|act| act.at).collect::<Vec<_>>(), starts);
    }
}
