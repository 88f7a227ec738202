//! What to do about the unit of a pod that has ended and is to be removed. Pure.

use crate::systemd::{ActiveState, UnitState};

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Farewell {
    /// Nothing: it is not ours, or gone.
    Nothing,
    /// It has failed: have it forgotten.
    Forget,
    /// It ends just now, or has not noticed yet that its pod has: look again soon. What it will do
    /// then, fail or start the pod again, it has not decided.
    LookAgain,
    /// It is about to start the pod again.
    Returns,
}

/// Decides.
pub(super) fn farewell(state: &UnitState) -> Farewell {
    match state.active {
        // Somebody's own unit is not ours to forget.
        _ if state.pod.is_none() => Farewell::Nothing,
        ActiveState::Failed => Farewell::Forget,
        ActiveState::Inactive => Farewell::Nothing,
        // `auto-restart-queued` since systemd 254, where its time has come.
        ActiveState::Activating if state.sub.starts_with("auto-restart") => Farewell::Returns,
        _ => Farewell::LookAgain,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_goes_down_is_not_taken_for_one_that_comes_back() {
        for (active, sub, expected) in [
            (ActiveState::Failed, "failed", Farewell::Forget),
            (ActiveState::Inactive, "dead", Farewell::Nothing),
            (ActiveState::Activating, "auto-restart", Farewell::Returns),
            (ActiveState::Activating, "auto-restart-queued", Farewell::Returns),
            (ActiveState::Activating, "start", Farewell::LookAgain),
            (ActiveState::Active, "running", Farewell::LookAgain),
            (ActiveState::Deactivating, "stop-post", Farewell::LookAgain),
            (ActiveState::Deactivating, "stop-sigterm", Farewell::LookAgain),
        ] {
            let pod = Some("x".to_owned());
            let ours = UnitState { active, sub: sub.to_owned(), pod, ..UnitState::default() };
            assert_eq!(farewell(&ours), expected, "{active:?} {sub}");
            let theirs = UnitState { pod: None, ..ours };
            assert_eq!(farewell(&theirs), Farewell::Nothing, "{active:?} {sub}");
        }
    }
}
