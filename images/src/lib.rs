//! A library of `pod`.
