//! How many tests passed and failed, read out of what test programs say.

/// What test programs counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Count {
    pub(crate) passed: u32,
    pub(crate) failed: u32,
    /// Not run, although they could have been.
    pub(crate) ignored: u32,
}

impl Count {
    /// One that failed: what is no test of its own, but must be right.
    pub(crate) const FAILED: Self = Self { passed: 0, failed: 1, ignored: 0 };
    /// One that passed.
    pub(crate) const PASSED: Self = Self { passed: 1, failed: 0, ignored: 0 };

    /// Adds both up.
    pub(crate) fn plus(self, other: Self) -> Self {
        Self {
            passed: self.passed + other.passed,
            failed: self.failed + other.failed,
            ignored: self.ignored + other.ignored,
        }
    }

    /// Reads the counts out of a line such as `test result: ok. 3 passed; 0 failed; 0 ignored; …`.
    pub(crate) fn of_line(line: &str) -> Self {
        let Some(result) = line.strip_prefix("test result: ") else { return Self::default() };
        let number = |word: &str| {
            let part = result.split([';', '.']).find(|part| part.trim_end().ends_with(word));
            part.and_then(|part| part.split_whitespace().next()?.parse().ok()).unwrap_or(0)
        };
        Self { passed: number(" passed"), failed: number(" failed"), ignored: number(" ignored") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_of_cargo_test_are_counted() {
        let line =
            "test result: FAILED. 12 passed; 3 failed; 1 ignored; 0 measured; 1 filtered out";
        assert_eq!(Count::of_line(line), Count { passed: 12, failed: 3, ignored: 1 });
        assert_eq!(Count::of_line("running 3 tests"), Count::default());
    }
}
