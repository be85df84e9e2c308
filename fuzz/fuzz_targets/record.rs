//! A stored value whose checksum fits: it decodes as the record that its first byte says, or not.

#![no_main]

use libfuzzer_sys::fuzz_target;
use patchferry_fuzz::{
    codec,
    record::{Assessment, DeadLetter, Finding, Observation, PatchDetail, Receipt},
};

fn sealed(body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![codec::ENVELOPE_VERSION];
    bytes.extend([0; 8]);
    bytes.extend(crc32fast::hash(body).to_le_bytes());
    bytes.extend(body);
    bytes
}

fn decoded<T: serde::Serialize + serde::de::DeserializeOwned>(bytes: &[u8]) {
    if let Ok((tag, value)) = codec::decode::<T>(bytes) {
        let _ = codec::encode(tag, &value);
    }
}

fuzz_target!(|bytes: &[u8]| {
    let Some((kind, body)) = bytes.split_first() else { return };
    let _ = codec::decode::<Vec<u8>>(body);
    let value = sealed(body);
    match kind % 6 {
        0 => decoded::<Vec<Observation>>(&value),
        1 => decoded::<Vec<Assessment>>(&value),
        2 => decoded::<Finding>(&value),
        3 => decoded::<Receipt>(&value),
        4 => decoded::<DeadLetter>(&value),
        _ => decoded::<Vec<PatchDetail>>(&value),
    }
});
