//! Hearing PID 1, and following what it says.

use std::collections::VecDeque;
use std::time::Instant;

use pod_abi::Report;
use pod_abi::control::Reply;
use pod_abi::exit::Ended;
use pod_abi::inner::{FromInit, Target, ToInit};
use pod_abi::status::Event;

use super::{LAST_WORDS, Living, PATIENCE, Verdict};
use crate::client::Waiting;
use crate::link::Silence;
use crate::pod::Consequence;
use crate::records;
use crate::wall::Wall;

impl<W: Wall> Living<'_, W> {
    /// Hears what PID 1 has said, and returns how many bytes it was.
    pub(super) fn hear(&mut self) -> usize {
        let Some(link) = &mut self.link else { return 0 };
        let mut words = VecDeque::new();
        let silence = link.receive(&mut words);
        for word in words {
            self.heed(word);
        }
        let silence = match silence {
            Ok(count) => return count,
            Err(silence) => silence,
        };
        if let Some(link) = self.link.take() {
            self.events.remove(&link);
        }
        match silence {
            Silence::Nonsense(failure) => self.fail(failure.report()),
            // It closes its end by ending; one that lives on is not waited for.
            Silence::Closed => self.patience = Some(Instant::now() + PATIENCE),
        }
        0
    }

    pub(super) fn hear_last_words(&mut self) {
        // SECURITY: not until the channel is closed: its other end may have been passed out of
        // the pod to a process that lives, and keeps it open or goes on talking.
        for _ in 0..LAST_WORDS {
            if self.hear() == 0 || matches!(self.verdict, Some(Verdict::Failed(_))) {
                break;
            }
        }
        if self.verdict.is_none() && !self.killed {
            let what = "the pod's PID 1 was killed or ended without a word";
            let cause = self.wall.why_it_ended().map(|failure| failure.report());
            let cause = cause.unwrap_or_else(|| Report::new("pod.init-died", what));
            self.verdict = Some(Verdict::Failed(cause));
        }
    }

    pub(super) fn heed(&mut self, word: FromInit) {
        match self.pod.hear(self.wall.believed(word), records::now()) {
            Ok(consequences) => {
                if self.pod.answered && self.verdict.is_none() {
                    self.patience = None;
                }
                for consequence in consequences {
                    self.follow(consequence);
                }
            }
            Err(violation) => self.fail(Report::of("pod.init-broke-protocol", &violation)),
        }
    }

    pub(super) fn follow(&mut self, consequence: Consequence) {
        match consequence {
            Consequence::Record(event) => {
                // The cause comes before its effect.
                if matches!(event, Event::AppEnded { exit: Ended::Signaled { oom: true, .. }, .. })
                {
                    self.heed_memory();
                }
                self.records.event(records::now(), event);
            }
            Consequence::Ready => {
                // Whoever is told looks at the record next.
                self.record();
                self.telling.add("READY=1");
                // At once: what ends the pod may have come with it, and whoever waits for the one
                // must hear it before the other.
                self.tell_manager(Instant::now());
            }
            Consequence::Said(app, word) => self.said(app, &word),
            Consequence::AppReady(app) => self.reloaded(&app),
            Consequence::Pong => {
                if let Some(watchdog) = &mut self.watchdog {
                    watchdog.answered();
                }
            }
            Consequence::Started(app, pid) => {
                let host = self.wall.host_pid(&app, pid);
                if let Some(app) = self.pod.app(&app) {
                    app.pid = host;
                }
                self.outputs.hear(&app);
                for signal in self.pod.kept_signals(&app) {
                    self.tell(&ToInit::Signal { target: Target::App(app.clone()), signal });
                }
                self.reply(&Waiting::Start(app), &Reply::Done);
            }
            Consequence::AppEnded { app, exit, error, for_good } => {
                self.outputs.hear(&app);
                self.app_ended(&app, exit, for_good);
                self.reloaded(&app);
                if let Some(watchdog) = &mut self.watchdog {
                    watchdog.forget(&app);
                }
                let report = error.unwrap_or_else(|| {
                    Report::new("app.ended", format!("app `{app}` ended before it ran"))
                });
                let refused = Reply::Refused(Box::new(report));
                self.reply(&Waiting::Start(app.clone()), &refused);
                self.reply(&Waiting::Stop(app), &Reply::Done);
            }
            Consequence::Refused(app, report) => {
                let refused = Reply::Refused(Box::new(report));
                self.reply(&Waiting::Start(app.clone()), &refused);
                self.reply(&Waiting::Remove(app.clone()), &refused);
                self.reply(&Waiting::Stop(app), &refused);
            }
            Consequence::Removed(app) => self.app_removed(&app),
            Consequence::ExecStarted(id) => {
                if !self.reply(&Waiting::Exec(id), &Reply::ExecStarted) {
                    self.kill_exec(id);
                }
            }
            Consequence::ExecEnded(id, exit, error) => {
                let reply = match error {
                    Some(report) => Reply::Refused(Box::new(report.exit(exit.code()))),
                    None => Reply::ExecEnded { exit },
                };
                self.exec_ended(&Waiting::Exec(id), reply);
            }
            Consequence::Over(code) => {
                self.verdict.get_or_insert(Verdict::Over(code));
                self.outputs.let_all_flow();
                self.patience = Some(Instant::now() + PATIENCE);
            }
            Consequence::Failed(report) => self.fail(report),
        }
    }
}
