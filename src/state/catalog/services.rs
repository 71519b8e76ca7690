//! Services appear with the first spec or release that names them.

use std::collections::BTreeMap;

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
    cx.s.services.insert(name.clone(), Service { meta: cx.new_meta(), name: name.clone(), gone: BTreeMap::new() });
    Ok(())
}
