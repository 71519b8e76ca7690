//! `logs`: lines of instances, each with its instance and worker; sorted by instance unless they are followed.

use serde::Serialize;

use crate::{
    cli::{CliError, Session, args::LogsArgs, error::DONE},
    client::{Client, ClientError},
    console,
    wire::v1,
};

/// Lines repeated when a followed log goes on at another node, so that none is missed.
const OVERLAP: u32 = 5;

/// A line of an instance's log.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(in crate::cli) struct LogLine {
    instance: String,
    worker: String,
    /// out, err
    stream: String,
    /// Its text.
    line: String,
}

pub async fn run(s: &Session, args: LogsArgs) -> Result<u8, CliError> {
    let mut request = v1::LogsRequest {
        deployment: s.deployment_of(&args.what.target).await?,
        instance: args.instance.unwrap_or_default(),
        lines: args.lines,
        follow: args.follow,
    };
    // Who else can be asked when this node dies.
    s.client.status().await?;
    let mut kept = Vec::new();
    loop {
        let mut stream = s.client.logs(request.clone()).await?;
        let lost = loop {
            match Client::next_line(&mut stream).await {
                Ok(Some(v1::LogChunk { instance, worker, stream, line, .. })) => {
                    let line = LogLine { instance, worker, stream, line };
                    if args.follow { s.out.item(&line, shown)? } else { kept.push(line) }
                }
                Ok(None) => break None,
                Err(e @ (ClientError::Unreachable { .. } | ClientError::Unavailable { .. })) if args.follow => {
                    break Some(e);
                }
                Err(e) => return Err(e.into()),
            }
        };
        match lost {
            None => break,
            Some(_) => {
                console::note(&format!(
                    "the node is gone, following another one; the last {OVERLAP} lines may come again"
                ));
                request.lines = OVERLAP;
            }
        }
    }
    // They came as workers answered.
    kept.sort_by_cached_key(|l: &LogLine| {
        let numbers: Vec<u64> = l.instance.split('-').filter_map(|n| n.parse().ok()).collect();
        (numbers, l.instance.clone())
    });
    kept.iter().try_for_each(|line| s.out.item(line, shown))?;
    Ok(DONE)
}

fn shown(line: &LogLine) -> String {
    let mark = if line.stream == "err" { "!" } else { "|" };
    format!("{} {} {mark} {}", line.instance, line.worker, line.line)
}
