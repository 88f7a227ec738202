//! Docker's measures of shares, in those of cgroup v2.
//!
//! They come in from command lines and from OCI's `config.json`; both mean the same by them.

/// Converts a share of processors as runc does since 1.3.2 and crun since 1.23: a curve through
/// 2 → 1, 1024 → 100 and 262144 → 10000, so that everybody's share stays everybody's.
pub(crate) fn of_cpu_shares(shares: u64) -> u32 {
    let shares = u32::try_from(shares.clamp(2, 262_144)).unwrap_or(262_144);
    let log = f64::from(shares).log2();
    let exponent = (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0;
    // A hair above a whole number is that number.
    let weight = (10_f64.powf(exponent) - 1e-6).ceil().clamp(1.0, 10_000.0);
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped above")]
    let weight = weight as u32;
    weight
}

/// Converts a share of block devices as runc does: a line from 10 → 1 to 1000 → 10000.
pub(crate) fn of_blkio_weight(weight: u64) -> u32 {
    let above = weight.clamp(10, 1_000) - 10;
    u32::try_from(1 + above * 9_999 / 990).unwrap_or(10_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The three points the curve is made for, and two between them, rounded up.
    #[test]
    fn dockers_shares_become_the_weight_others_give_them() {
        let shares = [(2, 1), (512, 59), (1024, 100), (2048, 174), (262_144, 10_000)];
        for (shares, weight) in shares.into_iter().chain([(0, 1), (u64::MAX, 10_000)]) {
            assert_eq!(of_cpu_shares(shares), weight, "{shares}");
        }
        for (blkio, weight) in [(10, 1), (500, 4950), (1000, 10_000), (0, 1)] {
            assert_eq!(of_blkio_weight(blkio), weight, "{blkio}");
        }
    }
}
