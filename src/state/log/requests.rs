//! Retries: the first result of a client request answers every repeat (invariant 4). The table is bounded and forgets
//! what is past its `not_after`: from there on a repeat is refused as expired, so it can never take effect twice. A
//! part of it is kept for verbs that stop or turn something (`Command::steers`): a client that asks for everything else
//! without end does not lock them out.

use super::{
    command::Command,
    stamp::{Fence, Stamped},
};
use crate::state::{base::prelude::*, store::frame};

/// How far ahead `not_after` may lie.
const AHEAD: Period = Period::minutes(10);

/// One of so many places is kept for the verbs that steer.
const RESERVE: u32 = 10;

/// A request that goes on to its command, with what is remembered afterwards.
pub(in crate::state) struct Ticket {
    key: (Principal, RequestId),
    body_digest: u32,
    not_after: Millis,
}

/// What the table says of a command.
pub(in crate::state) enum Look {
    /// Not a client's.
    Engine,
    /// Never seen.
    Fresh(Ticket),
    /// Took effect at this index.
    Repeat(u64),
}

/// crc32c of the encoded body.
pub(in crate::state) fn body_digest(body: &Command) -> u32 {
    // An encoding fails only for types without a length, which commands do not hold; 0 would still be the same on every
    // node.
    frame::encode_plain(body).map(|bytes| crc32c::crc32c(&bytes)).unwrap_or_default()
}

/// Looks a command up; the first refusal is a repeat's refusal.
pub(in crate::state) fn look(state: &State, stamped: &Stamped) -> Result<Look, Rejection> {
    let Some(Fence { id, not_after }) = &stamped.request else { return Ok(Look::Engine) };
    let key = (stamped.principal.clone(), id.clone());
    let body_digest = body_digest(&stamped.body);
    if let Some(first) = state.requests.get(&key) {
        if first.body_digest != body_digest {
            return Err(Rejection::RequestReused { id: id.to_string() });
        }
        return match &first.rejection {
            Some(r) => Err(r.clone()),
            None => Ok(Look::Repeat(first.index)),
        };
    }
    if *not_after < state.now {
        return Err(Rejection::Expired { not_after: *not_after, now: state.now });
    }
    if *not_after > state.now.plus(AHEAD) {
        return Err(Rejection::TooFarAhead);
    }
    let limit = state.cluster.as_ref().map_or(Settings::default().limits.requests, |c| c.settings.limits.requests);
    let limit = if stamped.body.steers() { limit } else { limit.saturating_sub(limit / RESERVE) };
    if state.requests.len() >= limit as usize {
        return Err(Rejection::Exhausted {
            what: "requests remembered for retries".into(),
            limit: u64::from(limit),
            fix: "send the request again in a minute, or set an earlier not_after".into(),
        });
    }
    Ok(Look::Fresh(Ticket { key, body_digest, not_after: *not_after }))
}

/// Keeps the first result.
pub(in crate::state) fn remember(state: &mut State, at: LogId, ticket: Ticket, rejection: Option<&Rejection>) {
    let Ticket { key, body_digest, not_after } = ticket;
    state.requests_by_expiry.insert((not_after, key.0.clone(), key.1.clone()), ());
    state.requests.insert(key, Request { body_digest, index: at.index, rejection: rejection.cloned(), not_after });
}

/// Drops what is past its time.
pub(in crate::state) fn forget_expired(state: &mut State) {
    while let Some(((not_after, p, r), ())) = state.requests_by_expiry.get_min().cloned() {
        if not_after >= state.now {
            break;
        }
        state.requests_by_expiry.remove(&(not_after, p.clone(), r.clone()));
        state.requests.remove(&(p, r));
    }
}
