//! Names of streams and other bytes nobody can guess.

use pod_abi::guest::Token;
use rustix::rand::{GetRandomFlags, getrandom};
use supervisor::{During, Failure};

/// Makes a name nobody knows.
pub(crate) fn new() -> Result<Token, Failure> {
    Ok(Token(random()?))
}

/// Returns bytes nobody knows (`getrandom(2)`).
pub(crate) fn random<const LENGTH: usize>() -> Result<[u8; LENGTH], Failure> {
    let mut bytes = [0; LENGTH];
    let mut filled = 0;
    while filled < LENGTH {
        match getrandom(&mut bytes[filled..], GetRandomFlags::empty()) {
            Ok(count) => filled += count,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error).during(|| "cannot get random bytes, getrandom()"),
        }
    }
    Ok(bytes)
}

/// Writes bytes as hexadecimal digits.
pub(crate) fn digits(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |value: u8| char::from(DIGITS[usize::from(value & 15)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(*byte)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_differ_and_digits_are_read_back() {
        let (one, other) = (new().unwrap(), new().unwrap());
        assert_ne!(one, other);
        assert_eq!(Token::parse(&digits(&one.0)), Some(one));
    }
}
