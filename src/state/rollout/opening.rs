//! The tracks with which a rollout begins: its candidate appears beside stable and what an earlier one left.
//!
//! Invariants: a version that has traffic keeps it, and its track; where three share it already and a fourth comes, the one with the least
//! gives its share to those that pass. What has no track here is what the leading `Retire` drains. Not here: compiled steps (`steps_compiled`),
//! how the traffic moves later (`routes`).

use crate::state::{base::prelude::*, fleet::serving, traffic::routes};

/// The tracks and weights of a deployment once a rollout to `to` has begun, before its mode and its TTL.
pub fn tracks_at_start(s: &State, d: &Deployment, to: &Pair) -> (Tracks, RouteWeights) {
    let mut weights = d.route.as_ref().map(|x| x.weights).unwrap_or_default();
    let mut tracks = d.tracks.clone();
    let mut candidate = None;
    if let Some(same) = tracks.previous.take_if(|t| &t.pair == to) {
        // What was the candidate takes the place that this frees.
        candidate = Some(same);
        tracks.previous = tracks.candidate.take().filter(|_| weights.candidate.0 > 0);
        (weights.candidate, weights.previous) = (weights.previous, weights.candidate);
    } else if let Some(same) = tracks.candidate.take_if(|t| &t.pair == to) {
        candidate = Some(same);
    } else if let Some(left) = tracks.candidate.take().filter(|_| weights.candidate.0 > 0) {
        let (of_left, of_previous) = (std::mem::take(&mut weights.candidate), weights.previous);
        let less = if of_left < of_previous {
            of_left
        } else {
            tracks.previous = Some(left);
            weights.previous = of_left;
            of_previous
        };
        share_out(s, d, &tracks, &mut weights, less);
    }
    let fresh = Track { pair: to.clone(), want: 0, retire_at: None };
    tracks.candidate = Some(Track { retire_at: None, ..candidate.unwrap_or(fresh) });
    (tracks, weights)
}

/// Gives a share to stable and previous by what passes; where nothing does, to stable.
pub(in crate::state) fn share_out(
    s: &State,
    d: &Deployment,
    tracks: &Tracks,
    weights: &mut RouteWeights,
    share: BasisPoints,
) {
    let passing = |t: &Option<Track>| t.as_ref().map_or(0, |t| serving::passing(s, &d.id, &t.pair));
    let (stable, previous) = (u64::from(passing(&tracks.stable)), u64::from(passing(&tracks.previous)));
    let of_previous = u64::from(share.0).saturating_mul(previous).checked_div(stable.saturating_add(previous));
    let of_previous = u32::try_from(of_previous.unwrap_or(0)).unwrap_or(0);
    weights.previous.0 = weights.previous.0.saturating_add(of_previous);
    weights.stable.0 = weights.stable.0.saturating_add(share.0.saturating_sub(of_previous));
}

/// The tracks appear; mode and TTL are the plan's.
pub(in crate::state) fn tracks(cx: &mut Cx<'_>, r: &Rollout, desired: u32) -> Done {
    let mut d = cx.deployment(&r.deployment)?;
    d.desired = desired;
    let mut weights = d.route.as_ref().map(|x| x.weights).unwrap_or_default();
    if r.switched {
        if let Some(stable) = d.tracks.stable.as_mut() {
            stable.want = desired;
        }
    } else {
        (d.tracks, weights) = tracks_at_start(&cx.s, &d, &r.to);
        if let Some(track) = d.tracks.candidate.as_mut() {
            track.want = serving::wanted(&cx.s, &r.deployment, &r.to);
        }
    }
    if d.route.is_some() {
        if r.form.mode == RouteMode::Switch {
            weights = one_active(weights);
        }
        routes::write(cx, &mut d, weights, weights.candidate, r.form, false);
    }
    cx.put_deployment(d);
    Ok(())
}

/// In a deployment that switches one version is active: the one with the largest share.
fn one_active(w: RouteWeights) -> RouteWeights {
    let none = RouteWeights { stable: BasisPoints(0), candidate: BasisPoints(0), previous: BasisPoints(0) };
    let most = w.stable.max(w.candidate).max(w.previous);
    if w.stable == most {
        RouteWeights { stable: WHOLE, ..none }
    } else if w.previous == most {
        RouteWeights { previous: WHOLE, ..none }
    } else {
        RouteWeights { candidate: WHOLE, ..none }
    }
}
