//! Volumes: what apps of a pod can mount by name.

use serde::{Deserialize, Serialize};

use crate::fields::is_default;
use crate::name::{AppName, VolumeName};
use crate::path::PodPath;

/// Something apps of a pod can mount by name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Volume {
    /// Its name in this pod.
    pub name: VolumeName,
    /// Where its content is.
    pub source: VolumeSource,
    /// What it is filled with while it is empty. Since version 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fill: Option<Fill>,
}

/// Where the content of a volume is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum VolumeSource {
    /// A file, directory or device of the host.
    Host {
        /// Its absolute path on the host.
        path: String,
        /// Whether mounts beneath it are left out. Since version 2.
        #[serde(default, skip_serializing_if = "is_default")]
        without_submounts: bool,
    },
    /// A directory made for this pod, which goes when the pod is removed.
    Empty {
        /// Its permission bits.
        mode: u32,
        /// Its owner. Since version 2.
        #[serde(default, skip_serializing_if = "is_default")]
        uid: u32,
        /// Its group. Since version 2.
        #[serde(default, skip_serializing_if = "is_default")]
        gid: u32,
    },
    /// A file system in memory that the pod's apps share and that goes with every end of the pod.
    /// Since version 2.
    Tmpfs {
        /// The most it holds, in bytes; half of the memory if not given, as the kernel says.
        #[serde(default)]
        size: Option<u64>,
        /// The permission bits of its root.
        mode: u32,
    },
}

/// What an empty volume is filled with, as docker does: the content of a directory of an image,
/// with its owners, modes and attributes; the volume's own directory gets those of the image's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Fill {
    /// The app whose image it is.
    pub app: AppName,
    /// The directory in that image. One that is not there leaves the volume empty.
    pub path: PodPath,
}
