//! `--volume` and `--tmpfs`: what an app is to mount.

use pod_abi::{PodPath, VolumeName};

use crate::error::{CommandError, Result};

/// Something an app is to mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MountRequest {
    pub(crate) source: MountFrom,
    pub(crate) destination: PodPath,
    pub(crate) read_only: bool,
}

/// What an app is to mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum MountFrom {
    /// A path of the host, absolute.
    Host(String),
    /// A volume that outlives pods.
    Named(VolumeName),
    /// Memory, of at most so many bytes.
    Tmpfs(Option<u64>),
}

/// Reads `SRC:DST[:ro|rw]`.
///
/// # Errors
///
/// A usage error that names the word.
pub(super) fn read_volume(word: &str) -> Result<MountRequest> {
    let refused = || {
        CommandError::usage(format!("`{word}` is no volume: it takes SRC:DST[:ro|rw]"))
            .hint("SRC is an absolute path of this host, or the name of a volume")
    };
    let parts: Vec<&str> = word.split(':').collect();
    let (source, destination, read_only) = match parts[..] {
        [source, destination] | [source, destination, "rw"] => (source, destination, false),
        [source, destination, "ro"] => (source, destination, true),
        _ => return Err(refused()),
    };
    let source = if source.starts_with('/') {
        MountFrom::Host(source.to_owned())
    } else {
        MountFrom::Named(VolumeName::parse(source).map_err(|_| refused())?)
    };
    Ok(MountRequest {
        source,
        destination: PodPath::parse(destination)
            .map_err(|error| CommandError::usage(error.to_string()))?,
        read_only,
    })
}

/// Reads `DST[:size=BYTES]`.
///
/// # Errors
///
/// A usage error that names the word.
pub(super) fn read_tmpfs(word: &str) -> Result<MountRequest> {
    let refused =
        || CommandError::usage(format!("`{word}` is no tmpfs: it takes DST[:size=BYTES]"));
    let (destination, size) = match word.split_once(':') {
        None => (word, None),
        Some((destination, option)) => {
            let size = option.strip_prefix("size=").and_then(read_size).ok_or_else(refused)?;
            (destination, Some(size))
        }
    };
    let source = MountFrom::Tmpfs(size);
    Ok(MountRequest {
        source,
        destination: PodPath::parse(destination)
            .map_err(|error| CommandError::usage(error.to_string()))?,
        read_only: false,
    })
}

/// Reads a number of bytes, with `k`, `m` or `g` for powers of 1024.
fn read_size(word: &str) -> Option<u64> {
    let (digits, shift) = match word.char_indices().last()? {
        (at, 'k' | 'K') => (&word[..at], 10),
        (at, 'm' | 'M') => (&word[..at], 20),
        (at, 'g' | 'G') => (&word[..at], 30),
        _ => (word, 0),
    };
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse::<u64>().ok()?.checked_mul(1 << shift).filter(|size| *size > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units_and_bounds() {
        let table = [
            ("64", Some(64)),
            ("64k", Some(65_536)),
            ("1G", Some(1 << 30)),
            ("0", None),
            ("", None),
            ("m", None),
            ("+1", None),
            ("99999999999999999999", None),
            ("99999999999999999g", None),
        ];
        for (word, expected) in table {
            assert_eq!(read_size(word), expected, "{word}");
        }
    }
}
