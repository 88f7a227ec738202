//! Attaching to an app: what `run -i`, `start -i` and `attach` have in common.

use pod_abi::AppName;
use pod_abi::app::{AppSpec, Stdio};
use pod_abi::control::{Request, SignalTarget};

use crate::attend::Wishes;
use crate::control::Connection;
use crate::error::{CommandError, Result};
use crate::keys::DetachKeys;
use crate::pump::Pump;
use crate::streams::{Input, Streams};
use crate::terminal::{self, Raw};

/// What a client wants of an app.
#[derive(Clone, Debug)]
pub(crate) struct Audience {
    /// Which app; `None` for what all of them say.
    pub(crate) app: Option<AppName>,
    /// How it is spoken to.
    pub(crate) stdio: Stdio,
    /// Whether it is fed with standard input.
    pub(crate) fed: bool,
    /// Whether its input ends with ours.
    pub(crate) ends_input: bool,
    /// The keys to leave by.
    pub(crate) keys: DetachKeys,
}

impl Audience {
    /// Chooses the app of a pod that a foreground belongs to: the one that is spoken to; `None` if
    /// there is none. `fed` tells whether one is to be fed.
    ///
    /// # Errors
    ///
    /// Usage if there are two, or what is to feed a terminal is none.
    pub(crate) fn of(
        apps: &[AppSpec],
        fed: impl Fn(usize, &AppSpec) -> bool,
        keys: Option<&str>,
    ) -> Result<Option<Self>> {
        let mut spoken_to = apps.iter().enumerate().filter(|(_, app)| app.stdio != Stdio::Logged);
        let Some((at, app)) = spoken_to.next() else { return Ok(None) };
        if let Some((_, other)) = spoken_to.next() {
            let sentence = format!(
                "apps `{}` and `{}` cannot both be in the foreground",
                app.name, other.name
            );
            return Err(CommandError::usage(sentence)
                .hint("run the pod with `-d`, and `pod attach -c APP` to each"));
        }
        let fed = fed(at, app);
        terminal::check(fed && app.stdio == Stdio::Terminal)?;
        let keys =
            DetachKeys::asked(keys).map_err(|error| CommandError::usage(error.to_string()))?;
        let (app, stdio) = (Some(app.name.clone()), app.stdio);
        Ok(Some(Self { app, stdio, fed, ends_input: true, keys }))
    }

    /// Returns the audience of a pod none of whose apps is spoken to: it hears all of them.
    pub(crate) fn of_all() -> Self {
        let keys = DetachKeys::none();
        Self { app: None, stdio: Stdio::Logged, fed: false, ends_input: false, keys }
    }

    /// Returns whom signals to us are passed on to.
    pub(crate) fn target(&self) -> SignalTarget {
        self.app.clone().map_or(SignalTarget::AllApps, SignalTarget::App)
    }

    /// Returns what has been wished for at the beginning: the first wish for the end is for the app
    /// to hear, and where several are listened to there is none it would be meant for.
    pub(crate) fn wishes(&self) -> Wishes {
        let mut wishes = Wishes::default();
        if self.app.is_none() {
            wishes.unheard();
        }
        wishes
    }
}

/// What an attached client works with.
#[derive(Debug)]
pub(crate) struct Client {
    /// What is to be copied.
    pub(crate) pump: Pump,
    /// The caller's terminal, if it is the app's.
    pub(crate) raw: Option<Raw>,
}

/// Asks to be attached.
///
/// # Errors
///
/// `pod.unreachable`; `storage` when descriptors run out.
pub(crate) fn attach(connection: &mut Connection, audience: &Audience) -> Result<Client> {
    let Audience { app, stdio, fed, ends_input, keys } = audience.clone();
    let on_terminal = stdio == Stdio::Terminal;
    // Without a terminal, no key has a meaning.
    let keys = if on_terminal { keys } else { DetachKeys::none() };
    let streams = Streams::of_a_client(if fed { Input::Passed(keys) } else { Input::None })?;
    let size = terminal::size().filter(|_| on_terminal);
    let request = Request::Attach { app, input: fed, ends_input, size };
    connection.request(&request, &streams.descriptors())?;
    let raw = if fed && on_terminal { Some(Raw::new()?) } else { None };
    Ok(Client { pump: streams.handed_over(), raw })
}
