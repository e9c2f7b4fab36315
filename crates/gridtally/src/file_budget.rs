//! How many files (sockets, that is) the process may hold, and how they are shared out: neither meters nor browsers can use up what
//! the other needs.

use headend::HeadendConfig;

/// Files for databases, their logs, certificates and the console's own work.
const OWN_FILES: u64 = 256;

/// Connections that meters and pages may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileBudget {
    /// By MQTT.
    pub meters: usize,
    /// Pages, REST and readings by HTTP.
    pub pages: usize,
}

impl FileBudget {
    /// Raises the limit of the process as far as it may, and shares it out; says so when it is less than what is configured.
    pub fn claim(pages_wanted: u32) -> Self {
        let meters_wanted = HeadendConfig::default().connections_max;
        let pages_wanted = usize::try_from(pages_wanted).unwrap_or(usize::MAX);
        let Some(limit) = raise_limit(needed(meters_wanted, pages_wanted)) else {
            return Self { meters: meters_wanted, pages: pages_wanted };
        };
        let budget = Self::of(limit, meters_wanted, pages_wanted);
        if budget.meters < meters_wanted || budget.pages < pages_wanted {
            tracing::warn!(
                limit,
                meters = budget.meters,
                pages = budget.pages,
                "the system lets this process open fewer files than its connections need: raise it (`ulimit -n`, LimitNOFILE=)"
            );
        }
        budget
    }

    /// An eighth for pages, the rest for meters, when there is not enough for both.
    fn of(limit: u64, meters_wanted: usize, pages_wanted: usize) -> Self {
        let usable = usize::try_from(limit.saturating_sub(OWN_FILES)).unwrap_or(usize::MAX).max(16);
        let pages = pages_wanted.min((usable / 8).max(usable.saturating_sub(meters_wanted)));
        Self { meters: meters_wanted.min(usable - pages), pages }
    }
}

fn needed(meters: usize, pages: usize) -> u64 {
    u64::try_from(meters.saturating_add(pages)).unwrap_or(u64::MAX).saturating_add(OWN_FILES)
}

/// The soft limit after it was raised to `wanted` or as near as may be; `None` when there is no limit.
#[cfg(unix)]
fn raise_limit(wanted: u64) -> Option<u64> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let current = limit.current?;
    if current >= wanted {
        return Some(current);
    }
    let reachable = limit.maximum.map_or(wanted, |maximum| maximum.min(wanted));
    let raised = Rlimit { current: Some(reachable), maximum: limit.maximum };
    // What the system refuses stays as it was, and is shared out as it is.
    Some(if setrlimit(Resource::Nofile, raised).is_ok() { reachable } else { current })
}

#[cfg(not(unix))]
fn raise_limit(_wanted: u64) -> Option<u64> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_get_their_part_of_too_little() {
        assert_eq!(FileBudget::of(100_000, 20_000, 2_000), FileBudget { meters: 20_000, pages: 2_000 });
        assert_eq!(FileBudget::of(1_024, 20_000, 2_000), FileBudget { meters: 672, pages: 96 });
        assert_eq!(FileBudget::of(22_256, 20_000, 2_000), FileBudget { meters: 20_000, pages: 2_000 });
        let least = FileBudget::of(0, 20_000, 2_000);
        assert!(least.meters > 0 && least.pages > 0, "{least:?}");
    }

    #[cfg(unix)]
    #[test]
    fn the_limit_is_raised_as_far_as_the_system_lets() {
        let limit = raise_limit(512).expect("a limit");
        assert!(limit >= 512 || Some(limit) == rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum);
    }
}
