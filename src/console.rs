//! The only writer of standard output and standard error, and where the log goes.
//!
//! Invariants: nothing here panics. A result that cannot be written is reported to the caller, which may have to fail.
//! A message on standard error, or a line of the log, that cannot be written is lost, and nothing else happens. A
//! caller that logs never waits: lines go through a bounded queue to a thread of their own, so a stalled reader of the
//! log holds up no task. The number of lost lines is logged once lines can be written again. Not here: the content and
//! its format (JSON, YAML).

pub mod capture;
mod table;

pub use table::{harmless, set_width, table};

use std::{
    io::{self, IsTerminal, Write},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
        mpsc::{self, SyncSender, TrySendError},
    },
    thread,
    time::Duration,
};

use thiserror::Error;
use tracing_subscriber::fmt::MakeWriter;

/// Lines of the log that may wait to be written.
const WAITING: usize = 8192;
/// How long an end waits for the last lines.
const LAST_LINES: Duration = Duration::from_millis(500);

/// Why a result could not be written to standard output.
#[derive(Debug, Error)]
pub enum Unwritten {
    #[error("the reader of standard output has left")]
    ReaderLeft,
    /// The disk is full, say.
    #[error("{0}")]
    Failed(#[source] io::Error),
}

impl From<io::Error> for Unwritten {
    fn from(e: io::Error) -> Self {
        if e.kind() == io::ErrorKind::BrokenPipe { Self::ReaderLeft } else { Self::Failed(e) }
    }
}

/// Writes a line to standard output, at once.
pub fn line(text: &str) -> Result<(), Unwritten> {
    if capture::keeps("", text) {
        return Ok(());
    }
    let mut out = io::stdout().lock();
    writeln!(out, "{text}").and_then(|()| out.flush()).map_err(Unwritten::from)
}

/// Writes text to standard output, at once.
pub fn put(text: &str) -> Result<(), Unwritten> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(Unwritten::from)
}

/// Says a line on standard error, if anybody can hear it. A daemon says it in its log's queue, as it must not wait for
/// whoever reads.
pub fn note(text: &str) {
    if capture::keeps("! ", text) {
        return;
    }
    if let Some((log, true)) = LOG.get() {
        return log.say(format!("{text}\n").as_bytes());
    }
    // In one piece, so that lines of several processes do not mix; and an error is nobody's failure.
    let _ = io::stderr().lock().write_all(format!("{text}\n").as_bytes());
}

/// Whether standard output is a terminal.
pub fn out_is_terminal() -> bool {
    io::stdout().is_terminal()
}

/// How many columns the terminal at standard output has; nothing when it is none.
pub fn out_columns() -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(io::stdout()).ok()?;
    Some(usize::from(size.ws_col)).filter(|columns| *columns > 0)
}

/// Whether somebody can answer at the terminal: standard input and standard error are one.
pub fn can_ask() -> bool {
    io::stdin().is_terminal() && err_is_terminal()
}

/// Asks on standard error; whether the answer is yes.
pub fn ask(question: &str) -> bool {
    let _ = write!(io::stderr().lock(), "{question} [y/N] ");
    let mut answer = String::new();
    io::stdin().read_line(&mut answer).is_ok() && matches!(answer.trim(), "y" | "Y" | "yes")
}

/// Whether standard error is a terminal.
pub fn err_is_terminal() -> bool {
    io::stderr().is_terminal()
}

enum Job {
    Line(Vec<u8>),
    Flush(SyncSender<()>),
}

/// Where the log goes: give it to the subscriber as its writer. Cloning shares the queue.
#[derive(Clone, Debug)]
pub struct Log {
    jobs: SyncSender<Job>,
    lost: Arc<AtomicU64>,
}

static LOG: OnceLock<(Log, bool)> = OnceLock::new();

/// The process's log, on standard error; `json`: its own words are JSON too. A `daemon` says its notes there.
pub fn log(json: bool, daemon: bool) -> Log {
    LOG.get_or_init(|| (Log::to(io::stderr(), json, WAITING), daemon)).0.clone()
}

/// Waits a moment until the last lines of the log are written. Call it before the process ends.
pub fn flush() {
    if let Some((log, _)) = LOG.get() {
        log.flush();
    }
}

/// A panic is a line of the log, with the thread and the place.
pub fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let thread = thread::current();
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let message = panic.payload_as_str().unwrap_or("not a text");
        let trace = std::backtrace::Backtrace::capture();
        let trace = match trace.status() {
            std::backtrace::BacktraceStatus::Captured => format!("\n{trace}"),
            _ => String::new(),
        };
        tracing::error!(thread = thread.name().unwrap_or("?"), place, "panicked: {message}{trace}");
    }));
}

impl Log {
    fn to(mut sink: impl Write + Send + 'static, json: bool, waiting: usize) -> Self {
        let (jobs, todo) = mpsc::sync_channel(waiting);
        let lost = Arc::new(AtomicU64::new(0));
        let log = Self { jobs, lost: lost.clone() };
        // Without the thread every line is lost, which is counted and fails nothing.
        let _ = thread::Builder::new().name("log".into()).spawn(move || {
            for job in todo {
                match job {
                    Job::Line(bytes) => {
                        let before = lost.swap(0, Ordering::Relaxed);
                        let said = if before > 0 { sink.write_all(missing(before, json).as_bytes()) } else { Ok(()) };
                        if said.is_err() {
                            lost.fetch_add(before, Ordering::Relaxed);
                        }
                        if sink.write_all(&bytes).is_err() {
                            lost.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                    Job::Flush(done) => {
                        let _ = sink.flush();
                        let _ = done.try_send(());
                    }
                }
            }
        });
        log
    }

    fn say(&self, bytes: &[u8]) {
        match self.jobs.try_send(Job::Line(bytes.to_vec())) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.lost.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    fn flush(&self) {
        let (done, wait) = mpsc::sync_channel(1);
        if self.jobs.try_send(Job::Flush(done)).is_ok() {
            let _ = wait.recv_timeout(LAST_LINES);
        }
    }
}

fn missing(lines: u64, json: bool) -> String {
    let text = format!("{lines} lines of the log could not be written and are lost");
    if json { format!("{{\"level\":\"WARN\",\"message\":\"{text}\"}}\n") } else { format!(" WARN {text}\n") }
}

/// One event's way into the queue.
#[derive(Debug)]
pub struct Entry<'a>(&'a Log);

impl Write for Entry<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.say(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Entry<'a>;

    fn make_writer(&'a self) -> Self::Writer {
        Entry(self)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[derive(Clone, Default)]
    struct Sink {
        written: Arc<Mutex<Vec<u8>>>,
        full: Arc<std::sync::atomic::AtomicBool>,
    }

    impl Sink {
        fn text(&self) -> String {
            String::from_utf8(self.written.lock().unwrap().clone()).unwrap()
        }
    }

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            // Held by a test: a reader that stands still.
            let mut written = self.written.lock().unwrap();
            if self.full.load(Ordering::Relaxed) {
                return Err(io::ErrorKind::StorageFull.into());
            }
            written.extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_log_that_cannot_be_written_fails_nothing_and_says_later_what_is_missing() {
        let sink = Sink::default();
        let log = Log::to(sink.clone(), false, 16);
        sink.full.store(true, Ordering::Relaxed);
        for _ in 0..3 {
            log.make_writer().write_all(b"lost\n").unwrap();
        }
        log.flush();
        sink.full.store(false, Ordering::Relaxed);
        log.make_writer().write_all(b"heard\n").unwrap();
        log.flush();
        assert_eq!(sink.text(), " WARN 3 lines of the log could not be written and are lost\nheard\n");
    }

    #[test]
    fn a_reader_that_stands_still_holds_up_nobody_who_logs() {
        let sink = Sink::default();
        let log = Log::to(sink.clone(), true, 4);
        let still = sink.written.lock().unwrap();
        for _ in 0..1000 {
            log.make_writer().write_all(b"line\n").unwrap();
        }
        drop(still);
        // The queue was full: a flush may find no room, so lines are sent until one is through.
        while !sink.text().contains("are lost\"}") {
            log.make_writer().write_all(b"line\n").unwrap();
            log.flush();
        }
        assert!(sink.text().contains("line\n"));
    }

    #[test]
    fn a_reader_that_left_is_told_from_a_full_disk() {
        assert!(matches!(Unwritten::from(io::Error::from(io::ErrorKind::BrokenPipe)), Unwritten::ReaderLeft));
        assert!(matches!(Unwritten::from(io::Error::from(io::ErrorKind::StorageFull)), Unwritten::Failed(_)));
    }
}
