//! Events as they come, from a bounded ring.

use std::ops::Bound;

use tokio::sync::mpsc;

use super::{Api, ApiError, Caller, Kind, Many};
use crate::{
    model::DeploymentId,
    state::{EVENT_RING, EventKey, State},
    wire::{convert_event, v1},
};

const BUFFER: usize = 256;

/// Whether events after `after` may have been dropped from the ring already.
fn lost(state: &State, after: EventKey) -> Option<EventKey> {
    let (oldest, _) = state.events.get_min()?;
    (state.events.len() >= EVENT_RING && after < *oldest).then_some(*oldest)
}

fn out_of_range(oldest: EventKey) -> ApiError {
    let text = format!(
        "events before {}.{} are no longer held: list again and watch from the list's index",
        oldest.index, oldest.ordinal
    );
    ApiError::new(Kind::OutOfRange, "out_of_range", text)
}

impl Api {
    /// Events after a position, then new ones as they are applied; "out of range" once the ring has lost some.
    pub async fn watch(&self, _: &Caller, ask: v1::WatchRequest) -> Result<Many<v1::Event>, ApiError> {
        let consensus = self.consensus()?.clone();
        let only: Option<DeploymentId> = match ask.deployment.as_str() {
            "" => None,
            text => Some(text.parse()?),
        };
        let mut views = consensus.view_changes();
        views.borrow_and_update();
        let state = consensus.view();
        let mut after = if ask.from_now {
            EventKey { index: state.applied.index, ordinal: u32::MAX }
        } else {
            EventKey { index: ask.after_index, ordinal: ask.after_ordinal }
        };
        // Zero asks for everything that is held, so it is never out of range.
        if (ask.after_index, ask.after_ordinal) != (0, 0)
            && let Some(oldest) = lost(&state, after)
        {
            return Err(out_of_range(oldest));
        }
        let first = after.index == 0 && after.ordinal == 0;
        let (send, receive) = mpsc::channel(BUFFER);
        let stop = self.stop.clone();
        let follow = async move {
            let mut from = if first { Bound::Unbounded } else { Bound::Excluded(after) };
            loop {
                // A watcher that does not read must hold no State: it is let go of before anything is sent.
                let (fresh, lost) = {
                    let state = consensus.view();
                    let lost = lost(&state, after).filter(|_| !first || after.index > 0);
                    let fresh = state.events.range((from, Bound::Unbounded)).take(BUFFER);
                    (fresh.map(|(key, event)| (*key, event.clone())).collect::<Vec<_>>(), lost)
                };
                if let Some(oldest) = lost {
                    // The watcher is slower than the ring.
                    let _ = send.send(Err(out_of_range(oldest))).await;
                    return;
                }
                let all = fresh.len() < BUFFER;
                for (key, event) in fresh {
                    after = key;
                    from = Bound::Excluded(after);
                    let told = event.body.describe();
                    if only.is_some() && told.deployment != only {
                        continue;
                    }
                    if send.send(Ok(convert_event::event(&event, told))).await.is_err() {
                        return;
                    }
                }
                if !all {
                    continue;
                }
                if ask.no_follow {
                    return;
                }
                tokio::select! {
                    seen = views.changed() => if seen.is_err() { return },
                    () = send.closed() => return,
                }
            }
        };
        tokio::spawn(stop.run_until_cancelled_owned(follow));
        Ok(receive)
    }
}
