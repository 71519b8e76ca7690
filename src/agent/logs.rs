//! Sends an instance's log files line by line to the node that asked, on a call of its own, so that reports are never
//! delayed.
//!
//! Invariants: files are read off the runtime's threads, and only a few at a time however many are asked for; the time
//! grows with what is read and not with the size of the file; at most one block of each is in memory; a line of its own
//! says what was left out. A log has a hole where its oldest lines were (`shim`), which is stepped over. Not here:
//! writing the logs and keeping them small (`shim`).

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    path::Path,
    time::Duration,
};

use tokio::sync::{Semaphore, mpsc};
use tonic::transport::Channel;

use super::layout::InstanceDir;
use crate::wire::v1::{LogChunk, TailLogs, workers_client::WorkersClient};

/// Lines of each stream at most.
const MAX_LINES: u32 = 10_000;
/// Bytes looked through from the end of a file to find them.
const MAX_TAIL: u64 = 4 << 20;
/// Bytes read at a time.
const BLOCK: usize = 64 << 10;
/// Reads of all logs of this agent at a time.
static READS: Semaphore = Semaphore::const_new(2);
/// Longest line sent; what is longer is cut.
const MAX_LINE: usize = 8192;
const LOOK: Duration = Duration::from_millis(200);

/// Answers a request; ends when the lines are sent or the node hangs up. `dir` is `None` for an instance this worker
/// does not have.
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

/// Where to begin, and what is left out before it.
struct Begin {
    at: u64,
    /// The size when it was looked at: without `follow` nothing after it is sent.
    end: u64,
    left_out: Option<String>,
}

/// Runs a read off the runtime's threads, when it is its turn.
async fn reading<T: Send + 'static>(read: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    let _turn = READS.acquire().await.map_err(io::Error::other)?;
    tokio::task::spawn_blocking(read).await.map_err(io::Error::other)?
}

async fn stream(
    path: &Path,
    lines: usize,
    follow: bool,
    send: &mpsc::Sender<LogChunk>,
    chunk: impl Fn(String) -> LogChunk,
) {
    let (mut at, mut end, mut begun) = (0, 0, false);
    let mut cutter = Lines::default();
    loop {
        let piece = async {
            if !begun {
                let log = path.to_path_buf();
                let begin = reading(move || last_lines(&log, lines)).await?;
                (at, end) = (begin.at, begin.end);
                if let Some(why) = begin.left_out {
                    cutter.found.push(why);
                }
            }
            let log = path.to_path_buf();
            let to = if follow { u64::MAX } else { end };
            reading(move || piece_from(&log, at, to)).await
        };
        let mut more = false;
        match piece.await {
            Ok(piece) => {
                begun = true;
                if piece.restarted {
                    cutter.rest.clear();
                }
                if let Some(why) = piece.left_out {
                    cutter.rest.clear();
                    cutter.found.push(why);
                }
                more = !piece.bytes.is_empty();
                at = piece.end;
                cutter.take(&piece.bytes);
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => {
                tracing::warn!(log = %path.display(), "cannot read: {e}");
                cutter.found.push(format!("(the log cannot be read: {e})"));
            }
        }
        if !follow && !more {
            cutter.finish();
        }
        for line in std::mem::take(&mut cutter.found) {
            if send.send(chunk(line)).await.is_err() {
                return;
            }
        }
        if more {
            continue;
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

/// Where a file's bytes begin, behind the hole of what was cut off.
fn data_from(file: &File, at: u64) -> io::Result<u64> {
    match rustix::fs::seek(file, rustix::fs::SeekFrom::Data(at)) {
        Ok(found) => Ok(found),
        // Nothing but a hole, or the end.
        Err(rustix::io::Errno::NXIO) => Ok(file.metadata()?.len().max(at)),
        // A file system that knows no holes has none.
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::OPNOTSUPP) => Ok(at),
        Err(e) => Err(e.into()),
    }
}

fn read_at(file: &mut File, at: u64, most: usize) -> io::Result<Vec<u8>> {
    file.seek(SeekFrom::Start(at))?;
    let mut bytes = Vec::with_capacity(most);
    file.take(most as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Finds the place of the last lines, from the end.
fn last_lines(path: &Path, lines: usize) -> io::Result<Begin> {
    let mut file = File::open(path)?;
    let end = file.metadata()?.len();
    let front = data_from(&file, 0)?;
    let floor = front.max(end.saturating_sub(MAX_TAIL));
    // The last byte ends a line, or an unfinished one counts.
    let (mut at, mut found) = (end, 0_usize);
    while at > floor {
        let from = at.saturating_sub(BLOCK as u64).max(floor);
        let bytes = read_at(&mut file, from, usize::try_from(at - from).unwrap_or(BLOCK))?;
        for (n, _) in bytes.iter().enumerate().rev().filter(|(_, b)| **b == b'\n') {
            let after = from + n as u64 + 1;
            if after < end {
                found += 1;
                if found == lines {
                    return Ok(Begin { at: after, end, left_out: None });
                }
            }
        }
        if lines == 0 {
            return Ok(Begin { at: end, end, left_out: None });
        }
        at = from;
    }
    if floor == 0 {
        return Ok(Begin { at: 0, end, left_out: None });
    }
    // The middle of a line, most likely.
    let first = read_at(&mut file, floor, BLOCK)?;
    let skip = first.iter().position(|b| *b == b'\n').map_or(0, |n| n as u64 + 1);
    let wanted = found < lines && floor > front;
    let left_out = wanted.then(|| format!("(cut: only the last {} MiB of the log are looked through)", MAX_TAIL >> 20));
    Ok(Begin { at: (floor + skip).min(end), end, left_out })
}

struct Piece {
    bytes: Vec<u8>,
    end: u64,
    /// The file is shorter than before.
    restarted: bool,
    left_out: Option<String>,
}

/// What a file holds from an offset on, a block at most; a file that is now shorter is read from its beginning.
fn piece_from(path: &Path, at: u64, to: u64) -> io::Result<Piece> {
    let mut file = File::open(path)?;
    let size = file.metadata()?.len();
    let (restarted, at) = if size < at { (true, 0) } else { (false, at) };
    let from = data_from(&file, at)?.min(size.max(at));
    let missed = from - at;
    // A program that seeks makes holes too; a front that was cut off is a story for whoever follows.
    let left_out =
        (missed > 0 && at > 0).then(|| format!("(cut: {missed} bytes of the log were gone before they could be sent)"));
    let most = usize::try_from(to.saturating_sub(from)).unwrap_or(BLOCK).min(BLOCK);
    let bytes = if from < size { read_at(&mut file, from, most)? } else { Vec::new() };
    Ok(Piece { end: from + bytes.len() as u64, bytes, restarted, left_out })
}

/// The end of a log, so many bytes at most; empty when it cannot be read.
pub fn last_bytes(path: &Path, most: u64) -> Vec<u8> {
    let read = || {
        let mut file = File::open(path)?;
        let end = file.metadata()?.len();
        read_at(&mut file, end.saturating_sub(most), usize::try_from(most).unwrap_or(BLOCK))
    };
    read().unwrap_or_else(|_: io::Error| Vec::new())
}

/// Cuts bytes into lines as they come.
#[derive(Debug, Default)]
struct Lines {
    rest: Vec<u8>,
    /// The rest of a line that was too long goes nowhere.
    skipping: bool,
    found: Vec<String>,
}

impl Lines {
    fn take(&mut self, bytes: &[u8]) {
        for part in bytes.split_inclusive(|b| *b == b'\n') {
            let whole = part.ends_with(b"\n");
            if !self.skipping {
                let room = (MAX_LINE + 1).saturating_sub(self.rest.len());
                let body = part.strip_suffix(b"\n").unwrap_or(part);
                self.rest.extend_from_slice(body.get(..body.len().min(room)).unwrap_or(body));
                if whole || self.rest.len() > MAX_LINE {
                    self.finish_line();
                    self.skipping = !whole;
                }
            } else if whole {
                self.skipping = false;
            }
        }
    }

    fn finish_line(&mut self) {
        let cut = self.rest.len() > MAX_LINE;
        self.rest.truncate(MAX_LINE);
        let text = String::from_utf8_lossy(&self.rest).trim_end_matches('\r').to_owned();
        self.found.push(if cut { format!("{text} (cut: the line is longer)") } else { text });
        self.rest.clear();
    }

    /// An unfinished line is the last.
    fn finish(&mut self) {
        if !self.rest.is_empty() {
            self.finish_line();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(bytes: &[u8], at_a_time: usize) -> Vec<String> {
        let mut all = Lines::default();
        bytes.chunks(at_a_time).for_each(|part| all.take(part));
        all.finish();
        all.found
    }

    #[test]
    fn lines_are_whole() {
        let mut all = Lines::default();
        all.take(b"one\r\ntwo\nthr");
        assert_eq!(all.found, ["one", "two"]);
        all.take(b"ee");
        all.finish();
        assert_eq!(all.found, ["one", "two", "three"]);
        for n in 1..20 {
            assert_eq!(lines(b"one\n\ntwo\n", n), ["one", "", "two"]);
        }
    }

    #[test]
    fn a_line_that_is_too_long_is_cut_once_and_says_so() {
        let long = [vec![b'x'; 3 * MAX_LINE], b"\nnext\n".to_vec()].concat();
        for n in [1, 1000, BLOCK] {
            let all = lines(&long, n);
            assert_eq!(all.len(), 2, "{n}");
            assert!(all[0].ends_with("x (cut: the line is longer)") && all[1] == "next", "{n}");
        }
        assert_eq!(lines(&vec![b'y'; MAX_LINE], 100)[0].len(), MAX_LINE);
    }

    async fn all(path: &Path, lines: usize) -> Vec<String> {
        let (send, mut receive) = mpsc::channel(100_000);
        stream(path, lines, false, &send, |line| LogChunk { line, ..LogChunk::default() }).await;
        drop(send);
        let mut all = Vec::new();
        while let Some(chunk) = receive.recv().await {
            all.push(chunk.line);
        }
        all
    }

    #[tokio::test]
    async fn the_last_lines_of_millions_of_short_ones_take_no_time_that_grows_with_them() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out.log");
        std::fs::write(&path, "a\n".repeat(8 << 20)).unwrap();
        let clock = crate::clock::Clock::real();
        let began = clock.mono();
        assert_eq!(all(&path, 50).await, vec!["a"; 50]);
        let took = clock.mono().since(began);
        assert!(took < 2_000, "{took} ms for fifty lines");
        assert_eq!(all(&path, 0).await, Vec::<String>::new());
    }

    #[tokio::test]
    async fn an_answer_that_is_cut_says_so_and_holes_are_stepped_over() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out.log");
        let line = format!("{}\n", "z".repeat(7999));
        std::fs::write(&path, line.repeat(1000)).unwrap();
        let cut = all(&path, 10_000).await;
        assert!(cut[0].contains("cut: only the last 4 MiB"), "{}", cut[0]);
        assert!(cut.len() > 500 && cut[1..].iter().all(|l| l.len() == 7999));
        // The front is gone, as in a log that was kept small: there is no more than what is there.
        let file = File::options().write(true).open(&path).unwrap();
        let hole = rustix::fs::FallocateFlags::PUNCH_HOLE | rustix::fs::FallocateFlags::KEEP_SIZE;
        rustix::fs::fallocate(&file, hole, 0, 7_000_000 / 4096 * 4096).unwrap();
        let left = all(&path, 10_000).await;
        assert!((120..=126).contains(&left.len()) && left.iter().all(|l| l.len() == 7999), "{}", left.len());
        assert_eq!(last_bytes(&path, 10), b"zzzzzzzzz\n");
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
        // Appended: a file that is written anew is empty for a moment, and the follower may look then.
        let mut file = File::options().append(true).open(&path).unwrap();
        std::io::Write::write_all(&mut file, b"5\n").unwrap();
        assert_eq!(receive.recv().await.unwrap().line, "5");
        std::fs::write(&path, "new\n").unwrap();
        assert_eq!(receive.recv().await.unwrap().line, "new");
        drop(receive);
        task.await.unwrap();
    }
}
