//! All bytes that are written of State: commands here, snapshots from `snapshot`, both in the frames of `store`; and
//! what nodes say to each other of a command: the command alone, and why it was refused.

use serde::de::DeserializeOwned;

use super::{command::Command, stamp::Stamped};
use crate::state::{
    base::rejection::Rejection,
    store::frame::{FrameKind, frame, unframe},
};

pub use super::snapshot::{decode_snapshot, encode_snapshot};
pub use crate::state::store::frame::{
    CodecError, FORMAT, HEADER, LEVEL, MAGIC, MAX_COMMAND, MAX_ROW, READS, encode_plain, highest_level,
};

/// Bytes of a command.
pub fn encode_command(command: &Stamped) -> Result<Vec<u8>, CodecError> {
    frame(FrameKind::Command, command.body.level(), command)
}

/// A command from its bytes.
pub fn decode_command(bytes: &[u8]) -> Result<Stamped, CodecError> {
    whole(FrameKind::Command, bytes)
}

/// Bytes of a command that no leader has stamped yet.
pub fn encode_body(body: &Command) -> Result<Vec<u8>, CodecError> {
    frame(FrameKind::Body, body.level(), body)
}

/// A command without its stamp from its bytes.
pub fn decode_body(bytes: &[u8]) -> Result<Command, CodecError> {
    whole(FrameKind::Body, bytes)
}

/// Bytes of a refusal.
pub fn encode_refusal(refusal: &Rejection) -> Result<Vec<u8>, CodecError> {
    frame(FrameKind::Refusal, 1, refusal)
}

/// A refusal from its bytes.
pub fn decode_refusal(bytes: &[u8]) -> Result<Rejection, CodecError> {
    whole(FrameKind::Refusal, bytes)
}

/// What the one frame holds.
fn whole<T: DeserializeOwned>(kind: FrameKind, bytes: &[u8]) -> Result<T, CodecError> {
    let (value, used) = unframe(kind, bytes)?;
    if used == bytes.len() {
        Ok(value)
    } else {
        Err(CodecError::Payload(format!("{} bytes after the frame", bytes.len().saturating_sub(used))))
    }
}
