//! Freezing: every process of the pod stands still, and the supervisor does not.
//!
//! Only `pod` is frozen, PID 1 included. What is frozen can be killed, takes no time on
//! processors, and keeps its memory.

use std::time::Duration;

use supervisor::{During, Failure};

use super::Cgroup;

/// How long processes may take to stand still. Each does so on its next way back from the kernel:
/// one that takes longer is stuck there, on a dead disk for example.
const PATIENCE: Duration = Duration::from_secs(2);

impl Cgroup {
    /// Freezes the pod and returns once it stands still.
    pub(crate) fn freeze(&self) -> Result<(), Failure> {
        let pod = self.pod();
        let file = format!("{pod}/cgroup.freeze");
        self.put(&file, "1").during(|| format!("cannot write `1` to `{file}`"))?;
        if self.becomes(&pod, "frozen 1", PATIENCE) {
            return Ok(());
        }
        self.thaw()?;
        let what = "a process of the pod does not stand still: it waits inside the kernel";
        Err(Failure::new(what)
            .code("pause.stuck")
            .hint("see which by `pod top`, in state `D`, and try again once it goes on"))
    }

    /// Lets the pod go on.
    pub(crate) fn thaw(&self) -> Result<(), Failure> {
        let file = format!("{}/cgroup.freeze", self.pod());
        self.put(&file, "0").during(|| format!("cannot write `0` to `{file}`"))
    }
}
