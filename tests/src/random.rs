//! Moments and choices of campaigns: seeded, so that a bad one can be tried again.

use std::env;

/// The variable that asks for another seed.
pub const SEED: &str = "POD_TESTS_SEED";
/// The seed of a campaign unless another is asked for.
const USUAL: u64 = 0x706f_6400;

/// A small generator of pseudo-random numbers (PCG's linear step with a shift): what it chooses
/// must be spread, not unpredictable.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// Begins where `$POD_TESTS_SEED` says, else always at the same place.
    #[must_use]
    pub fn of_the_environment() -> Self {
        let asked = env::var(SEED).ok().and_then(|seed| seed.parse().ok());
        Self(asked.unwrap_or(USUAL))
    }

    /// Begins always at the same place.
    #[must_use]
    pub fn fixed() -> Self {
        Self(USUAL)
    }

    /// Returns a number below `bound`, which is not 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }

    /// Returns one of `choices`, of which there must be some.
    pub fn one_of<'c, T>(&mut self, choices: &'c [T]) -> &'c T {
        let count = u64::try_from(choices.len()).unwrap_or(1);
        &choices[usize::try_from(self.below(count)).unwrap_or(0)]
    }
}
