//! No bytes of a client or a resolver make the server panic, or say more than it should.

#![allow(clippy::unwrap_used, reason = "test code outside of `#[test]`")]

mod body;

use proptest::collection::vec;
use proptest::prelude::*;

/// A message that is nearly one: a header, a question, perhaps EDNS.
fn nearly() -> impl Strategy<Value = Vec<u8>> {
    let label = prop_oneof![Just(b"shop".to_vec()), Just(b"pod".to_vec()), vec(any::<u8>(), 1..70)];
    let kind = prop_oneof![Just(1_u16), Just(28), Just(12), Just(255), any::<u16>()];
    let tail = vec(any::<u8>(), 0..40);
    (any::<u8>(), vec(label, 0..6), kind, 0_u8..3, tail).prop_map(
        |(asker, labels, kind, more, tail)| {
            let mut bytes = vec![asker, 1, 2, 1, 0, 0, 1, 0, 0, 0, 0, 0, more];
            for label in labels {
                bytes.push(u8::try_from(label.len()).unwrap());
                bytes.extend(label);
            }
            bytes.push(0);
            bytes.extend(kind.to_be_bytes());
            bytes.extend([0, 1]);
            if more > 0 {
                bytes.extend([0, 0, 41, 16, 0, 0, 0, 0, 0, 0, 0]);
            }
            bytes.extend(tail);
            bytes
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_bytes_are_borne(bytes in vec(any::<u8>(), 0..300)) {
        body::body(&bytes);
    }

    #[test]
    fn what_is_nearly_a_question_is_borne(bytes in nearly()) {
        body::body(&bytes);
    }

    #[test]
    fn an_echo_of_a_question_is_borne(bytes in nearly(), more in vec(any::<u8>(), 0..2000)) {
        let mut echo = bytes[1..].to_vec();
        echo[2] |= 0x80;
        body::body(&[&bytes[..], &[0xff], &echo, &more].concat());
    }
}
