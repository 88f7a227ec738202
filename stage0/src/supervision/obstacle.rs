//! What to do about a unit that bears the name a pod's unit is to have. Pure.
//!
//! Only a unit whose pod is known to have ended or to be no more, and is of the same root, is touched. One that is on its
//! way out may be waited for, whoever's it is.

use pod_abi::phase::Phase;

use crate::systemd::{ActiveState, UnitState};

/// Whose a unit is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// The pod's that is to be started.
    ThisPod,
    /// Another pod's of the same root, in this phase.
    OtherPod(Phase),
    /// A pod's of the same root that is no more.
    GonePod,
    /// A pod's that this root does not know.
    Unknown,
    /// No pod's.
    NoPod,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Obstacle {
    /// It has failed: have it forgotten.
    Ended,
    /// It is about to end: wait for that.
    Ending,
    /// It stays; what its user can do about it, with `UNIT` for its name.
    Lives(&'static str),
}

/// Decides.
pub(super) fn obstacle(state: &UnitState, owner: Owner) -> Obstacle {
    let other = "it is no pod's of this root; `systemctl status UNIT` shows it, and `--name` takes \
                 another name";
    let failed = "it is no pod's of this root; `systemctl reset-failed UNIT` removes it, and `--name` \
                  takes another name";
    // Its pod may have gone already, if it goes with its end.
    if state.active == ActiveState::Deactivating && state.restart == "no" {
        return Obstacle::Ending;
    }
    let over = match owner {
        Owner::NoPod | Owner::Unknown if state.active == ActiveState::Failed => {
            return Obstacle::Lives(failed);
        }
        Owner::NoPod | Owner::Unknown => return Obstacle::Lives(other),
        Owner::ThisPod | Owner::GonePod => true,
        Owner::OtherPod(phase) => phase != Phase::Running,
    };
    match state.active {
        ActiveState::Failed | ActiveState::Inactive if over => Obstacle::Ended,
        ActiveState::Activating if state.sub == "auto-restart" => {
            Obstacle::Lives("its pod is about to be started again; `systemctl stop UNIT` ends that")
        }
        _ => Obstacle::Lives("its pod runs; `systemctl stop UNIT` ends it"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_units_of_pods_that_have_ended_go() {
        let lives = Obstacle::Lives("");
        let table = [
            (ActiveState::Failed, "", Owner::ThisPod, Obstacle::Ended),
            (ActiveState::Failed, "", Owner::OtherPod(Phase::Exited), Obstacle::Ended),
            (ActiveState::Failed, "", Owner::OtherPod(Phase::Running), lives),
            (ActiveState::Failed, "", Owner::GonePod, Obstacle::Ended),
            (ActiveState::Activating, "auto-restart", Owner::GonePod, lives),
            (ActiveState::Failed, "", Owner::Unknown, lives),
            (ActiveState::Failed, "", Owner::NoPod, lives),
            (ActiveState::Deactivating, "stop-post", Owner::ThisPod, Obstacle::Ending),
            (ActiveState::Deactivating, "stop-post", Owner::Unknown, Obstacle::Ending),
            (ActiveState::Active, "running", Owner::OtherPod(Phase::Running), lives),
            (ActiveState::Activating, "auto-restart", Owner::ThisPod, lives),
            (ActiveState::Activating, "start", Owner::ThisPod, lives),
        ];
        for (active, sub, owner, expected) in table {
            let restart = "no".to_owned();
            let state = UnitState { active, sub: sub.to_owned(), restart, ..UnitState::default() };
            let decided = |state: &UnitState| match obstacle(state, owner) {
                Obstacle::Lives(_) => lives,
                found => found,
            };
            assert_eq!(decided(&state), expected, "{active:?} {sub} {owner:?}");
            // To wait for a unit by a job of ours would keep it from starting again.
            let state = UnitState { restart: "always".to_owned(), ..state };
            let restarts = if expected == Obstacle::Ending { lives } else { expected };
            assert_eq!(decided(&state), restarts, "{active:?} {sub} {owner:?}");
        }
    }
}
