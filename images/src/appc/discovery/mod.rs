//! Finding an image by its name, as appc says: the pages of the name's host tell where it lies.
//!
//! ```text
//! word ─▶ AppcName ─▶ places ─▶ (page, fetched elsewhere) ─▶ Said ─▶ endpoints: URL of the image,
//!                                                                      and of its signature
//! ```
//!
//! Pages are hostile: their tags and what those say are bounded, and a template only counts if the
//! address it gives is one that may be asked. Pure: fetching is `pull/discover.rs`. Keys that a page
//! names are told to people and never taken.
//!
//! Source: appc spec 0.8.11, `spec/discovery.md`.

mod meta;
mod places;
mod said;
mod template;
mod wanted;

pub(crate) use meta::MAX_PAGE;
pub(crate) use places::places;
pub(crate) use said::{Endpoint, Said};
pub(crate) use template::PlainHttp;
pub use wanted::{AppcName, AppcNameError};
