//! The bytes of a checkpoint: magic and version, checksum of the rest, size, then the zstd-compressed state.

use serde::{Serialize, de::DeserializeOwned};

/// Begins every checkpoint; the last byte is the version of the format.
const MAGIC: &[u8; 8] = b"sluicec\x02";

/// Why bytes are no checkpoint that can be used.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// Not written by this version of sluice.
    #[error("not a checkpoint of this version (begins with {0:02x?})")]
    OtherFormat(Vec<u8>),
    /// The checksum does not match: the file is damaged or cut.
    #[error("damaged: checksum {found:08x}, expected {expected:08x}")]
    Damaged {
        /// What the file says.
        expected: u32,
        /// What its content has.
        found: u32,
    },
    /// The content cannot be read or written.
    #[error("content: {0}")]
    Content(String),
}

/// Writes a state.
///
/// # Errors
/// When the state cannot be serialised.
pub fn encode_checkpoint<T: Serialize>(state: &T) -> Result<Vec<u8>, CheckpointError> {
    let content = |e: &dyn std::fmt::Display| CheckpointError::Content(e.to_string());
    let plain = postcard::to_stdvec(state).map_err(|e| content(&e))?;
    let packed = zstd::bulk::compress(&plain, 1).map_err(|e| content(&e))?;
    let sized = [&(plain.len() as u64).to_le_bytes(), &packed[..]].concat();
    Ok([&MAGIC[..], &crc32fast::hash(&sized).to_le_bytes(), &sized].concat())
}

/// Reads a state.
///
/// # Errors
/// When the bytes are of another format, damaged, or of another state.
pub fn decode_checkpoint<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CheckpointError> {
    let other = || CheckpointError::OtherFormat(bytes.iter().take(8).copied().collect());
    let rest = bytes.strip_prefix(MAGIC).ok_or_else(other)?;
    let (checksum, rest) = rest.split_first_chunk::<4>().ok_or_else(other)?;
    let (expected, found) = (u32::from_le_bytes(*checksum), crc32fast::hash(rest));
    if expected != found {
        return Err(CheckpointError::Damaged { expected, found });
    }
    let (size, packed) = rest.split_first_chunk::<8>().ok_or_else(other)?;
    let content = |e: &dyn std::fmt::Display| CheckpointError::Content(e.to_string());
    let plain = zstd::bulk::decompress(packed, u64::from_le_bytes(*size) as usize).map_err(|e| content(&e))?;
    postcard::from_bytes(&plain).map_err(|e| content(&e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_damage_is_seen() {
        let state = ("state".to_owned(), vec![1_u64, 2, 3]);
        let bytes = encode_checkpoint(&state).unwrap();
        assert_eq!(decode_checkpoint::<(String, Vec<u64>)>(&bytes).unwrap(), state);
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x10;
            assert!(decode_checkpoint::<(String, Vec<u64>)>(&damaged).is_err(), "byte {at}");
            assert!(decode_checkpoint::<(String, Vec<u64>)>(&bytes[..at]).is_err(), "cut at {at}");
        }
    }
}
