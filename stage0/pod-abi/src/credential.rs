//! What an app is given by name from outside: secrets, and sockets that a service manager holds.
//!
//! Only names and origins stand in documents. Contents and sockets themselves cross between
//! programs as descriptors and are never written down.

use serde::{Deserialize, Serialize};

use crate::word::word;

/// The most bytes all credentials of a pod may hold together; systemd's limit for a unit.
pub const MAX_CREDENTIAL_BYTES: u64 = 1 << 20;
/// The most credentials of a pod.
pub const MAX_CREDENTIALS: usize = 256;
/// The most credentials of an app that comes to a living pod: they cross beside one frame, which
/// the kernel lets carry 253 descriptors.
pub const MAX_ADDED_CREDENTIALS: usize = 100;
/// The most sockets a pod may be handed.
pub const MAX_SOCKETS: usize = 128;
/// The most sockets all apps of a pod may be given together, those counted twice that two apps
/// take: PID 1 keeps them all, beside what it needs for each app, within the usual 1024.
pub const MAX_SOCKETS_GIVEN: usize = 512;

/// Where an app finds its credentials: what `systemd` calls the directory of a container's own
/// (its Container Interface), so that one that is the init of an image passes them on.
pub const CREDENTIALS_DIRECTORY: &str = "/run/host/credentials";
/// The variable that tells an app so (`systemd.exec(5)`).
pub const CREDENTIALS_VARIABLE: &str = "CREDENTIALS_DIRECTORY";

/// Why a word is no name of a credential or of a socket.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{word}` is no name of a {what}: it takes 1 to 255 printable ASCII characters but `/` and `:`, and neither `.` nor `..`"
)]
pub struct HandedNameError {
    what: &'static str,
    word: String,
}

/// Tells whether a word is a file name without colons, as systemd wants such names
/// (`systemd.exec(5)`, `systemd.socket(5)`).
fn is_handed_name(word: &str) -> bool {
    let plain = |byte: u8| (b'!'..=b'~').contains(&byte) && byte != b'/' && byte != b':';
    (1..=255).contains(&word.len()) && word.bytes().all(plain) && word != "." && word != ".."
}

word! {
    /// The name of a credential (`systemd.exec(5)`, `LoadCredential=`).
    CredentialName, "credential", is_handed_name, HandedNameError
}

word! {
    /// The name of a socket (`systemd.socket(5)`, `FileDescriptorName=`).
    SocketName, "socket", is_handed_name, HandedNameError
}

/// Returns which of the sockets `handed` over an app is given that asks for `wanted`, in the order
/// of its descriptors: for each name all that bear it.
#[must_use]
pub fn taken(wanted: &[SocketName], handed: &[SocketName]) -> Vec<usize> {
    let places = |name: &SocketName| -> Vec<usize> {
        (0..handed.len()).filter(|at| handed[*at] == *name).collect()
    };
    wanted.iter().flat_map(places).collect()
}

/// A secret an app finds as a file in `$CREDENTIALS_DIRECTORY`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Credential {
    /// What the app calls it.
    pub name: CredentialName,
    /// The absolute path on the host it is read from at every start; without one it is what the
    /// service manager holds under this name: one of the unit's own credentials, or one of the
    /// host's credential stores.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_app_is_given_all_sockets_of_each_name_in_its_own_order() {
        let names = |words: &str| -> Vec<SocketName> {
            words.split_whitespace().map(|word| SocketName::parse(word).unwrap()).collect()
        };
        let handed = names("http admin http https");
        assert_eq!(taken(&names("https http"), &handed), [3, 0, 2]);
        assert_eq!(taken(&names("admin"), &handed), [1]);
        assert!(taken(&names("none"), &handed).is_empty() && taken(&[], &handed).is_empty());
    }

    #[test]
    fn names_are_file_names_without_colons() {
        for good in ["a", "db.password", "TLS_key@2", "-x"] {
            assert!(CredentialName::parse(good).is_ok() && SocketName::parse(good).is_ok());
        }
        let long = "a".repeat(256);
        for bad in ["", ".", "..", "a/b", "a:b", "a b", "\u{e4}", "a\n", &long] {
            assert!(CredentialName::parse(bad).is_err(), "{bad:?}");
        }
    }
}
