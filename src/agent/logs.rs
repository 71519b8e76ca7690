//! Sends an instance's log files line by line to the node that asked, on a call of its own, so that reports are never
//! delayed.
//!
//! Invariants: a question is answered at once, also when there is no log, and what was there ends with a word of what
//! that was; files are read off the runtime's threads, and only a few at a time however many are asked for; the time
//! grows with what is read and not with the size of the file; a remark of its own says what was left out. Not here:
//! writing the logs and keeping them small (`shim`), when their lines were written (`log_times`).

mod file;
mod lines;

use std::{io, path::PathBuf, time::Duration};

use tokio::sync::{Semaphore, mpsc};
use tonic::transport::Channel;

pub use file::last_bytes;
use file::{Wanted, last_lines, piece_from};
use lines::Lines;

use super::{layout::InstanceDir, log_times::Times};
use crate::{
    clock::Clock,
    model::LogFound,
    wire::v1::{LogChunk, TailLogs, workers_client::WorkersClient},
};

/// Lines of each stream at most.
const MAX_LINES: u32 = 10_000;
/// Reads of all logs of this agent at a time.
static READS: Semaphore = Semaphore::const_new(2);
const LOOK: Duration = Duration::from_millis(200);

/// Answers a request; ends when the lines are sent or the node hangs up. `dir` is `None` for an instance this worker
/// does not have.
pub async fn tail(channel: Channel, worker: String, ask: TailLogs, dir: Option<InstanceDir>) {
    let (send, receive) = mpsc::channel(256);
    let request = ask.request;
    let chunks = tokio_stream::wrappers::ReceiverStream::new(receive);
    let mut client = WorkersClient::new(channel);
    let pushing = client.push_logs(chunks);
    let reader = Answer { send, instance: ask.instance.clone(), request, worker };
    let reading = answer(reader, ask, dir);
    // The call ends when the reader is done and has dropped its end, or at once when the node hangs up.
    tokio::pin!(reading, pushing);
    let done = tokio::select! {
        done = &mut pushing => done,
        _ = &mut reading => pushing.await,
    };
    if let Err(e) = done {
        tracing::debug!(request, "logs: {}", e.message());
    }
}

/// The node has hung up.
struct HungUp;

/// Where an answer goes.
struct Answer {
    send: mpsc::Sender<LogChunk>,
    request: u64,
    instance: String,
    worker: String,
}

impl Answer {
    async fn send(&self, chunk: LogChunk) -> Result<(), HungUp> {
        let (instance, worker) = (self.instance.clone(), self.worker.clone());
        self.send.send(LogChunk { request: self.request, instance, worker, ..chunk }).await.map_err(|_| HungUp)
    }

    async fn found(&self, found: LogFound, why: String) -> Result<(), HungUp> {
        self.send(LogChunk { found: found.to_string(), line: why, ..LogChunk::default() }).await
    }
}

async fn answer(to: Answer, ask: TailLogs, dir: Option<InstanceDir>) -> Result<(), HungUp> {
    to.found(LogFound::Heard, String::new()).await?;
    let Some(dir) = dir else { return to.found(LogFound::Nothing, String::new()).await };
    let from_wall_ms = match ask.since_ms {
        0 => 0,
        since => Clock::real().wall_ms().saturating_sub(since),
    };
    let lines = ask.lines.min(MAX_LINES) as usize;
    let wanted = Wanted { lines, from_wall_ms };
    let (mut out, mut err) = (Stream::of(&dir, "out", &to), Stream::of(&dir, "err", &to));
    let (of_out, of_err) = tokio::join!(out.backlog(wanted, ask.follow), err.backlog(wanted, ask.follow));
    let (found, why) = both(of_out?, of_err?);
    to.found(found, why).await?;
    if !ask.follow {
        return Ok(());
    }
    // Both go on until the node hangs up.
    let (of_out, of_err) = tokio::join!(out.follow(), err.follow());
    of_out.and(of_err)
}

/// What two streams hold together: the first of these that one of them has.
fn both(out: (LogFound, String), err: (LogFound, String)) -> (LogFound, String) {
    let order = |found: LogFound| match found {
        LogFound::Unreadable => 0,
        LogFound::Lines => 1,
        LogFound::Others => 2,
        LogFound::Empty => 3,
        LogFound::NeverStarted => 4,
        LogFound::Nothing | LogFound::Heard => 5,
    };
    if order(err.0) < order(out.0) { err } else { out }
}

/// Runs a read off the runtime's threads, when it is its turn.
async fn reading<T: Send + 'static>(read: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    let _turn = READS.acquire().await.map_err(io::Error::other)?;
    tokio::task::spawn_blocking(read).await.map_err(io::Error::other)?
}

/// One log file on its way.
struct Stream<'a> {
    name: &'static str,
    log: PathBuf,
    times: PathBuf,
    to: &'a Answer,
    /// What was read ends here.
    at: u64,
    lines: Lines,
    sent: bool,
}

impl<'a> Stream<'a> {
    fn of(dir: &InstanceDir, name: &'static str, to: &'a Answer) -> Self {
        let (log, times) = (dir.log(name), dir.log_times(name));
        Self { name, log, times, to, at: 0, lines: Lines::default(), sent: false }
    }

    /// Sends what is there of what is wanted; an unfinished line waits for its end when the log is followed.
    async fn backlog(&mut self, wanted: Wanted, follow: bool) -> Result<(LogFound, String), HungUp> {
        let (log, times) = (self.log.clone(), self.times.clone());
        let begin = match reading(move || last_lines(&log, &times, wanted)).await {
            Ok(begin) => begin,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok((LogFound::NeverStarted, String::new())),
            Err(e) => return Ok((LogFound::Unreadable, format!("{}: {e}", self.log.display()))),
        };
        if let Some(why) = begin.left_out {
            self.remark(why).await?;
        }
        self.at = begin.at;
        while self.at < begin.end {
            match self.read_on(begin.end).await? {
                Ok(true) => {}
                Ok(false) => break,
                Err(e) => return Ok((LogFound::Unreadable, format!("{}: {e}", self.log.display()))),
            }
        }
        if !follow {
            self.finish().await?;
        }
        let found = match (self.sent, begin.written) {
            (true, _) => LogFound::Lines,
            (false, true) => LogFound::Others,
            (false, false) => LogFound::Empty,
        };
        Ok((found, String::new()))
    }

    /// Sends what is added, until the node hangs up.
    async fn follow(&mut self) -> Result<(), HungUp> {
        let mut said = String::new();
        loop {
            match self.read_on(u64::MAX).await? {
                Ok(true) => continue,
                Ok(false) => {}
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => {
                    let why = format!("the log cannot be read: {e}");
                    if said != why {
                        self.remark(why.clone()).await?;
                        said = why;
                    }
                }
            }
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                () = self.to.send.closed() => return Err(HungUp),
            }
        }
    }

    /// Reads one piece and sends its lines; whether there was one.
    async fn read_on(&mut self, to: u64) -> Result<io::Result<bool>, HungUp> {
        let (log, times, at) = (self.log.clone(), self.times.clone(), self.at);
        let line = self.lines.unfinished().unwrap_or(at);
        let piece = match reading(move || piece_from(&log, &times, at, to, line)).await {
            Ok(piece) => piece,
            Err(e) => return Ok(Err(e)),
        };
        if piece.restarted || piece.missed > 0 {
            self.lines.forget();
        }
        if piece.missed > 0 {
            self.remark(format!("cut: {} bytes of the log were gone before they could be sent", piece.missed)).await?;
        }
        self.at = piece.at + piece.bytes.len() as u64;
        self.lines.take(piece.at, &piece.bytes);
        for line in std::mem::take(&mut self.lines.found) {
            self.line(self.name, line.text, piece.times.at(line.at)).await?;
            self.sent = true;
        }
        Ok(Ok(!piece.bytes.is_empty()))
    }

    /// Sends the last line, which has no end yet.
    async fn finish(&mut self) -> Result<(), HungUp> {
        let Some(at) = self.lines.unfinished() else { return Ok(()) };
        let (log, times) = (self.log.clone(), self.times.clone());
        let times = reading(move || Ok(Times::read(&times, at, &std::fs::metadata(log)?))).await;
        self.lines.finish();
        for line in std::mem::take(&mut self.lines.found) {
            // It was there a moment ago.
            self.line(self.name, line.text, times.as_ref().map_or(0, |t| t.at(line.at))).await?;
            self.sent = true;
        }
        Ok(())
    }

    async fn remark(&self, text: String) -> Result<(), HungUp> {
        self.line("note", format!("{}: {text}", self.name), 0).await
    }

    async fn line(&self, stream: &str, line: String, wall_ms: u64) -> Result<(), HungUp> {
        self.to.send(LogChunk { stream: stream.into(), line, wall_ms, ..LogChunk::default() }).await
    }
}

#[cfg(test)]
mod tests;
