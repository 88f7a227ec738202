//! `pod ps --filter KEY=VALUE`: which pods are listed.
//!
//! As docker has it: of one key, one value must fit - of labels all -, and every key must.

use images::Reference;
use pod_abi::phase::Phase;

use super::Row;
use crate::error::{CommandError, Result};

/// What a row must be.
#[derive(Debug, Default)]
pub(super) struct Filters(Vec<(Key, String)>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Key {
    Id,
    Name,
    Status,
    Label,
    App,
    Image,
    Exited,
    Stage1,
}

const KEYS: [(&str, Key); 10] = [
    ("id", Key::Id),
    ("name", Key::Name),
    ("status", Key::Status),
    ("phase", Key::Status),
    ("label", Key::Label),
    ("app", Key::App),
    ("image", Key::Image),
    ("ancestor", Key::Image), // docker's word
    ("exited", Key::Exited),
    ("stage1", Key::Stage1),
];

/// The words of `status`; docker's `created` is our `prepared`.
const PHASES: [(&str, Phase); 8] = [
    ("embryo", Phase::Embryo),
    ("preparing", Phase::Preparing),
    ("prepare-failed", Phase::PrepareFailed),
    ("prepared", Phase::Prepared),
    ("created", Phase::Prepared),
    ("running", Phase::Running),
    ("exited", Phase::Exited),
    ("garbage", Phase::Garbage),
];

/// What a running pod is beside: one that is paused runs, too.
const PAUSED: &str = "paused";

impl Filters {
    /// Reads the filters of a line.
    ///
    /// # Errors
    ///
    /// A usage error that names the word.
    pub(super) fn read(words: &[String]) -> Result<Self> {
        words.iter().map(|word| read(word)).collect::<Result<_>>().map(Self)
    }

    /// Tells whether pods that do not run are asked for by these words.
    pub(super) fn look_beyond_running(&self) -> bool {
        self.0.iter().any(|(key, _)| matches!(key, Key::Status | Key::Exited))
    }

    /// Tells whether `row` is to be listed.
    pub(super) fn fit(&self, row: &Row) -> bool {
        self.0.iter().all(|(key, value)| {
            if *key == Key::Label {
                return fits(*key, value, row);
            }
            self.0.iter().any(|(other, value)| other == key && fits(*key, value, row))
        })
    }
}

fn read(word: &str) -> Result<(Key, String)> {
    let refused = |why: String, known: &str| {
        CommandError::usage(why).hint(format!("`--filter` takes {known}"))
    };
    let keys = || KEYS.map(|(key, _)| format!("`{key}=…`")).join(", ");
    let Some((key, value)) = word.split_once('=') else {
        return Err(refused(format!("`{word}` is no filter: it takes KEY=VALUE"), &keys()));
    };
    let Some((_, key)) = KEYS.iter().find(|(known, _)| *known == key) else {
        return Err(refused(format!("`{key}` is no key of a filter"), &keys()));
    };
    match key {
        Key::Status if value != PAUSED && !PHASES.iter().any(|(known, _)| *known == value) => {
            let phases = PHASES.map(|(phase, _)| format!("`{phase}`")).join(", ");
            let known = format!("status {phases}, `{PAUSED}`");
            Err(refused(format!("`{value}` is no status of a pod"), &known))
        }
        Key::Exited if value.parse::<u8>().is_err() => {
            Err(refused(format!("`{value}` is no exit status"), "`exited=0` to `exited=255`"))
        }
        _ => Ok((*key, value.to_owned())),
    }
}

fn fits(key: Key, value: &str, row: &Row) -> bool {
    match key {
        Key::Id => row.uuid.as_str().starts_with(value),
        Key::Name => row.name.as_ref().is_some_and(|name| name.as_str().contains(value)),
        Key::Status if value == PAUSED => row.paused,
        Key::Status => PHASES.iter().any(|(word, phase)| *word == value && *phase == row.phase),
        Key::Label => row.all_labels.iter().any(|(name, given)| match value.split_once('=') {
            Some((wanted, wanted_value)) => name == wanted && given == wanted_value,
            None => name == value,
        }),
        Key::App => row.apps.iter().any(|app| app.as_str() == value),
        Key::Image => row.images.iter().any(|image| is_image(image, value)),
        Key::Exited => {
            row.phase == Phase::Exited && row.code.is_some_and(|code| code.to_string() == value)
        }
        Key::Stage1 => row.stage1.as_deref() == Some(value),
    }
}

/// Tells whether `word` means the image of `reference`: the whole reference, however it is
/// written, its repository, or the end of either: a short name, whichever registry it was meant of.
fn is_image(reference: &str, word: &str) -> bool {
    let same = Reference::parse(word).is_ok_and(|parsed| parsed.to_string() == reference);
    let repository = reference.split('@').next().unwrap_or(reference);
    let repository = match repository.rsplit_once(':') {
        Some((before, tag)) if !tag.contains('/') => before,
        _ => repository,
    };
    let ends =
        repository.strip_suffix(word).is_some_and(|rest| rest.is_empty() || rest.ends_with('/'));
    let whole = reference.strip_suffix(word).is_some_and(|rest| rest.ends_with('/'));
    same || reference == word || ends || whole
}

#[cfg(test)]
mod tests {
    use super::*;
    use pod_abi::{AppName, PodId, PodName};

    fn row() -> Row {
        Row {
            uuid: PodId::parse("0123abcd-0000-4000-8000-000000000000").unwrap(),
            name: Some(PodName::parse("shop").unwrap()),
            phase: Phase::Exited,
            apps: vec![AppName::parse("web").unwrap()],
            images: vec!["docker.io/library/redis:7".to_owned()],
            stage1: Some("ns".to_owned()),
            created: None,
            started: None,
            ready: None,
            ended: None,
            code: Some(3),
            addresses: Vec::new(),
            ports: Vec::new(),
            labels: [].into(),
            insecure: [].into(),
            paused: false,
            error: None,
            host_restarted: false,
            all_labels: vec![("tier".to_owned(), "1".to_owned()), ("a".to_owned(), String::new())],
        }
    }

    #[test]
    fn every_key_must_fit_and_of_its_values_one() {
        let table = [
            ("", true),
            ("id=0123", true),
            ("id=123", false),
            ("name=ho", true),
            ("status=exited", true),
            ("status=created", false),
            ("status=paused", false),
            ("status=running status=exited", true),
            ("label=tier", true),
            ("label=tier=1 label=a", true),
            ("label=tier=1 label=b", false),
            ("app=web", true),
            ("app=we", false),
            ("image=redis", true),
            ("image=redis:7", true),
            ("image=library/redis", true),
            ("image=docker.io/library/redis:7", true),
            ("image=dis", false),
            ("image=redis:8", false),
            ("exited=3", true),
            ("exited=0 exited=3", true),
            ("exited=3 name=other", false),
            ("stage1=ns", true),
            ("stage1=kvm", false),
        ];
        for (words, expected) in table {
            let words: Vec<String> =
                words.split(' ').filter(|word| !word.is_empty()).map(str::to_owned).collect();
            assert_eq!(Filters::read(&words).unwrap().fit(&row()), expected, "{words:?}");
        }
    }

    #[test]
    fn what_is_no_filter_is_refused() {
        for word in ["name", "size=1", "status=dead", "exited=256", "exited=x"] {
            assert!(Filters::read(&[word.to_owned()]).is_err(), "{word}");
        }
    }
}
