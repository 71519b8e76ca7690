//! Services appear with the first spec or release that names them.

use crate::state::base::{names, prelude::*};

pub(in crate::state) fn make_service(cx: &mut Cx<'_>, name: &Name) -> Done {
    Name::service(name.as_str()).map_err(|e| Rejection::Invalid(e.to_string()))?;
    if cx.s.services.contains_key(name) {
        return Ok(());
    }
    let limit = cx.settings().limits.services;
    if cx.s.services.len() >= limit as usize {
        return Err(names::exhausted("services", limit));
    }
    let row = Service { meta: cx.new_meta(), name: name.clone(), defaults: Overrides::default() };
    cx.s.services.insert(name.clone(), row);
    Ok(())
}

/// A service, as somebody names it.
pub(in crate::state) fn known(cx: &Cx<'_>, name: &Name) -> Result<Service, Rejection> {
    let known = || cx.s.services.keys();
    cx.s.services.get(name).cloned().ok_or_else(|| Rejection::missing(Named::Service, name, known()))
}
