//! Trees of files as tar archives: how `pod cp` carries files into an app and out of it.
//!
//! Both ends of a copy use this: the one that packs may be raced by whoever owns the files, the one
//! that unpacks may be fed by whoever it does not trust (CVE-2018-15664, CVE-2019-14271 and their
//! kin). So nothing here resolves a path of more than one component but beneath a descriptor, no
//! program and no library of an app takes part, and everything that comes out of an archive is
//! checked and bounded. It knows neither pods nor layers: an image's archive has rules of its own.

#![forbid(unsafe_code)]

mod error;
mod names;
mod pack;
mod place;
mod read;
mod unpack;

pub use error::Error;
pub use pack::{Owner, Source, pack};
pub use place::Links;
pub use unpack::{Owned, Privileges, Top, Unpacking, unpack};
