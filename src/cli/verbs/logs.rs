//! `logs`: what instances wrote, each line with its time, version, instance and worker. Remarks about a log, and why
//! there is none, go to standard error.
//!
//! Invariant: an instance that does not answer keeps nobody's lines back. Not here: in which order lines come
//! (`order`).

mod order;

use serde::Serialize;

use self::order::{Order, Ready};
use crate::{
    cli::{
        CliError, Session,
        args::LogsArgs,
        error::{DONE, FAILED},
        output::Output,
        render,
    },
    client::{Client, ClientError},
    console,
    wire::v1::{self, logs_item::Body},
};

/// Lines repeated when a followed log goes on at another node, so that none is missed.
const OVERLAP: u32 = 5;
const DEFAULT_LINES: u32 = 50;

/// A line of an instance's log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(in crate::cli) struct LogLine {
    /// When it was written.
    wall_ms: u64,
    /// The version that wrote it.
    version: String,
    instance: String,
    worker: String,
    /// out, err
    stream: String,
    /// Its text.
    line: String,
}

pub async fn run(s: &Session, args: LogsArgs) -> Result<u8, CliError> {
    if args.lines == Some(0) && !args.follow {
        return Err(CliError::Usage("--lines 0 prints nothing, unless --follow prints what comes".into()));
    }
    let target = s.target(&args.what.target)?;
    let mut request = v1::LogsRequest {
        deployment: target.deployment,
        rollout: target.rollout,
        instance: args.instance.unwrap_or_default(),
        lines: args.lines.or(if args.since.is_some() { None } else { Some(DEFAULT_LINES) }),
        follow: args.follow,
        since_ms: args.since.map_or(0, |p| p.0),
        previous: args.previous,
    };
    if args.follow {
        // Who else can be asked when this node dies.
        s.client.status().await?;
    }
    let mut missing = false;
    while let Some(e) = one_node(s, &request, &mut missing).await? {
        if !args.follow {
            return Err(e.into());
        }
        console::note(&format!("the node is gone, following another one; the last {OVERLAP} lines may come again"));
        (request.lines, request.since_ms) = (Some(OVERLAP), 0);
    }
    Ok(if missing { FAILED } else { DONE })
}

/// Prints what one node gives, to its end, or to where the node is lost.
async fn one_node(s: &Session, request: &v1::LogsRequest, missing: &mut bool) -> Result<Option<ClientError>, CliError> {
    let mut stream = s.client.logs(request.clone()).await?;
    let mut order = Order::new(request.lines);
    loop {
        let next = Client::next_item(&mut stream);
        let next = if order.keeps_back() { tokio::time::timeout(order::PATIENCE, next).await } else { Ok(next.await) };
        match next {
            Err(_) => order.wait_no_more(),
            Ok(Ok(None)) => {
                *missing |= order.close();
                return print(&s.out, order.ready()).map(|()| None);
            }
            Ok(Ok(Some(v1::LogsItem { body }))) => match body {
                Some(Body::Sources(sources)) => {
                    if sources.left_out > 0 {
                        console::note(&format!(
                            "{} more instances are not asked: --instance shows one of them",
                            sources.left_out
                        ));
                    }
                    order.expect(sources.items);
                }
                Some(Body::Chunk(chunk)) => order.take(chunk),
                Some(Body::End(end)) => {
                    *missing |= end.missing;
                    order.end(&end);
                }
                // Of a newer node.
                None => {}
            },
            Ok(Err(e @ (ClientError::Unreachable { .. } | ClientError::Unavailable { .. }))) => return Ok(Some(e)),
            Ok(Err(e)) => return Err(e.into()),
        }
        print(&s.out, order.ready())?;
    }
}

fn print(out: &Output, ready: Vec<Ready>) -> Result<(), CliError> {
    let short = console::out_is_terminal() && out.for_people();
    ready.into_iter().try_for_each(|ready| match ready {
        Ready::Line(line) => out.item(&line, |line| shown(line, short)),
        Ready::Remark(text) => {
            console::note(&text);
            Ok(())
        }
    })
}

fn shown(line: &LogLine, short: bool) -> String {
    let mark = if line.stream == "err" { "!" } else { "|" };
    let LogLine { wall_ms, version, instance, worker, line, .. } = line;
    format!("{} {version} {instance} {worker} {mark} {line}", render::written(*wall_ms, short))
}
