//! A distribution's kernel made ready for guests.

#![forbid(unsafe_code)]
