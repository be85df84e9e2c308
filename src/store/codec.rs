//! Values: an envelope that is checked, around bincode that is trusted.
//!
//! | bytes | what |
//! |---|---|
//! | 1 | envelope version, [`ENVELOPE_VERSION`] |
//! | 8 | tag, little endian: what must be known without decoding the body (a page's item count, a finding's revision) |
//! | 4 | CRC-32 of the body, little endian |
//! | … | body: bincode 2, standard configuration |
//!
//! The tag is outside the checksum on purpose: an undecodable page still counts.

use serde::{Serialize, de::DeserializeOwned};

use super::VALUE_BYTES_MAX;

pub const ENVELOPE_VERSION: u8 = 1;
pub const HEADER_BYTES: usize = 13;

/// Why a value can't be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("the value has {0} bytes, fewer than its header")]
    Truncated(usize),
    #[error("the value's envelope version is {0}, this patchferry knows {ENVELOPE_VERSION}")]
    UnknownVersion(u8),
    #[error("the value's checksum doesn't match its body")]
    Checksum,
    #[error("the value's body doesn't decode: {0}")]
    Body(String),
}

/// bincode's limit counts each number at its full width, not at the one byte that a small one
/// takes in a value; the widest has 16. A value itself is at most [`VALUE_BYTES_MAX`] long.
const DECODED_BYTES_MAX: usize = 16 * VALUE_BYTES_MAX;

const CONFIG: bincode::config::Configuration<
    bincode::config::LittleEndian,
    bincode::config::Varint,
    bincode::config::Limit<DECODED_BYTES_MAX>,
> = bincode::config::standard().with_limit::<DECODED_BYTES_MAX>();

/// Bytes that `body` takes when encoded, without the envelope.
#[must_use]
pub fn body_bytes<T: Serialize>(body: &T) -> usize {
    encode_body(body).len()
}

/// Encodes without an envelope: for digests and size estimates.
#[must_use]
pub fn encode_body<T: Serialize>(body: &T) -> Vec<u8> {
    bincode::serde::encode_to_vec(body, bincode::config::standard())
        .expect("records are plain data, which bincode encodes without fail")
}

#[must_use]
pub fn encode<T: Serialize>(tag: u64, body: &T) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(512);
    bytes.push(ENVELOPE_VERSION);
    bytes.extend(tag.to_le_bytes());
    bytes.extend([0; 4]);
    bincode::serde::encode_into_std_write(body, &mut bytes, bincode::config::standard())
        .expect("records are plain data, which bincode encodes without fail");
    let crc = crc32fast::hash(&bytes[HEADER_BYTES..]);
    bytes[9..HEADER_BYTES].copy_from_slice(&crc.to_le_bytes());
    bytes
}

/// The tag, readable even if the body is not.
pub fn tag(bytes: &[u8]) -> Result<u64, DecodeError> {
    let header = bytes.get(..HEADER_BYTES).ok_or(DecodeError::Truncated(bytes.len()))?;
    if header[0] != ENVELOPE_VERSION {
        return Err(DecodeError::UnknownVersion(header[0]));
    }
    let tag = header[1..9].try_into().expect("eight of the header's thirteen bytes");
    Ok(u64::from_le_bytes(tag))
}

pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<(u64, T), DecodeError> {
    let (tag, value, rest) = decode_beginning(bytes)?;
    if !rest.is_empty() {
        return Err(DecodeError::Body(format!("{} bytes are left over", rest.len())));
    }
    Ok((tag, value))
}

/// A value whose body begins as `T` does: its tag, that beginning, and the bytes that follow it.
/// For migrations, which change a beginning and keep the rest as it is.
pub fn decode_beginning<T: DeserializeOwned>(bytes: &[u8]) -> Result<(u64, T, &[u8]), DecodeError> {
    let tag = tag(bytes)?;
    let body = &bytes[HEADER_BYTES..];
    let crc = bytes[9..HEADER_BYTES].try_into().expect("four of the header's thirteen bytes");
    if crc32fast::hash(body) != u32::from_le_bytes(crc) {
        return Err(DecodeError::Checksum);
    }
    let (value, read) = bincode::serde::decode_from_slice(body, CONFIG)
        .map_err(|error| DecodeError::Body(error.to_string()))?;
    Ok((tag, value, &body[read..]))
}

/// A value whose body is `beginning`, encoded, and then `rest`, which is so already.
#[must_use]
pub fn encode_beginning<T: Serialize>(tag: u64, beginning: &T, rest: &[u8]) -> Vec<u8> {
    let mut bytes = encode(tag, beginning);
    bytes.extend(rest);
    let crc = crc32fast::hash(&bytes[HEADER_BYTES..]);
    bytes[9..HEADER_BYTES].copy_from_slice(&crc.to_le_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Sample = (String, Option<u64>, Vec<i32>);

    #[test]
    fn a_value_of_the_greatest_length_is_decoded_however_small_its_numbers() {
        let numbers = vec![0_u128; VALUE_BYTES_MAX - 64];
        let bytes = encode(1, &numbers);
        assert!(bytes.len() <= VALUE_BYTES_MAX);
        assert_eq!(decode(&bytes), Ok((1, numbers)));
    }

    proptest! {
        #[test]
        fn a_beginning_can_be_changed_and_the_rest_kept(tag in any::<u64>(), first in any::<(u64, Option<i64>)>(), rest in any::<Sample>()) {
            let bytes = encode(tag, &(first, &rest));
            let (read_tag, beginning, kept) = decode_beginning::<(u64, Option<i64>)>(&bytes).unwrap();
            prop_assert_eq!((read_tag, beginning), (tag, first));
            let changed = encode_beginning(tag, &(beginning, 7_u32), kept);
            prop_assert_eq!(changed, encode(tag, &(first, 7_u32, &rest)));
        }

        #[test]
        fn what_is_encoded_is_decoded(tag in any::<u64>(), body in any::<Sample>()) {
            prop_assert_eq!(decode::<Sample>(&encode(tag, &body)), Ok((tag, body)));
        }

        #[test]
        fn a_flipped_bit_in_the_body_is_noticed(body in any::<Sample>(), at in any::<prop::sample::Index>(), bit in 0..8u8) {
            let mut bytes = encode(7, &body);
            let at = HEADER_BYTES + at.index(bytes.len() - HEADER_BYTES);
            bytes[at] ^= 1 << bit;
            prop_assert_eq!(decode::<Sample>(&bytes), Err(DecodeError::Checksum));
        }

        #[test]
        fn no_bytes_make_decoding_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode::<Sample>(&bytes);
        }

        #[test]
        fn no_body_with_a_valid_checksum_makes_decoding_panic(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut bytes = vec![ENVELOPE_VERSION];
            bytes.extend([0; 8]);
            bytes.extend(crc32fast::hash(&body).to_le_bytes());
            bytes.extend(body);
            let _ = decode::<Sample>(&bytes);
        }
    }
}
