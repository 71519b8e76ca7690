//! Frames around the bytes of commands and snapshots, and the encoding of single values, which is bincode and named
//! nowhere else.
//!
//! Frame: magic `SLPW`, kind (1 byte), format (1), feature level (2), payload length (4), crc32c of all of it but
//! itself (4); all little-endian. Lengths are capped before anything is allocated; an unknown kind, format or level is
//! refused with its number. Golden files hold the bytes (`tests/golden/codec/`).

use serde::{Serialize, de::DeserializeOwned};
use thiserror::Error;

/// First bytes of every frame.
pub const MAGIC: [u8; 4] = *b"SLPW";

/// Frame format written.
pub const FORMAT: u8 = 1;

/// The newest feature level: what a new cluster begins with, and what this program writes at most.
pub const LEVEL: u16 = 1;

/// The highest feature level this program reads. A debug build knows one more than there is, so that tests can play an
/// upgrade on real programs (`--max-feature-level`) and on State (`LevelProbe`); nothing but that probe belongs to it.
pub const READS: u16 = if cfg!(debug_assertions) { LEVEL + 1 } else { LEVEL };

/// Bytes before the payload.
pub const HEADER: usize = 16;

/// Largest command.
pub const MAX_COMMAND: usize = 1024 * 1024;

/// Largest row of a snapshot.
pub const MAX_ROW: usize = 4 * 1024 * 1024;

/// What a frame holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameKind {
    /// A stamped command.
    Command,
    /// A row of a snapshot.
    Row,
    /// A command without its stamp, from node to node.
    Body,
    /// Why a command was refused, from node to node.
    Refusal,
}

impl FrameKind {
    fn byte(self) -> u8 {
        match self {
            Self::Command => 1,
            Self::Row => 2,
            Self::Body => 3,
            Self::Refusal => 4,
        }
    }

    fn cap(self) -> usize {
        match self {
            Self::Command | Self::Body | Self::Refusal => MAX_COMMAND,
            Self::Row => MAX_ROW,
        }
    }
}

/// Why bytes could not be read or written.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CodecError {
    #[error("cut short: {have} bytes of {need}")]
    Short { have: usize, need: usize },
    #[error("not a Slipway frame")]
    Magic,
    #[error("frame of kind {got}, expected {want}")]
    WrongKind { got: u8, want: u8 },
    #[error(
        "this program is too old: it reads frames up to format {FORMAT} and feature level {reads}, this is format {format}, level {level}: install a newer version"
    )]
    Newer { format: u8, level: u16, reads: u16 },
    #[error("{len} bytes are over the limit of {cap}")]
    TooLarge { len: usize, cap: usize },
    #[error("checksum mismatch: the bytes are damaged")]
    Checksum,
    /// The payload makes no sense.
    #[error("payload: {0}")]
    Payload(String),
    /// A snapshot's rows do not add up.
    #[error("snapshot: {0}")]
    Snapshot(String),
}

fn config() -> impl bincode::config::Config {
    bincode::config::standard().with_limit::<MAX_ROW>()
}

/// Plain bincode without a frame: for digests of values.
pub fn encode_plain<T: Serialize>(value: &T) -> Result<Vec<u8>, CodecError> {
    bincode::serde::encode_to_vec(value, config()).map_err(|e| CodecError::Payload(e.to_string()))
}

fn decode_plain<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    let (value, used) =
        bincode::serde::decode_from_slice(bytes, config()).map_err(|e| CodecError::Payload(e.to_string()))?;
    if used == bytes.len() {
        Ok(value)
    } else {
        Err(CodecError::Payload(format!("{} bytes left over", bytes.len().saturating_sub(used))))
    }
}

fn checksum(head: &[u8], payload: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(head), payload)
}

/// Puts a value into a frame. The level is the lowest at which its bytes are understood: an older program refuses them
/// by number.
pub(in crate::state) fn frame<T: Serialize>(kind: FrameKind, level: u32, value: &T) -> Result<Vec<u8>, CodecError> {
    let payload = encode_plain(value)?;
    if payload.len() > kind.cap() {
        return Err(CodecError::TooLarge { len: payload.len(), cap: kind.cap() });
    }
    let mut out = Vec::with_capacity(HEADER.saturating_add(payload.len()));
    out.extend_from_slice(&MAGIC);
    out.push(kind.byte());
    out.push(FORMAT);
    out.extend_from_slice(&u16::try_from(level).unwrap_or(u16::MAX).to_le_bytes());
    // The cap is far below 4 GiB.
    out.extend_from_slice(&u32::try_from(payload.len()).unwrap_or(u32::MAX).to_le_bytes());
    let crc = checksum(&out, &payload);
    out.extend_from_slice(&crc.to_le_bytes());
    out.extend_from_slice(&payload);
    Ok(out)
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N], CodecError> {
    let short = CodecError::Short { have: bytes.len(), need: at.saturating_add(N) };
    bytes.get(at..at.saturating_add(N)).and_then(|b| b.try_into().ok()).ok_or(short)
}

/// Takes a value out of the first frame; also says how long the frame was.
pub(in crate::state) fn unframe<T: DeserializeOwned>(kind: FrameKind, bytes: &[u8]) -> Result<(T, usize), CodecError> {
    if array::<4>(bytes, 0)? != MAGIC {
        return Err(CodecError::Magic);
    }
    let [got, format] = array::<2>(bytes, 4)?;
    let level = u16::from_le_bytes(array(bytes, 6)?);
    if format > FORMAT || format == 0 || level > READS {
        return Err(CodecError::Newer { format, level, reads: READS });
    }
    if got != kind.byte() {
        return Err(CodecError::WrongKind { got, want: kind.byte() });
    }
    let len = u32::from_le_bytes(array(bytes, 8)?) as usize;
    if len > kind.cap() {
        return Err(CodecError::TooLarge { len, cap: kind.cap() });
    }
    let crc = u32::from_le_bytes(array(bytes, 12)?);
    let end = HEADER.saturating_add(len);
    let short = CodecError::Short { have: bytes.len(), need: end };
    let payload = bytes.get(HEADER..end).ok_or(short)?;
    let head = bytes.get(..12).ok_or(CodecError::Magic)?;
    if checksum(head, payload) != crc {
        return Err(CodecError::Checksum);
    }
    Ok((decode_plain(payload)?, end))
}

/// The highest feature level among the frames of a command or a snapshot; their contents are not looked at.
pub fn highest_level(bytes: &[u8]) -> Result<u16, CodecError> {
    let (mut rest, mut highest) = (bytes, 0);
    while !rest.is_empty() {
        highest = highest.max(u16::from_le_bytes(array(rest, 6)?));
        let end = HEADER.saturating_add(u32::from_le_bytes(array(rest, 8)?) as usize);
        rest = rest.get(end..).ok_or(CodecError::Short { have: rest.len(), need: end })?;
    }
    Ok(highest)
}
