//! Return: back from a completed rollout, in the room that it was made in. Its first entry has moved the traffic
//! already when the old pair still ran; else the pair is installed again and the traffic follows its instances. It runs
//! no canary, and refuses nothing: what has no room beside takes places over.

use super::{Compiled, Site};
use crate::engine::prelude::*;

pub(super) fn compile(site: &Site<'_>) -> Compiled {
    let mut steps = site.opening();
    // Workers fetch what they are told to run, and most still have it: waiting for all of them would only delay the
    // first.
    steps.retain(|s| s.kind != StepKind::Stage);
    let desired = site.desired();
    let (install, mode) = site.install_back("install", &site.subject.to, desired);
    steps.push(install);
    let grace = match mode {
        BatchMode::Beside => site.subject.params.grace,
        BatchMode::Replace | BatchMode::InPlace => Period(0),
    };
    steps.extend(site.closing(grace));
    site.compiled(desired, site.workers.clone(), steps)
}
