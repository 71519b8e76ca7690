//! `rollout`: plan, start, steer, watch, explain.

use crate::{
    cli::{
        CliError, Session, Target,
        args::{HistoryArgs, RolloutVerb, StartArgs, Until, WatchArgs, WatchLimits, WorkerVerb},
        error::{DONE, TIMED_OUT},
        live::{self, Follow},
        params::ParamArgs,
        render,
    },
    client::ClientError,
    console,
    model::{Portion, RolloutParams, Version},
    wire::{convert_rollout::settings, v1},
};

pub async fn run(s: &Session, verb: RolloutVerb) -> Result<u8, CliError> {
    match verb {
        RolloutVerb::Plan(args) => {
            let request = start_request(s, &args.what.deployment, Some(&args.to), &args.params)?;
            let reply = s.client.plan_rollout(request).await?;
            s.out.show(&reply, render::plan)?;
            Ok(DONE)
        }
        RolloutVerb::Start { start, replace, expect, watch } => begin(s, start, replace, expect, watch).await,
        RolloutVerb::Restart { what, params, watch } => {
            started(s, start_request(s, &what.deployment, None, &params)?, watch).await
        }
        RolloutVerb::List { all, limit } => list(s, all, limit).await,
        RolloutVerb::Status(what) => status(s, &what.target).await,
        RolloutVerb::Watch { what, limits } => {
            let rollout = s.rollout(&what.target).await?;
            let from_index = rollout.meta.as_ref().map_or(0, |m| m.created_index);
            if !s.out.for_people() {
                let (id, notes) = (rollout.id.as_str(), &[][..]);
                live::heard(
                    s.out.item(&live::WatchLine::Started { rollout: id, index: from_index, notes }, |_| String::new()),
                )?;
            }
            follow(s, Follow { rollout: rollout.id, from_index, from_ms: 0, limits, wants_rollback: false }).await
        }
        RolloutVerb::Pause(what) => {
            let done = s.client.pause(verb_request(s, &what.target)?).await;
            let Some(reply) = already(s, &what.target, done, &["paused"]).await? else { return Ok(DONE) };
            said(s, &reply, |id| format!("{id} is paused where it is: `slipway rollout resume {id}` goes on"))
        }
        RolloutVerb::Resume(what) => {
            let done = s.client.resume(verb_request(s, &what.target)?).await;
            let on = ["pending", "active", "promoting"];
            let Some(reply) = already(s, &what.target, done, &on).await? else { return Ok(DONE) };
            said(s, &reply, |id| format!("{id} goes on: `slipway rollout watch {id}`"))
        }
        RolloutVerb::Abort { what, as_is } => abort(s, &what.target, as_is).await,
        RolloutVerb::Promote { what, full, watch } => promote(s, &what.target, full, watch).await,
        RolloutVerb::Rollback { what, watch } => rollback(s, &what.target, watch).await,
        RolloutVerb::History(args) => history(s, args).await,
        RolloutVerb::Explain(what) => explain(s, &what.target).await,
    }
}

/// Rollouts of all deployments, or of the environment that a flag names.
async fn list(s: &Session, all: bool, limit: Option<usize>) -> Result<u8, CliError> {
    let prefix = s.listed().await?.map(|e| format!("{e}/")).unwrap_or_default();
    let mut items = s.client.history(v1::HistoryRequest::default()).await?.items;
    items.retain(|r| (all || !r.terminal) && r.deployment.starts_with(&prefix));
    items.truncate(limit.unwrap_or(usize::MAX));
    s.out.show(&items, |items| render::rollouts(items, all, s.out.wide()))?;
    Ok(DONE)
}

/// Why a deployment or a rollout is not moving; a worker, when nothing else is called so.
pub async fn explain(s: &Session, target: &str) -> Result<u8, CliError> {
    let deployment = s.deployment_of(target).await?;
    let reply = match s.client.explain(v1::ExplainRequest { deployment }).await {
        Err(e) if e.reason() == "not_found" && !target.contains('/') => {
            let workers = s.client.workers(v1::ListRequest::default()).await?.items;
            if workers.iter().any(|w| w.name == target) {
                return super::catalog::worker(s, WorkerVerb::Show { name: target.into() }).await;
            }
            return Err(e.into());
        }
        other => other?,
    };
    s.out.show(&reply, render::explain)?;
    Ok(DONE)
}

fn start_request(
    s: &Session,
    deployment: &str,
    to: Option<&str>,
    params: &ParamArgs,
) -> Result<v1::StartRequest, CliError> {
    let version = to.map(str::parse::<Version>).transpose()?.map(|v| v.to_string()).unwrap_or_default();
    let one = Portion::count(1);
    // What can be told without the spec is told here. One of these two may be 0, as long as the spec's other is not.
    let base = RolloutParams { max_surge: one, max_unavailable: one, ..RolloutParams::default() };
    params.0.over(base).check("rollout")?;
    Ok(v1::StartRequest {
        request: None,
        deployment: s.deployment_id(deployment)?,
        version,
        settings: settings(&params.0),
        restart: to.is_none(),
        expected: 0,
        replace: false,
    })
}

/// Starts a rollout to a version.
pub async fn begin(
    s: &Session,
    args: StartArgs,
    replace: bool,
    expect: Option<u64>,
    watch: WatchArgs,
) -> Result<u8, CliError> {
    let request = start_request(s, &args.what.deployment, Some(&args.to), &args.params)?;
    started(s, v1::StartRequest { replace, expected: expect.unwrap_or_default(), ..request }, watch).await
}

async fn started(s: &Session, request: v1::StartRequest, watch: WatchArgs) -> Result<u8, CliError> {
    let limits = limits(watch)?;
    let reply = s.client.start_rollout(request).await?;
    if s.out.for_people() {
        for note in &reply.notes {
            console::note(&format!("note: {note}"));
        }
    }
    let id = &reply.rollout;
    let Some(limits) = limits else {
        s.out.show(&reply, |_| format!("{id} started: `slipway rollout watch {id}`"))?;
        return Ok(DONE);
    };
    let (from_index, from_ms) = reply.receipt.as_ref().map_or((0, 0), |r| (r.index, r.now_ms));
    // Whoever has gone already is noticed at the first event, with the exit code of a watch.
    let line = live::WatchLine::Started { rollout: id, index: from_index, notes: &reply.notes };
    live::heard(s.out.item(&line, |_| format!("{id} started")))?;
    follow(s, Follow { rollout: id.clone(), from_index, from_ms, limits, wants_rollback: false }).await
}

/// How to watch, if at all; limits without a watch are a mistake.
fn limits(watch: WatchArgs) -> Result<Option<WatchLimits>, CliError> {
    let WatchArgs { watch, limits } = watch;
    if !watch && (limits.within.is_some() || limits.until == Until::Paused) {
        return Err(CliError::Usage("--within and --until are about watching: add --watch".into()));
    }
    Ok(watch.then_some(limits))
}

/// Follows to the end, then prints it: a line for people, the rollout itself for scripts.
async fn follow(s: &Session, what: Follow) -> Result<u8, CliError> {
    let id = what.rollout.clone();
    let end = match live::follow(s, what).await {
        // It was to see the end, and did not.
        Err(e) if e.reader_left() => return Ok(TIMED_OUT),
        other => other?,
    };
    if s.out.for_people() {
        live::heard(s.out.line(&end.text))?;
    } else {
        let rollout = s.rollout(&id).await?;
        let line = live::WatchLine::Ended {
            rollout: &rollout.id,
            status: &rollout.status,
            exit_code: end.code,
            text: &end.text,
            record: &rollout,
        };
        live::heard(s.out.item(&line, |_| String::new()))?;
        console::note(&end.text);
    }
    Ok(end.code)
}

pub async fn status(s: &Session, target: &str) -> Result<u8, CliError> {
    let reply = match s.rollout(target).await {
        // There is none to show: what there is to say instead is `explain`'s.
        Err(CliError::Client(e)) if e.reason() == "no_rollout" => return explain(s, target).await,
        other => other?,
    };
    s.out.show(&reply, |r| render::rollout(r, r.now_ms))?;
    Ok(DONE)
}

fn verb_request(s: &Session, target: &str) -> Result<v1::VerbRequest, CliError> {
    let Target { rollout, deployment } = s.target(target)?;
    Ok(v1::VerbRequest { request: None, rollout, deployment })
}

fn said(s: &Session, reply: &v1::VerbReply, text: impl FnOnce(&str) -> String) -> Result<u8, CliError> {
    s.out.show(reply, |r| text(&r.rollout))?;
    Ok(DONE)
}

/// What a verb answered; nothing, once that is said, where it was refused as the rollout is so already: that was
/// understood, and nothing is to be done.
async fn already(
    s: &Session,
    target: &str,
    done: Result<v1::VerbReply, ClientError>,
    statuses: &[&str],
) -> Result<Option<v1::VerbReply>, CliError> {
    match done {
        Err(e @ ClientError::Refused { .. }) => match s.rollout(target).await {
            Ok(r) if statuses.contains(&r.status.as_str()) => {
                let reply = v1::VerbReply { rollout: r.id, receipt: None };
                s.out.show(&reply, |reply| {
                    format!("{} is {} already: nothing changed", reply.rollout, render::words(&r.status))
                })?;
                Ok(None)
            }
            Ok(_) | Err(_) => Err(e.into()),
        },
        other => Ok(Some(other?)),
    }
}

async fn abort(s: &Session, target: &str, as_is: bool) -> Result<u8, CliError> {
    let Target { rollout, deployment } = s.target(target)?;
    let done = s.client.abort(v1::AbortRequest { request: None, rollout, deployment, as_is }).await;
    let Some(reply) = already(s, target, done, &["aborted"]).await? else { return Ok(DONE) };
    // Before the first version there is nothing that traffic could go to.
    let first = s.out.for_people() && s.rollout(&reply.rollout).await.is_ok_and(|r| r.from.is_none());
    said(s, &reply, |id| match (as_is, first) {
        (true, _) => format!(
            "{id} has ended as it is: both versions keep their instances and traffic, the next rollout replaces both"
        ),
        (false, true) => format!("{id} is aborted: nothing ran before it, so nothing takes its traffic"),
        (false, false) => format!("{id} is aborted: traffic goes to stable, candidates stay for an hour to look at"),
    })
}

/// Ends the present step, or skips to the end.
pub async fn promote(s: &Session, target: &str, full: bool, watch: WatchArgs) -> Result<u8, CliError> {
    let limits = limits(watch)?;
    let Target { rollout, deployment } = s.target(target)?;
    let done = s.client.promote(v1::PromoteRequest { request: None, rollout, deployment, full }).await;
    let Some(reply) = already(s, target, done, &["promoting", "completed"]).await? else { return Ok(DONE) };
    let what = if full { "goes to its end at once" } else { "goes on to its next step" };
    let text = format!("{} {what}", reply.rollout);
    after(s, &reply, text, limits, false).await
}

/// Unwinds a live rollout, or returns from the last completed one.
pub async fn rollback(s: &Session, target: &str, watch: WatchArgs) -> Result<u8, CliError> {
    let limits = limits(watch)?;
    let reply = s.client.rollback(verb_request(s, target)?).await?;
    let id = &reply.rollout;
    let mut text = format!("{id} takes traffic back first, then instances: `slipway rollout watch {id}`");
    if s.out.for_people()
        && let Ok(r) = s.rollout(id).await
    {
        let (from, to) = (render::version(r.from.as_ref()), render::version(r.to.as_ref()));
        let (left, back) = if r.kind == "return" { (from, to) } else { (to, from) };
        text = format!("{}: from {left} back to {back}; {text}", r.deployment);
    }
    after(s, &reply, text, limits, true).await
}

async fn after(
    s: &Session,
    reply: &v1::VerbReply,
    text: String,
    limits: Option<WatchLimits>,
    wants_rollback: bool,
) -> Result<u8, CliError> {
    let Some(limits) = limits else {
        return said(s, reply, |_| text);
    };
    let (from_index, from_ms) = reply.receipt.as_ref().map_or((0, 0), |r| (r.index, r.now_ms));
    let line = live::WatchLine::Started { rollout: &reply.rollout, index: from_index, notes: &[] };
    live::heard(s.out.item(&line, |_| text))?;
    follow(s, Follow { rollout: reply.rollout.clone(), from_index, from_ms, limits, wants_rollback }).await
}

pub async fn history(s: &Session, args: HistoryArgs) -> Result<u8, CliError> {
    let deployment = s.deployment_of(&args.what.target).await?;
    let items = s.client.history(v1::HistoryRequest { deployment: deployment.clone(), page: None }).await?.items;
    let switches = s.client.lease(v1::GetLeaseRequest {}).await?.switches;
    let past = render::Past::of(deployment, items, switches, args.limit);
    s.out.show(&past, |past| render::history(past, s.out.wide()))?;
    Ok(DONE)
}
