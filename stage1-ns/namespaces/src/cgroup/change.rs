//! Limits that change while a pod lives: all that was asked for, or nothing.
//!
//! Only what differs is written, and what a file said before is written back if a later one is
//! refused. Less memory than is in use is not simply written: the kernel would kill for it. It is
//! asked to take back what it can first, and if that is not enough the change is refused.

use pod_abi::AppName;
use pod_abi::isolators::Resources;
use rustix::io::Errno;
use supervisor::Failure;

use super::Cgroup;
use super::limit::{Wish, nowhere, refused};
use crate::plan::{Quota, quotas};

/// Changes the limits of an app or, without one, of the pod, from `old` to `new`.
///
/// # Errors
///
/// `app.limit` or `pod.limit`; everything is as it was.
pub(crate) fn change(
    cgroup: Option<&mut Cgroup>,
    app: Option<&AppName>,
    old: &Resources,
    new: &Resources,
) -> Result<(), Failure> {
    let wanted = quotas::of(new);
    let wishes: Vec<Wish<'_>> = wanted.iter().map(|quota| (app, quota)).collect();
    let Some(cgroup) = cgroup else { return nowhere(&wishes) };
    let known = quotas::of(old);
    let wishes: Vec<Wish<'_>> =
        wishes.into_iter().filter(|(_, quota)| app.is_none() || !known.contains(quota)).collect();
    if wishes.is_empty() {
        return Ok(());
    }
    cgroup.hand_down(&wishes)?;
    let mut undone = Vec::new();
    let changed = cgroup.change_all(&wishes, &mut undone);
    if changed.is_err() {
        for (path, value) in undone.iter().rev() {
            // It was so a moment ago; there is nobody else to tell.
            let _ = cgroup.put(path, value);
        }
    }
    cgroup.watch_memory(app.into_iter());
    changed
}

impl Cgroup {
    /// Writes limits one by one, and notes in `undone` what undoes each.
    fn change_all(
        &self,
        wishes: &[Wish<'_>],
        undone: &mut Vec<(String, String)>,
    ) -> Result<(), Failure> {
        if wishes.iter().any(|(whose, quota)| whose.is_some() && quota.file == "memory.low") {
            let quota = quotas::pass_on();
            self.write(&format!("{}/{}", self.pod(), quota.file), None, &quota)?;
        }
        for (whose, quota) in wishes.iter().copied() {
            let path = match self.target(whose, quota)? {
                Some(path) => path,
                // The unit says so; then what is beneath it must not say otherwise.
                None => {
                    let path = format!("{}/{}", self.pod(), quota.file);
                    let unlimited = |text: String| is_unlimited(quota, &text);
                    if self.get(&path).map_or(true, unlimited) {
                        continue;
                    }
                    path
                }
            };
            let before = self.get(&path).ok().and_then(|text| before(quota, &text));
            undone.extend(before.map(|before| (path.clone(), before)));
            if quota.file == "memory.max" {
                self.make_room(&path, whose, quota)?;
            }
            self.write(&path, whose, quota)?;
        }
        Ok(())
    }

    /// Has the kernel take back memory until a limit can be had without killing for it.
    fn make_room(&self, path: &str, whose: Option<&AppName>, quota: &Quota) -> Result<(), Failure> {
        let Ok(most) = quota.value.parse::<u64>() else { return Ok(()) };
        let used = || {
            let text = self.get(&path.replace("memory.max", "memory.current"));
            text.ok().and_then(|text| text.trim().parse::<u64>().ok())
        };
        if used().is_none_or(|used| used <= most) {
            return Ok(());
        }
        let high = path.replace("memory.max", "memory.high");
        let before = self.get(&high).unwrap_or_else(|_| "max".to_owned());
        // Whoever writes here does the work of taking back himself, as far as it goes.
        let lowered: Result<(), Errno> = self.put(&high, &quota.value);
        let _ = self.put(&high, before.trim()); // as it was
        match (lowered, used()) {
            (Ok(()), Some(used)) if used > most => {
                let what = format!("it uses {used} bytes of memory, more than {most}");
                Err(refused(whose, &what).hint("give it more, or stop it first"))
            }
            _ => Ok(()),
        }
    }
}

/// Returns what is to be written to a file to have what its text says of a quota.
fn before(quota: &Quota, text: &str) -> Option<String> {
    let Some(device) = quota.device else {
        let line = text.lines().next().unwrap_or_default().trim();
        // An empty list is one, too.
        return Some(if line.is_empty() { "\n".to_owned() } else { line.to_owned() });
    };
    let device = format!("{}:{}", device.major, device.minor);
    let line = text.lines().find(|line| line.split(' ').next() == Some(&device));
    Some(line.map_or_else(|| quota.nothing(), str::to_owned))
}

/// Tells whether the text of a file limits nothing of what a quota is about.
fn is_unlimited(quota: &Quota, text: &str) -> bool {
    before(quota, text).is_none_or(|line| {
        line == quota.nothing() || line.trim().is_empty() || line.starts_with("max")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use pod_abi::isolators::{BlockDevice, IoLimit};

    #[test]
    fn what_a_file_said_can_be_written_back() {
        let io = |major| IoLimit {
            device: BlockDevice { major, minor: 0 },
            read_bytes: Some(5),
            write_bytes: None,
            reads: None,
            writes: None,
        };
        let resources = Resources {
            memory: Some(1),
            cpuset_cpus: Some("0".to_owned()),
            io_weight: Some(7),
            io: vec![io(8), io(9)],
            ..Resources::default()
        };
        let quotas = quotas::of(&resources);
        let text = |file: &str| match file {
            "memory.max" | "memory.swap.max" => "max\n",
            "io.weight" => "default 100\n8:0 3\n",
            "io.max" => "8:0 rbps=1 wbps=max riops=max wiops=max\n",
            _ => "\n",
        };
        let said: Vec<_> =
            quotas.iter().filter_map(|quota| before(quota, text(quota.file))).collect();
        let expected = [
            "max",
            "max",
            "\n",
            "default 100",
            "8:0 rbps=1 wbps=max riops=max wiops=max",
            "9:0 rbps=max wbps=max riops=max wiops=max",
        ];
        assert_eq!(said, expected);
        let unlimited: Vec<_> =
            quotas.iter().map(|quota| is_unlimited(quota, text(quota.file))).collect();
        assert_eq!(unlimited, [true, true, true, false, false, true]);
    }
}
