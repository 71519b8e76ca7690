//! `rollout`: plan, start, steer, watch, explain.

use crate::{
    cli::{
        CliError, Session, Target,
        args::{RolloutVerb, WatchArgs},
        error::{DONE, TIMED_OUT},
        live::{self, Follow},
        params::ParamArgs,
        render,
    },
    console,
    model::{Period, Version},
    wire::{convert_rollout::settings, v1},
};

pub async fn run(s: &Session, verb: RolloutVerb) -> Result<u8, CliError> {
    match verb {
        RolloutVerb::Plan(args) => {
            let request = start_request(s, &args.deployment, Some(&args.to), &args.params)?;
            let reply = s.client.plan_rollout(request).await?;
            s.out.show(&reply, render::plan)?;
            Ok(DONE)
        }
        RolloutVerb::Start { start: args, replace, expect, watch } => {
            let mut request = start_request(s, &args.deployment, Some(&args.to), &args.params)?;
            (request.replace, request.expected) = (replace, expect.unwrap_or_default());
            begin(s, request, watch).await
        }
        RolloutVerb::Restart { deployment, params, watch } => start(s, &deployment, None, &params, watch).await,
        RolloutVerb::Status { target } => status(s, &target).await,
        RolloutVerb::Watch { target, within } => {
            let rollout = s.rollout(&target).await?;
            let from_index = rollout.meta.as_ref().map_or(0, |m| m.created_index);
            follow(s, Follow { rollout: rollout.id, from_index, within, wants_rollback: false }).await
        }
        RolloutVerb::Pause { target } => {
            let reply = s.client.pause(verb_request(s, &target)?).await?;
            said(s, &reply, |id| format!("{id} is paused where it is: `slipway rollout resume {id}` goes on"))
        }
        RolloutVerb::Resume { target } => {
            let reply = s.client.resume(verb_request(s, &target)?).await?;
            said(s, &reply, |id| format!("{id} goes on: `slipway rollout watch {id}`"))
        }
        RolloutVerb::Abort { target, as_is } => abort(s, &target, as_is).await,
        RolloutVerb::Promote { target, full, watch } => promote(s, &target, full, watch).await,
        RolloutVerb::Rollback { target, watch } => rollback(s, &target, watch).await,
        RolloutVerb::History { deployment } => history(s, &deployment).await,
        RolloutVerb::Explain { deployment } => {
            let deployment = s.deployment_id(&deployment)?;
            let reply = s.client.explain(v1::ExplainRequest { deployment }).await?;
            s.out.show(&reply, render::explain)?;
            Ok(DONE)
        }
    }
}

fn start_request(
    s: &Session,
    deployment: &str,
    to: Option<&str>,
    params: &ParamArgs,
) -> Result<v1::StartRequest, CliError> {
    let version = to.map(str::parse::<Version>).transpose()?.map(|v| v.to_string()).unwrap_or_default();
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

/// Starts a rollout to a version, or of the running one again.
pub async fn start(
    s: &Session,
    deployment: &str,
    to: Option<&str>,
    params: &ParamArgs,
    watch: WatchArgs,
) -> Result<u8, CliError> {
    begin(s, start_request(s, deployment, to, params)?, watch).await
}

async fn begin(s: &Session, request: v1::StartRequest, watch: WatchArgs) -> Result<u8, CliError> {
    let reply = s.client.start_rollout(request).await?;
    for note in &reply.notes {
        console::note(&format!("note: {note}"));
    }
    let id = &reply.rollout;
    if !watch.watch {
        s.out.show(&reply, |_| format!("{id} started: `slipway rollout watch {id}`"))?;
        return Ok(DONE);
    }
    if s.out.for_people() {
        // Whoever has gone already is noticed at the first event, with the exit code of a watch.
        live::heard(s.out.line(&format!("{id} started")))?;
    }
    let from_index = reply.receipt.as_ref().map_or(0, |r| r.index);
    follow(s, Follow { rollout: id.clone(), from_index, within: watch.within, wants_rollback: false }).await
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
        live::heard(s.out.show(&s.rollout(&id).await?, |_| String::new()))?;
        console::note(&end.text);
    }
    Ok(end.code)
}

pub async fn status(s: &Session, target: &str) -> Result<u8, CliError> {
    let reply = s.rollout(target).await?;
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

async fn abort(s: &Session, target: &str, as_is: bool) -> Result<u8, CliError> {
    let Target { rollout, deployment } = s.target(target)?;
    let reply = s.client.abort(v1::AbortRequest { request: None, rollout, deployment, as_is }).await?;
    said(s, &reply, |id| {
        if as_is {
            format!(
                "{id} has ended as it is: both versions keep their instances and traffic, the next rollout replaces both"
            )
        } else {
            format!("{id} is aborted: traffic goes to stable, candidates stay for an hour to look at")
        }
    })
}

/// Ends the present step, or skips to the end.
pub async fn promote(s: &Session, target: &str, full: bool, watch: WatchArgs) -> Result<u8, CliError> {
    let Target { rollout, deployment } = s.target(target)?;
    let reply = s.client.promote(v1::PromoteRequest { request: None, rollout, deployment, full }).await?;
    let what = if full { "goes to its end at once" } else { "goes on to its next step" };
    after(s, &reply, |id| format!("{id} {what}"), watch, false).await
}

/// Unwinds a live rollout, or returns from the last completed one.
pub async fn rollback(s: &Session, target: &str, watch: WatchArgs) -> Result<u8, CliError> {
    let reply = s.client.rollback(verb_request(s, target)?).await?;
    let text = |id: &str| format!("{id} takes traffic back first, then instances: `slipway rollout watch {id}`");
    after(s, &reply, text, watch, true).await
}

async fn after(
    s: &Session,
    reply: &v1::VerbReply,
    text: impl FnOnce(&str) -> String,
    watch: WatchArgs,
    wants_rollback: bool,
) -> Result<u8, CliError> {
    if !watch.watch {
        return said(s, reply, text);
    }
    if s.out.for_people() {
        s.out.line(&text(&reply.rollout))?;
    }
    let from_index = reply.receipt.as_ref().map_or(0, |r| r.index);
    let within: Option<Period> = watch.within;
    follow(s, Follow { rollout: reply.rollout.clone(), from_index, within, wants_rollback }).await
}

pub async fn history(s: &Session, deployment: &str) -> Result<u8, CliError> {
    let deployment = s.deployment_id(deployment)?;
    let reply = s.client.history(v1::HistoryRequest { deployment, page: None }).await?;
    s.out.show(&reply.items, |items| render::history(items, s.out.wide()))?;
    Ok(DONE)
}
