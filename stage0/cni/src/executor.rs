//! Attaches containers to networks, and undoes it: the commands of CNI over whole chains.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use crate::call::Caller;
use crate::capabilities::Capabilities;
use crate::config::Network;
use crate::error::{Error, ErrorKind, PluginError};
use crate::invocation::{Args, Command, Invocation, Subject};
use crate::name::{Attachment, ContainerId, IfName, NetworkName, PluginType};
use crate::plan::{Chain, Matter};
use crate::records::{Container, Record, Records};
use crate::result::{AddResult, carried};
use crate::version::Version;

/// What is asked for one container of one network.
#[derive(Clone, Debug)]
pub struct Request {
    /// The container.
    pub container: ContainerId,
    /// The interface it is to get.
    pub if_name: IfName,
    /// Its network namespace, as the host sees it: `/proc/PID/fd/N` will do.
    pub netns: PathBuf,
    /// What the user says to plugins.
    pub args: Args,
    /// What is asked for beyond being attached.
    pub capabilities: Capabilities,
}

/// What detaching had to go by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detached {
    /// The record made when it was attached.
    ByRecord,
    /// The configuration the caller gave, because there is no record that can be read. What a
    /// plugin only knows from results may stay.
    ByConfiguration,
    /// Nothing: there is neither, so nothing was ever attached or it has been detached.
    Nothing,
}

/// What came of asking all plugins of a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// All agreed, those listed because they do not know the command.
    Yes {
        /// Plugins that do not know the command.
        unsupported: Vec<PluginType>,
    },
    /// None was asked.
    No(Unasked),
}

/// Why no plugin was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unasked {
    /// The version of the configuration does not know the command.
    Version,
    /// The administrator switched it off for this network.
    Disabled,
    /// Others attach containers to the network, and would lose them.
    Shared,
}

/// Whose attachments a network has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// Ours alone: nobody else knows its configuration.
    Ours,
    /// Perhaps those of another runtime, which we do not know.
    Shared,
}

/// What sweeping did.
#[derive(Debug, Default)]
pub struct Swept {
    /// Attachments that are no more.
    pub detached: Vec<Attachment>,
    /// Attachments somebody works on; the next sweep looks again.
    pub busy: Vec<ContainerId>,
    /// Attachments that could not be undone, and why; the next sweep tries again, unless the record
    /// was damaged.
    pub failed: Vec<(Attachment, Error)>,
}

/// Attaches and detaches, and remembers what must be undone.
///
/// Call it from a thread in the host's network namespace: plugins run there.
#[derive(Debug)]
pub struct Executor<'a> {
    caller: Caller<'a>,
    records: Records,
}

impl<'a> Executor<'a> {
    /// Keeps records in `directory`, which is made if it is not there, and waits for others who
    /// work on the same container or network for at most `patience`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Storage`] if the directory cannot be made.
    pub fn new(caller: Caller<'a>, directory: PathBuf, patience: Duration) -> Result<Self, Error> {
        Ok(Self { caller, records: Records::open(directory, patience)? })
    }

    /// Attaches a container: ADD of every plugin, in order, each told what the one before made.
    ///
    /// 1. Agree on a version.
    /// 2. Keep garbage collection and others who work on the container away.
    /// 3. Write down what will be done, so that it can be undone whenever we are killed.
    /// 4. Run the chain, writing down every result.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Attached`] if there is a record of it already: detach it first. Any kind of a
    /// plugin's: everything has been undone then, as far as plugins let themselves; what is left is
    /// the last part of the error's causes, and the record stays for the next [`Self::detach`] or
    /// [`Self::sweep`].
    pub fn attach(&self, network: &Network, request: &Request) -> Result<AddResult, Error> {
        let attachment = Attachment {
            container: request.container.clone(),
            network: network.name().clone(),
            if_name: request.if_name.clone(),
        };
        self.add(network, request, &attachment)
            .map_err(|error| error.within(format!("cannot attach {attachment}")))
    }

    fn add(
        &self,
        network: &Network,
        request: &Request,
        attachment: &Attachment,
    ) -> Result<AddResult, Error> {
        let version = self.agree(network)?;
        let _no_gc = self.records.share()?;
        let container = self.records.container(&request.container)?;
        if !matches!(container.read(attachment), Ok(None)) {
            return Err(Error::new(ErrorKind::Attached, "it has been attached before")
                .hint("detach it first"));
        }
        let mut record = Record {
            network: network.clone(),
            version,
            args: request.args.clone(),
            runtime_config: request.capabilities.to_runtime_config(),
            done: 0,
            result: None,
        };
        container.write(attachment, &record)?;
        let subject = subject(attachment, Some(&request.netns), &record.args);
        match self.add_all(&container, attachment, &subject, &mut record) {
            Ok(result) => Ok(result),
            Err(error) => match self.undo(&container, attachment, &subject, &record) {
                Ok(()) => Err(error),
                Err(left) => {
                    Err(error.followed_by(&left.within("undoing what there was of it failed, too")))
                }
            },
        }
    }

    fn add_all(
        &self,
        container: &Container,
        attachment: &Attachment,
        subject: &Subject,
        record: &mut Record,
    ) -> Result<AddResult, Error> {
        let network = record.network.clone();
        let chain = self.chain(&network, record.version);
        for (at, plugin) in network.plugins().iter().enumerate() {
            let result = record.result.as_ref();
            let matter = Matter { subject, runtime_config: &record.runtime_config, result };
            let invocation = chain.about(plugin, Command::Add, &matter);
            let said = self.caller.ask(&invocation, Some(container.input()))?;
            let carried = carried(said, record.version).map_err(|error| {
                let sentence =
                    format!("plugin `{}` answered ADD with what is no result", plugin.kind());
                Error::new(ErrorKind::Garbage, sentence).because(error)
            })?;
            record.result = Some(carried);
            record.done = at + 1;
            container.write(attachment, record)?;
        }
        Ok(result_of(record).unwrap_or_default())
    }

    /// Detaches a container: DEL of every plugin, in reverse, each told what ADD was told and made.
    /// A plugin that refuses keeps none of the others from being asked.
    ///
    /// It may be called at any time and again, also for what was never attached, and for a
    /// namespace that is gone: `netns` is `None` then, for a path of a dead process may lead
    /// elsewhere by now. `fallback` is what to go by where there is no record that can be read.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Damaged`] if the record cannot be read and there is no `fallback`: the record is
    /// removed, for nobody will ever read it. Any kind of a plugin's, of all that refused: the
    /// record stays, so that it can be tried again.
    pub fn detach(
        &self,
        attachment: &Attachment,
        netns: Option<&Path>,
        fallback: Option<&Network>,
    ) -> Result<Detached, Error> {
        let detach = || {
            let _no_gc = self.records.share()?;
            let container = self.records.container(&attachment.container)?;
            self.del(&container, attachment, netns, fallback)
        };
        detach().map_err(|error: Error| error.within(format!("cannot detach {attachment}")))
    }

    fn del(
        &self,
        container: &Container,
        attachment: &Attachment,
        netns: Option<&Path>,
        fallback: Option<&Network>,
    ) -> Result<Detached, Error> {
        let (record, detached) = match (container.read(attachment), fallback) {
            (Ok(Some(record)), _) => (record, Detached::ByRecord),
            (Ok(None), None) => return Ok(Detached::Nothing),
            (Err(damage), None) => {
                container.forget(attachment)?;
                return Err(damage.hint(format!(
                    "it is removed; addresses and rules of network `{}` may be left",
                    attachment.network
                )));
            }
            (_, Some(network)) => (self.record_of(network)?, Detached::ByConfiguration),
        };
        let subject = subject(attachment, netns, &record.args);
        self.undo(container, attachment, &subject, &record)?;
        Ok(detached)
    }

    /// What a record of a network would say if nothing but its configuration were known, and so
    /// every plugin had to be believed to have made something.
    fn record_of(&self, network: &Network) -> Result<Record, Error> {
        Ok(Record {
            network: network.clone(),
            version: self.agree(network)?,
            args: Args::default(),
            runtime_config: BTreeMap::new(),
            done: network.plugins().len(),
            result: None,
        })
    }

    /// Runs DEL of the whole chain and removes the record if all of it worked.
    fn undo(
        &self,
        container: &Container,
        attachment: &Attachment,
        subject: &Subject,
        record: &Record,
    ) -> Result<(), Error> {
        let chain = self.chain(&record.network, record.version);
        let result = record.result.as_ref();
        let matter = Matter { subject, runtime_config: &record.runtime_config, result };
        let mut failed: Option<Error> = None;
        for (at, plugin) in record.network.plugins().iter().enumerate().rev() {
            let invocation = chain.about(plugin, Command::Del, &matter);
            let Err(error) = self.caller.ask(&invocation, Some(container.input())) else {
                continue;
            };
            if at >= record.done && never_began(&error) {
                continue;
            }
            failed = Some(match failed {
                None => error,
                Some(first) => first.followed_by(&error),
            });
        }
        failed.map_or_else(|| container.forget(attachment), Err)
    }

    /// Has all plugins look whether an attachment is as it was made.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`] if it is not attached, or not wholly. The first plugin's that finds
    /// something else than it should.
    pub fn check(&self, attachment: &Attachment, netns: &Path) -> Result<Asked, Error> {
        let check = || {
            let _no_gc = self.records.share()?;
            let container = self.records.container(&attachment.container)?;
            let record = container.read(attachment)?.filter(|record| record.is_made());
            let Some(record) = record else {
                return Err(Error::new(ErrorKind::NotFound, "it is not attached"));
            };
            if !record.version.remembers() {
                return Ok(Asked::No(Unasked::Version));
            }
            if record.network.disables_check() {
                return Ok(Asked::No(Unasked::Disabled));
            }
            let chain = self.chain(&record.network, record.version);
            let subject = subject(attachment, Some(netns), &record.args);
            let result = record.result.as_ref();
            let matter =
                Matter { subject: &subject, runtime_config: &record.runtime_config, result };
            for plugin in record.network.plugins() {
                let invocation = chain.about(plugin, Command::Check, &matter);
                self.caller.ask(&invocation, Some(container.input()))?;
            }
            Ok(Asked::Yes { unsupported: Vec::new() })
        };
        check().map_err(|error: Error| error.within(format!("{attachment} is not as it should be")))
    }

    /// Has all plugins of a network tell whether containers can be attached to it now.
    ///
    /// # Errors
    ///
    /// The first plugin's that cannot; [`PluginError::NOT_AVAILABLE`] or
    /// [`PluginError::NOT_AVAILABLE_AND_LIMITED`] is its code, or any other.
    pub fn status(&self, network: &Network) -> Result<Asked, Error> {
        let status = || {
            let version = self.agree(network)?;
            if !version.collects() {
                return Ok(Asked::No(Unasked::Version));
            }
            let chain = self.chain(network, version);
            let mut unsupported = Vec::new();
            for plugin in network.plugins() {
                if self.ask_new(&chain.status(plugin), None)? == Known::No {
                    unsupported.push(plugin.kind().clone());
                }
            }
            Ok(Asked::Yes { unsupported })
        };
        status().map_err(|error: Error| {
            error.within(format!("network `{}` is not ready", network.name()))
        })
    }

    /// Has all plugins of a network remove what belongs to no attachment for which `is_living` is
    /// true, while nobody attaches or detaches.
    ///
    /// Sweep before: DEL is exact, and this only finds what DEL could not. `is_living` is asked
    /// under the lock that keeps everybody out, so it must not wait for anybody who attaches.
    ///
    /// # Errors
    ///
    /// Those of all plugins that refused; all have been asked.
    pub fn collect_garbage(
        &self,
        network: &Network,
        owner: Owner,
        is_living: &dyn Fn(&Attachment) -> bool,
    ) -> Result<Asked, Error> {
        let collect = || {
            if owner == Owner::Shared {
                return Ok(Asked::No(Unasked::Shared));
            }
            if network.disables_gc() {
                return Ok(Asked::No(Unasked::Disabled));
            }
            let version = self.agree(network)?;
            if !version.collects() {
                return Ok(Asked::No(Unasked::Version));
            }
            let alone = self.records.exclude()?;
            let living = |attachment: &Attachment| {
                attachment.network == *network.name() && is_living(attachment)
            };
            let valid: Vec<Attachment> = self.attachments()?.into_iter().filter(living).collect();
            self.gc_all(&self.chain(network, version), &valid, alone.input())
        };
        collect().map_err(|error: Error| {
            error.within(format!("cannot collect the garbage of network `{}`", network.name()))
        })
    }

    fn gc_all(
        &self,
        chain: &Chain<'_>,
        valid: &[Attachment],
        input: &File,
    ) -> Result<Asked, Error> {
        let (mut unsupported, mut failed) = (Vec::new(), None::<Error>);
        for plugin in chain.network.plugins() {
            match self.ask_new(&chain.gc(plugin, valid), Some(input)) {
                Ok(Known::Yes) => {}
                Ok(Known::No) => unsupported.push(plugin.kind().clone()),
                Err(error) => {
                    failed = Some(match failed {
                        None => error,
                        Some(first) => first.followed_by(&error),
                    });
                }
            }
        }
        failed.map_or(Ok(Asked::Yes { unsupported }), Err)
    }

    /// Detaches everything recorded for which `is_living` is false; what somebody works on is left
    /// alone. Safe at any time, on any network: these attachments are ours.
    ///
    /// `is_living` is asked while the container is locked, so it must not wait for anybody who
    /// attaches or detaches.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Storage`] if the records cannot be listed, [`ErrorKind::Busy`] while garbage is
    /// collected. That an attachment could not be undone is part of [`Swept`].
    pub fn sweep(&self, is_living: &dyn Fn(&Attachment) -> bool) -> Result<Swept, Error> {
        let _no_gc = self.records.share()?;
        let mut swept = Swept::default();
        for id in self.records.containers()? {
            let Some(container) = self.records.idle_container(&id)? else {
                swept.busy.push(id);
                continue;
            };
            for attachment in self.records.of_container(&id)? {
                if is_living(&attachment) {
                    continue;
                }
                match self.del(&container, &attachment, None, None) {
                    Ok(_) => swept.detached.push(attachment),
                    Err(error) => swept.failed.push((attachment, error)),
                }
            }
        }
        Ok(swept)
    }

    /// Lists all attachments there are records of, sorted.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Storage`].
    pub fn attachments(&self) -> Result<Vec<Attachment>, Error> {
        let mut all = Vec::new();
        for id in self.records.containers()? {
            all.extend(self.records.of_container(&id)?);
        }
        Ok(all)
    }

    /// Returns what attaching made; `None` if it is not attached, or not wholly.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Damaged`] if the record cannot be read.
    pub fn result(&self, attachment: &Attachment) -> Result<Option<AddResult>, Error> {
        let record = self.records.read(attachment)?.filter(|record| record.is_made());
        Ok(record.as_ref().and_then(result_of))
    }

    /// Picks the newest version that configuration, plugins and we have in common. Plugins are only
    /// asked where the configuration leaves a choice; otherwise they say themselves, when they are
    /// called, that it is not theirs.
    fn agree(&self, network: &Network) -> Result<Version, Error> {
        let mut common = network.versions().to_vec();
        let newest = common.last().copied().unwrap_or(Version::NEWEST);
        if common.len() == 1 {
            return Ok(newest);
        }
        let chain = self.chain(network, newest);
        let programs =
            network.plugins().iter().filter(|each| !self.caller.is_built_in(each.kind()));
        for plugin in programs {
            let answer = self.caller.ask(&chain.version(plugin), None)?;
            let spoken = answer["supportedVersions"].as_array();
            common.retain(|version| {
                spoken.is_some_and(|spoken| spoken.iter().any(|each| each == version.as_str()))
            });
            if common.is_empty() {
                return Err(no_version(network.name(), plugin.kind(), &answer));
            }
        }
        Ok(common.last().copied().unwrap_or(newest))
    }

    fn chain<'c>(&'c self, network: &'c Network, version: Version) -> Chain<'c> {
        Chain { network, version, plugin_path: self.caller.plugin_path.as_str() }
    }

    /// Asks for a command that CNI has only since 1.1. A plugin that says that the environment makes
    /// no sense does not know it, for of all else in there we are sure; and so does one that misses
    /// a container, which these commands are not about: Debian's of 1.1.1 look for it first.
    fn ask_new(&self, invocation: &Invocation, input: Option<&File>) -> Result<Known, Error> {
        match self.caller.ask(invocation, input) {
            Ok(_) => Ok(Known::Yes),
            Err(error) => match error.plugin() {
                Some(PluginError {
                    code: PluginError::INVALID_ENVIRONMENT | PluginError::UNKNOWN_CONTAINER,
                    ..
                }) => Ok(Known::No),
                _ => Err(error),
            },
        }
    }
}

/// Tells of a plugin that did not succeed with ADD, by what it says to DEL, that it cannot have made
/// anything: it is not there, or does not speak the version. Otherwise a network that was never
/// usable would leave a record nobody can get rid of.
fn never_began(error: &Error) -> bool {
    let version = |said: &PluginError| said.code == PluginError::INCOMPATIBLE_VERSION;
    error.kind() == ErrorKind::PluginMissing || error.plugin().is_some_and(version)
}

/// Whether a plugin knows a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    Yes,
    No,
}

fn subject(attachment: &Attachment, netns: Option<&Path>, args: &Args) -> Subject {
    Subject {
        container: attachment.container.clone(),
        netns: netns.map(Path::to_owned),
        if_name: attachment.if_name.clone(),
        args: args.clone(),
    }
}

/// What was recorded had been read before it was written.
fn result_of(record: &Record) -> Option<AddResult> {
    record.result.as_ref().and_then(|result: &Value| AddResult::read(result).ok())
}

fn no_version(network: &NetworkName, plugin: &PluginType, answer: &Value) -> Error {
    let sentence = format!("plugin `{plugin}` speaks no version that network `{network}` is for");
    Error::new(ErrorKind::Version, sentence)
        .because(format_args!("it speaks {}", answer["supportedVersions"]))
        .hint("add one of those versions to `cniVersions` of the network")
}
