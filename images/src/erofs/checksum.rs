//! CRC-32C, the checksum of a superblock: for 3 KiB once per image, so a table of a byte will do.
//!
//! Source: RFC 3720 appendix B.4, without the final inversion, as the kernel's `crc32c()`.

/// The polynomial 0x1EDC6F41, its bits reversed.
const POLYNOMIAL: u32 = 0x82f6_3b78;

const TABLE: [u32; 256] = table();

const fn table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut at = 0_u32;
    while at < 256 {
        let mut value = at;
        let mut bit = 0;
        while bit < 8 {
            value = if value & 1 == 1 { value >> 1 ^ POLYNOMIAL } else { value >> 1 };
            bit += 1;
        }
        table[at as usize] = value;
        at += 1;
    }
    table
}

/// Continues the checksum `seed` with `bytes`.
pub(super) fn crc32c(seed: u32, bytes: &[u8]) -> u32 {
    bytes.iter().fold(seed, |sum, byte| {
        let [low, ..] = (sum ^ u32::from(*byte)).to_le_bytes();
        sum >> 8 ^ TABLE[usize::from(low)]
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_checksum_of_the_standard() {
        // The check value of CRC-32C, and B.4's 32 bytes of zeros; both with the final inversion.
        assert_eq!(!crc32c(!0, b"123456789"), 0xe306_9283);
        assert_eq!(!crc32c(!0, &[0; 32]), 0x8a91_36aa);
    }
}
