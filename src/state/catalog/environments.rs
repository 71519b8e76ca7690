//! What the commands about environments share.

use crate::state::base::prelude::*;

/// Highest place in the order of promotion.
const MAX_ORDER: u32 = 9999;

/// An environment, as somebody names it.
pub(in crate::state) fn named(cx: &Cx<'_>, name: &Name) -> Result<Environment, Rejection> {
    let known = || cx.s.environments.keys();
    cx.s.environments.get(name).cloned().ok_or_else(|| Rejection::missing(Named::Environment, name, known()))
}

/// Refuses a place in the order of promotion that is another one's.
pub(in crate::state) fn check_order(cx: &Cx<'_>, name: &Name, order: u32) -> Done {
    if order > MAX_ORDER {
        return Err(Rejection::Invalid(format!("order {order} is not from 0 to {MAX_ORDER}")));
    }
    match cx.s.environments.values().find(|e| e.order == order && &e.name != name) {
        Some(other) => Err(Rejection::Conflict {
            what: format!(
                "order {order} is environment {}'s: choose another place, or move that one first",
                other.name
            ),
        }),
        None => Ok(()),
    }
}

pub(in crate::state) fn announce(cx: &mut Cx<'_>, name: &Name, what: &str) {
    cx.emit(EventBody::EnvironmentChanged { environment: name.clone(), what: what.into() });
}
