//! `service stop` and `service start`, and waiting until a deployment is where it was sent.
//!
//! Invariant: the end is read from the deployment's row, and what it waits for from the leader's planner; nothing is
//! guessed from the time that passed. Not here: what a stop does (`state`).

use std::time::Duration;

use serde::Serialize;

use crate::{
    cli::{
        CliError, Session,
        args::{Sure, WaitArgs},
        error::{DONE, FAILED, TIMED_OUT},
        live::{PATIENCE, heard, passing, reason},
    },
    console,
    model::{DeploymentId, Period},
    wire::v1,
};

/// Between two looks.
const LOOK: Duration = Duration::from_secs(1);

/// Where a deployment is sent.
#[derive(Debug, Clone, Copy)]
pub enum Goal {
    /// Its row is removed.
    Gone,
    /// Nothing of it runs.
    Stopped,
    /// All that has traffic serves.
    Started,
}

/// A line for scripts.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Line<'a> {
    /// First of all: what the change did.
    Asked {
        deployment: &'a str,
        changed: &'a v1::Changed,
    },
    Waiting {
        waits: &'a [String],
    },
    /// Last of all.
    Ended {
        deployment: &'a str,
        exit_code: u8,
        text: &'a str,
    },
}

/// `service stop`.
pub async fn stop(s: &Session, text: &str, wait: &WaitArgs, sure: &Sure) -> Result<u8, CliError> {
    let deployment = s.deployment_id(text)?;
    s.sure(sure, &format!("{deployment} leaves DNS and stops, until `slipway service start {deployment}`"))?;
    let request = v1::DeploymentRequest { request: None, deployment: deployment.clone() };
    let changed = s.client.stop_deployment(request).await?;
    then(s, &deployment, changed, "is stopped already", wait, Goal::Stopped).await
}

/// `service start`.
pub async fn start(s: &Session, text: &str, wait: &WaitArgs) -> Result<u8, CliError> {
    let deployment = s.deployment_id(text)?;
    let request = v1::DeploymentRequest { request: None, deployment: deployment.clone() };
    let changed = s.client.start_deployment(request).await?;
    then(s, &deployment, changed, "is started already", wait, Goal::Started).await
}

/// Prints what a change did, and waits for its end where that was asked for.
async fn then(
    s: &Session,
    deployment: &str,
    changed: v1::Changed,
    already: &str,
    wait: &WaitArgs,
    goal: Goal,
) -> Result<u8, CliError> {
    let said = |c: &v1::Changed| match c.lines.as_slice() {
        [] => format!("{deployment} {already}: nothing changed"),
        lines => lines.join("\n"),
    };
    if !wait.watch {
        s.out.show(&changed, said)?;
        return Ok(DONE);
    }
    // Whoever has gone already is noticed at the next line, with the exit code of a watch.
    heard(s.out.item(&Line::Asked { deployment, changed: &changed }, |_| said(&changed)))?;
    until(s, deployment, goal, wait.within).await
}

/// Waits until a deployment is where it was sent; prints each new reason for waiting.
pub async fn until(s: &Session, deployment: &str, goal: Goal, within: Option<Period>) -> Result<u8, CliError> {
    match watched(s, deployment, goal, within).await {
        // It was to see the end, and does not.
        Err(e) if e.reader_left() => Ok(TIMED_OUT),
        done => done,
    }
}

async fn watched(s: &Session, deployment: &str, goal: Goal, within: Option<Period>) -> Result<u8, CliError> {
    let (clock, mut told, mut silent_since) = (s.client.clock(), String::new(), None);
    let started = clock.mono();
    loop {
        match look(s, deployment, goal).await {
            Ok((Some((code, text)), _)) => {
                s.out.item(&Line::Ended { deployment, exit_code: code, text: &text }, |_| text.clone())?;
                return Ok(code);
            }
            Ok((None, waits)) => {
                silent_since = None;
                let joined = waits.join("; ");
                if !waits.is_empty() && reason(&joined) != told {
                    told = reason(&joined);
                    s.out.item(&Line::Waiting { waits: &waits }, |_| format!("waiting: {joined}"))?;
                }
            }
            Err(e) if passing(&e) => {
                let since = *silent_since.get_or_insert_with(|| clock.mono());
                if within.is_none() && Duration::from_millis(clock.mono().since(since)) > PATIENCE {
                    return Err(e);
                }
                console::note(&format!("still watching: {e}"));
            }
            Err(e) => return Err(e),
        }
        let left = within.map_or(u64::MAX, |p| p.0.saturating_sub(clock.mono().since(started)));
        if left == 0 {
            let text = format!("{deployment} is not there yet: `slipway explain {deployment}` says what it waits for");
            s.out.item(&Line::Ended { deployment, exit_code: TIMED_OUT, text: &text }, |_| text.clone())?;
            return Ok(TIMED_OUT);
        }
        tokio::time::sleep(LOOK.min(Duration::from_millis(left))).await;
    }
}

/// How it ended, if it did, and what it waits for otherwise.
async fn look(s: &Session, deployment: &str, goal: Goal) -> Result<(Option<(u8, String)>, Vec<String>), CliError> {
    let id: DeploymentId = deployment.parse()?;
    let (environment, service) = (id.environment.to_string(), id.service.to_string());
    let ask = v1::ListRequest { environment, service, ..Default::default() };
    let row = s.client.deployments(ask).await?.items.into_iter().next();
    if let Some(end) = ended(deployment, goal, row.as_ref()) {
        return Ok((Some(end), Vec::new()));
    }
    match s.client.explain(v1::ExplainRequest { deployment: deployment.into() }).await {
        Ok(reply) => Ok((None, reply.waits)),
        // It went between the two questions: the next look says so.
        Err(e) if e.reason() == "not_found" => Ok((None, Vec::new())),
        Err(e) => Err(e.into()),
    }
}

/// Whether a deployment is where it was sent, or somebody sent it elsewhere.
fn ended(deployment: &str, goal: Goal, row: Option<&v1::Deployment>) -> Option<(u8, String)> {
    let other = |what: &str| Some((FAILED, format!("{deployment} {what}")));
    let Some(d) = row else {
        return match goal {
            Goal::Gone => Some((DONE, format!("{deployment} is gone"))),
            Goal::Stopped | Goal::Started => other("was removed meanwhile"),
        };
    };
    match (goal, d.stop.as_str()) {
        (Goal::Gone, _) => None,
        (Goal::Stopped | Goal::Started, _) if d.removing => other("is being removed"),
        (Goal::Stopped, "stopped") => {
            Some((DONE, format!("{deployment} is stopped: `slipway service start {deployment}` brings it back")))
        }
        (Goal::Stopped, "stopping") | (Goal::Started, "starting") => None,
        (Goal::Stopped, _) => other("was started again meanwhile"),
        (Goal::Started, "") if !d.live_rollout.is_empty() => {
            other(&format!("is moved by {0} now: `slipway rollout watch {0}`", d.live_rollout))
        }
        (Goal::Started, "") => {
            let serves = d.arms.iter().filter(|a| a.weight_bp > 0).all(|a| a.serving >= a.want);
            let total: u32 = d.arms.iter().map(|a| a.serving).sum();
            serves.then(|| (DONE, format!("{deployment} is started: {total} instances serve")))
        }
        (Goal::Started, _) => other("was stopped again meanwhile"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watch_ends_where_it_was_sent_or_where_somebody_else_sent_it() {
        let row = |stop: &str, serving: u32| v1::Deployment {
            stop: stop.into(),
            arms: vec![v1::Arm { want: 4, serving, weight_bp: 10_000, ..Default::default() }],
            ..Default::default()
        };
        let end = |goal, d: &v1::Deployment| ended("production/shop", goal, Some(d)).map(|(code, _)| code);
        for (goal, stop, serving, want) in [
            (Goal::Stopped, "stopping", 0, None),
            (Goal::Stopped, "stopped", 0, Some(DONE)),
            (Goal::Stopped, "starting", 0, Some(FAILED)),
            (Goal::Stopped, "", 4, Some(FAILED)),
            (Goal::Started, "starting", 4, None),
            (Goal::Started, "", 3, None),
            (Goal::Started, "", 4, Some(DONE)),
            (Goal::Started, "stopping", 4, Some(FAILED)),
            (Goal::Gone, "stopped", 0, None),
        ] {
            assert_eq!(end(goal, &row(stop, serving)), want, "{goal:?}, {stop:?}, {serving}");
        }
        let taken = v1::Deployment { live_rollout: "r-52".into(), ..row("", 0) };
        assert_eq!(end(Goal::Started, &taken), Some(FAILED));
        let gone = |goal| ended("production/shop", goal, None).map(|(code, _)| code);
        assert_eq!((gone(Goal::Gone), gone(Goal::Stopped)), (Some(DONE), Some(FAILED)));
    }
}
