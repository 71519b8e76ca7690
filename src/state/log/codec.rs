//! All bytes that are written of State: commands here, snapshots from `snapshot`, both in the frames of `store`.

use super::stamp::Stamped;
use crate::state::store::frame::{Kind, frame, unframe};

pub use super::snapshot::{decode_snapshot, encode_snapshot};
pub use crate::state::store::frame::{
    CodecError, FORMAT, HEADER, LEVEL, MAGIC, MAX_COMMAND, MAX_ROW, READS, encode_plain, highest_level,
};

/// Bytes of a command.
pub fn encode_command(command: &Stamped) -> Result<Vec<u8>, CodecError> {
    frame(Kind::Command, command.body.level(), command)
}

/// A command from its bytes.
pub fn decode_command(bytes: &[u8]) -> Result<Stamped, CodecError> {
    let (command, used) = unframe(Kind::Command, bytes)?;
    if used == bytes.len() {
        Ok(command)
    } else {
        Err(CodecError::Payload(format!("{} bytes after the frame", bytes.len().saturating_sub(used))))
    }
}
