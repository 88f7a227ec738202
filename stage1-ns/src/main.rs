//! A program of `pod`.

fn main() {}
