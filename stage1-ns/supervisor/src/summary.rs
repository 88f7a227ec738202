//! What a pod does, in one line for a person: the `STATUS=` of its unit. Pure.
//!
//! ```text
//!   0/2 apps ready, migrate runs first
//!   1/2 apps ready; web: loading the index
//!   1/2 apps running, redis restarts in 4 s
//!   stopping: 1 app left
//! ```

use std::time::Duration;

use pod_abi::Timestamp;
use pod_abi::app::Role;
use pod_abi::exit::Ended;
use pod_abi::status::{AppState, AppStatus, PodStatus};

use crate::roster::Roster;

/// The most apps something is said of; the rest is in `pod status`.
const MAX_TOLD: usize = 4;
/// The most letters of what an app says of itself.
const MAX_SAID: usize = 160;
/// Below this many seconds a wait is told to the second, above it to ten seconds: what changes
/// every second is sent to whoever watches the service manager.
const FINE: u64 = 10;

/// A line, and how long it stays true if nothing happens.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Summary {
    /// The line.
    pub(crate) text: String,
    /// How long; `None` for as long as nothing happens.
    pub(crate) holds: Option<Duration>,
}

/// Sums up a living pod.
pub(crate) fn of(status: &PodStatus, roster: &Roster, stopping: bool, now: Timestamp) -> Summary {
    let main = |app: &&AppStatus| roster.role(&app.name) != Some(Role::Init);
    let apps: Vec<&AppStatus> = status.apps.iter().filter(main).collect();
    let count = |is: fn(&AppStatus) -> bool| apps.iter().filter(|app| is(app)).count();
    let plain = |text: String| Summary { text, holds: None };
    if stopping {
        let left = status.apps.iter().filter(|app| is_running(app)).count();
        return plain(match left {
            0 => "stopping".to_owned(),
            left => format!("stopping: {} left", apps_of(left)),
        });
    }
    if status.paused {
        return plain("paused".to_owned());
    }
    let total = apps.len();
    let mut text = match (total, status.ready) {
        (0, _) => "no apps".to_owned(),
        (_, Some(_)) => format!("{}/{} running", count(is_running), apps_of(total)),
        (_, None) => format!("{}/{} ready", count(is_ready), apps_of(total)),
    };
    let preparing = status.apps.iter().filter(|app| !main(app) && is_running(app));
    let mut details: Vec<String> =
        preparing.map(|app| format!("{} runs first", app.name)).collect();
    let mut holds: Option<Duration> = None;
    for app in &status.apps {
        let Some((detail, until)) = detail(app, now) else { continue };
        details.push(detail);
        holds = [holds, until].into_iter().flatten().min();
    }
    for detail in details.iter().take(MAX_TOLD) {
        text.push_str(", ");
        text.push_str(detail);
    }
    let said = status.apps.iter().filter(|app| is_running(app)).filter_map(|app| {
        let said = app.said.as_deref().filter(|said| !said.is_empty())?;
        Some(format!("; {}: {}", app.name, said.chars().take(MAX_SAID).collect::<String>()))
    });
    text.extend(said.take(MAX_TOLD));
    Summary { text, holds }
}

fn apps_of(count: usize) -> String {
    format!("{count} app{}", if count == 1 { "" } else { "s" })
}

fn is_running(app: &AppStatus) -> bool {
    app.state == AppState::Running
}

/// Tells whether an app has been ready since its last start.
fn is_ready(app: &AppStatus) -> bool {
    is_running(app) && app.ready.is_some_and(|ready| app.started.is_none_or(|at| at <= ready))
}

/// Says what is the matter with an app, and how long that stays true.
fn detail(app: &AppStatus, now: Timestamp) -> Option<(String, Option<Duration>)> {
    match (app.state, app.restarts_at, app.exit) {
        (AppState::BackingOff, Some(at), _) => {
            let left = Duration::from_nanos(at.0.saturating_sub(now.0));
            let (told, holds) = rounded(left);
            Some((format!("{} restarts in {told} s", app.name), holds))
        }
        (AppState::BackingOff, None, _) => Some((format!("{} restarts", app.name), None)),
        (AppState::Exited, _, Some(exit)) if exit.is_failure() => {
            Some((format!("{} {}", app.name, ended(exit)), None))
        }
        _ => None,
    }
}

/// Rounds a wait up to what is told of it in seconds, and tells how long it rounds to that.
fn rounded(left: Duration) -> (u64, Option<Duration>) {
    let seconds = left.as_secs() + u64::from(left.subsec_nanos() > 0);
    if seconds == 0 {
        // It is over; the news of it are on their way.
        return (1, None);
    }
    let step = if seconds <= FINE { 1 } else { FINE };
    let told = seconds.next_multiple_of(step);
    let next = Duration::from_secs(told.saturating_sub(step));
    // A moment later than to the point, so that the next figure is due when it is looked for.
    (told, Some(left.saturating_sub(next) + Duration::from_millis(5)))
}

/// Says how an app has ended.
pub(crate) fn ended(exit: Ended) -> String {
    match exit {
        Ended::Exited { code } => format!("exited with status {code}"),
        Ended::Signaled { oom: true, .. } => "was killed: out of memory".to_owned(),
        Ended::Signaled { signal, oom: false } => format!("was ended by signal {signal}"),
        Ended::NotStarted { .. } => "could not be started".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pod_abi::AppName;

    use crate::pod::Pod;
    use crate::requests::tests::order;

    const SECOND: u64 = 1_000_000_000;

    /// A pod of `web` and `redis`, both running, changed by `change`.
    fn summed(change: impl FnOnce(&mut PodStatus)) -> (String, Option<Duration>) {
        let mut order = order();
        let mut redis = order.apps[0].clone();
        redis.spec.name = AppName::parse("redis").unwrap();
        order.apps.push(redis);
        let mut pod = Pod::new(&order, 1, String::new(), Timestamp(0));
        for app in &mut pod.status.apps {
            app.state = AppState::Running;
            app.started = Some(Timestamp(1));
        }
        change(&mut pod.status);
        let summary = of(&pod.status, &pod.roster, false, Timestamp(10 * SECOND));
        (summary.text, summary.holds)
    }

    #[test]
    fn a_pod_is_summed_up_in_a_line() {
        type Change = fn(&mut PodStatus);
        let table: [(Change, &str); 9] = [
            (|_| {}, "0/2 apps ready"),
            (|pod| pod.apps[0].ready = Some(Timestamp(2)), "1/2 apps ready"),
            (
                |pod| {
                    pod.apps[0].ready = Some(Timestamp(2));
                    pod.apps[1].said = Some("loading".to_owned());
                },
                "1/2 apps ready; redis: loading",
            ),
            (|pod| pod.ready = Some(Timestamp(2)), "2/2 apps running"),
            (
                |pod| {
                    pod.ready = Some(Timestamp(2));
                    pod.apps[1].state = AppState::Exited;
                    pod.apps[1].exit = Some(Ended::Exited { code: 3 });
                    pod.apps[1].said = Some("last words".to_owned());
                },
                "1/2 apps running, redis exited with status 3",
            ),
            (
                |pod| {
                    pod.ready = Some(Timestamp(2));
                    pod.apps[1].state = AppState::Exited;
                    pod.apps[1].exit = Some(Ended::Exited { code: 0 });
                },
                "1/2 apps running",
            ),
            (
                |pod| {
                    pod.apps.truncate(1);
                    pod.ready = Some(Timestamp(2));
                },
                "1/1 app running",
            ),
            (|pod| pod.apps.clear(), "no apps"),
            (|pod| pod.paused = true, "paused"),
        ];
        for (change, text) in table {
            assert_eq!(summed(change), (text.to_owned(), None));
        }
    }

    #[test]
    fn a_wait_is_counted_down_in_steps() {
        for (left_ms, told, holds_ms) in [
            (4_000, 4, Some(1_005)),
            (3_999, 4, Some(1_004)),
            (3_001, 4, Some(6)),
            (10, 1, Some(15)),
            (0, 1, None),
            (10_000, 10, Some(1_005)),
            (11_000, 20, Some(1_005)),
            (60_000, 60, Some(10_005)),
        ] {
            let (text, holds) = summed(|pod| {
                pod.ready = Some(Timestamp(2));
                pod.apps[1].state = AppState::BackingOff;
                pod.apps[1].restarts_at = Some(Timestamp(10 * SECOND + left_ms * 1_000_000));
            });
            assert_eq!(text, format!("1/2 apps running, redis restarts in {told} s"));
            assert_eq!(holds, holds_ms.map(Duration::from_millis), "{left_ms}");
        }
    }

    #[test]
    fn a_line_stays_within_bounds() {
        let (text, _) = summed(|pod| {
            let one = pod.apps[0].clone();
            pod.apps = vec![one; 64];
            for app in &mut pod.apps {
                app.said = Some("é".repeat(256));
            }
        });
        assert!(text.len() < 2048, "{}", text.len());
    }

    #[test]
    fn what_is_left_of_a_stop_is_counted() {
        let mut pod = Pod::new(&order(), 1, String::new(), Timestamp(0));
        let text = |pod: &Pod| of(&pod.status, &pod.roster, true, Timestamp(0)).text;
        assert_eq!(text(&pod), "stopping");
        pod.status.apps[0].state = AppState::Running;
        assert_eq!(text(&pod), "stopping: 1 app left");
    }
}
