//! `logs`: lines of instances as they come, each with its instance and worker.

use crate::{
    cli::{CliError, Session, args::LogsArgs, error::DONE},
    client::{Client, ClientError},
    console,
    wire::v1,
};

/// Lines repeated when a followed log goes on at another node, so that none is missed.
const OVERLAP: u32 = 5;

pub async fn run(s: &Session, args: LogsArgs) -> Result<u8, CliError> {
    let mut request = v1::LogsRequest {
        deployment: s.deployment_id(&args.deployment)?,
        instance: args.instance.unwrap_or_default(),
        lines: args.lines,
        follow: args.follow,
    };
    // Who else can be asked when this node dies.
    s.client.status().await?;
    loop {
        let mut stream = s.client.logs(request.clone()).await?;
        let lost = loop {
            match Client::next_line(&mut stream).await {
                Ok(Some(chunk)) => s.out.item(&chunk, line)?,
                Ok(None) => break None,
                Err(e @ (ClientError::Unreachable { .. } | ClientError::Unavailable { .. })) if args.follow => {
                    break Some(e);
                }
                Err(e) => return Err(e.into()),
            }
        };
        match lost {
            None => return Ok(DONE),
            Some(_) => {
                console::note(&format!(
                    "the node is gone, following another one; the last {OVERLAP} lines may come again"
                ));
                request.lines = OVERLAP;
            }
        }
    }
}

fn line(chunk: &v1::LogChunk) -> String {
    let mark = if chunk.stream == "err" { "!" } else { "|" };
    format!("{} {} {mark} {}", chunk.instance, chunk.worker, chunk.line)
}
