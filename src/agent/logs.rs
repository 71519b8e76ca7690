//! An instance's log files, sent line by line to the node that asked, on a call of their own so that they never delay reports.
//!
//! Not here: writing and rotating them (`shim`).

use std::{io::SeekFrom, path::Path, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncSeekExt},
    sync::mpsc,
};
use tonic::transport::Channel;

use super::layout::InstanceDir;
use crate::wire::v1::{LogChunk, TailLogs, workers_client::WorkersClient};

/// Lines of each stream at most.
const MAX_LINES: u32 = 10_000;
/// Bytes read from the end of a file to find them.
const MAX_TAIL: u64 = 4 << 20;
/// Longest line sent; what is longer is cut.
const MAX_LINE: usize = 8192;
const LOOK: Duration = Duration::from_millis(200);

/// Answers a request; ends when the lines are sent or the node hangs up. `dir` is `None` for an instance this worker does not have.
pub async fn tail(channel: Channel, worker: String, ask: TailLogs, dir: Option<InstanceDir>) {
    let (send, receive) = mpsc::channel(256);
    let request = ask.request;
    let reading = async move {
        let Some(dir) = dir else { return };
        let (out, err) = (dir.log("out"), dir.log("err"));
        let line = |stream: &'static str| {
            let (ask, worker) = (ask.clone(), worker.clone());
            move |line: String| LogChunk {
                request: ask.request,
                instance: ask.instance.clone(),
                worker: worker.clone(),
                stream: stream.into(),
                line,
            }
        };
        let lines = ask.lines.min(MAX_LINES) as usize;
        tokio::join!(
            stream(&out, lines, ask.follow, &send, line("out")),
            stream(&err, lines, ask.follow, &send, line("err")),
        );
    };
    let chunks = tokio_stream::wrappers::ReceiverStream::new(receive);
    let mut client = WorkersClient::new(channel);
    let pushing = client.push_logs(chunks);
    // The call ends when the reader is done and has dropped its end, or at once when the node hangs up.
    tokio::pin!(reading, pushing);
    let done = tokio::select! {
        done = &mut pushing => done,
        () = &mut reading => pushing.await,
    };
    if let Err(e) = done {
        tracing::debug!(request, "logs: {}", e.message());
    }
}

async fn stream(
    path: &Path,
    lines: usize,
    follow: bool,
    send: &mpsc::Sender<LogChunk>,
    chunk: impl Fn(String) -> LogChunk,
) {
    let (mut at, mut rest) = (0, Vec::new());
    let mut first = true;
    loop {
        match read_from(path, at).await {
            Ok((bytes, end)) => {
                if end < at {
                    // It was rotated.
                    rest.clear();
                }
                at = end;
                rest.extend_from_slice(&bytes);
                let last = !follow;
                let mut found = split(&mut rest, last);
                if first {
                    found.drain(..found.len().saturating_sub(lines));
                    first = false;
                }
                for line in found {
                    if send.send(chunk(line)).await.is_err() {
                        return;
                    }
                }
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => tracing::warn!(log = %path.display(), "cannot read: {e}"),
        }
        if !follow {
            return;
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            () = send.closed() => return,
        }
    }
}

/// What a file holds from an offset on, a bounded part; a file that is now shorter is read from its beginning.
async fn read_from(path: &Path, at: u64) -> std::io::Result<(Vec<u8>, u64)> {
    let mut file = tokio::fs::File::open(path).await?;
    let size = file.metadata().await?.len();
    let from = if size < at { 0 } else { at };
    let from = from.max(size.saturating_sub(MAX_TAIL));
    file.seek(SeekFrom::Start(from)).await?;
    let mut bytes = Vec::new();
    file.take(size - from).read_to_end(&mut bytes).await?;
    let end = from + bytes.len() as u64;
    Ok((bytes, end))
}

/// Takes the whole lines off the front; the unfinished one too, when it is the last.
fn split(rest: &mut Vec<u8>, last: bool) -> Vec<String> {
    let mut lines = Vec::new();
    let text = |line: &[u8]| {
        let line = line.get(..line.len().min(MAX_LINE)).unwrap_or(line);
        String::from_utf8_lossy(line).trim_end_matches('\r').to_owned()
    };
    while let Some(end) = rest.iter().position(|b| *b == b'\n') {
        let line: Vec<u8> = rest.drain(..=end).collect();
        lines.push(text(line.get(..end).unwrap_or_default()));
    }
    if !rest.is_empty() && (last || rest.len() > MAX_LINE) {
        lines.push(text(rest));
        rest.clear();
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_whole() {
        let mut rest = b"one\r\ntwo\nthr".to_vec();
        assert_eq!(split(&mut rest, false), ["one", "two"]);
        assert_eq!(rest, b"thr");
        assert_eq!(split(&mut rest, true), ["thr"]);
        assert!(rest.is_empty());
    }

    #[tokio::test]
    async fn the_last_lines_come_first_and_then_what_is_added() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out.log");
        std::fs::write(&path, "1\n2\n3\n4\n").unwrap();
        let (send, mut receive) = mpsc::channel(16);
        let log = path.clone();
        let task = tokio::spawn(async move {
            stream(&log, 2, true, &send, |line| LogChunk { line, ..LogChunk::default() }).await;
        });
        assert_eq!(receive.recv().await.unwrap().line, "3");
        assert_eq!(receive.recv().await.unwrap().line, "4");
        std::fs::write(&path, "1\n2\n3\n4\n5\n").unwrap();
        assert_eq!(receive.recv().await.unwrap().line, "5");
        std::fs::write(&path, "new\n").unwrap();
        assert_eq!(receive.recv().await.unwrap().line, "new");
        drop(receive);
        task.await.unwrap();
    }
}
