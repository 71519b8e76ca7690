//! Bytes of a whole State in a snapshot: a version byte, then bincode.
//!
//! Invariants: an unknown version is refused with its number; lengths are capped before anything is allocated; nothing may be left
//! over. Length and checksum stand in the snapshot file's header and in the offer on the wire, so they are not repeated here.
//!
//! Deliberately not here: the encoding of commands (`state::codec`).

use std::io;

use crate::state::State;

const VERSION: u8 = 1;
/// Largest State, encoded or decoded.
const LIMIT: usize = 1 << 30;

fn config() -> impl bincode::config::Config {
    bincode::config::standard().with_limit::<LIMIT>()
}

fn invalid(why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

/// Bytes of a State.
pub(super) fn encode(state: &State) -> io::Result<Vec<u8>> {
    let mut bytes = vec![VERSION];
    bincode::serde::encode_into_std_write(state, &mut bytes, config()).map_err(invalid)?;
    Ok(bytes)
}

/// A State from its bytes.
pub(super) fn decode(bytes: &[u8]) -> io::Result<State> {
    match bytes.split_first() {
        Some((&VERSION, rest)) => {
            let (state, used) = bincode::serde::decode_from_slice(rest, config()).map_err(invalid)?;
            if used == rest.len() { Ok(state) } else { Err(invalid("bytes are left over after the state")) }
        }
        Some((found, _)) => Err(invalid(format!(
            "state has encoding version {found}, this version reads {VERSION}: run the version that wrote it, or a newer one"
        ))),
        None => Err(invalid("state is empty")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Millis;

    #[test]
    fn a_state_comes_back_and_foreign_bytes_do_not() {
        let state = State { now: Millis(77), incarnation: 3, ..State::default() };
        let bytes = encode(&state).unwrap();
        assert_eq!(decode(&bytes).unwrap(), state);
        let mut longer = bytes.clone();
        longer.push(0);
        assert!(decode(&longer).unwrap_err().to_string().contains("left over"));
        assert!(decode(&bytes[..bytes.len() - 1]).is_err());
        assert!(decode(&[]).is_err());
        assert!(decode(&[9, 1]).unwrap_err().to_string().contains("version 9"));
    }
}
