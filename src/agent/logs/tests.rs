//! A log directory in its states, and what is answered of it.

use std::{
    fs::File,
    io::Write as _,
    path::Path,
    time::{Duration, UNIX_EPOCH},
};

use super::*;
use crate::agent::log_times::Notes;

type Chunks = mpsc::Receiver<LogChunk>;

fn asked(dir: &Path, ask: TailLogs) -> (Chunks, tokio::task::JoinHandle<()>) {
    let (send, receive) = mpsc::channel(100_000);
    let to = Answer { send, request: 9, instance: "59-0".into(), worker: "w1".into() };
    let dir = Some(InstanceDir::at(dir)).filter(|d| d.path().is_dir());
    let task = tokio::spawn(async move {
        let _ = answer(to, ask, dir).await;
    });
    (receive, task)
}

/// All that is answered: lines of `out`, and what was found.
async fn all(dir: &Path, ask: TailLogs) -> (Vec<LogChunk>, String) {
    let (mut chunks, _) = asked(dir, ask);
    let heard = chunks.recv().await.unwrap();
    assert_eq!((heard.found.as_str(), heard.request), ("heard", 9));
    let mut lines = Vec::new();
    while let Some(chunk) = chunks.recv().await {
        if !chunk.found.is_empty() {
            assert!(chunks.recv().await.is_none(), "it is the last");
            return (lines, chunk.found);
        }
        lines.push(chunk);
    }
    panic!("nothing was found");
}

fn last(lines: u32) -> TailLogs {
    TailLogs { lines, ..TailLogs::default() }
}

async fn texts(dir: &Path, lines: u32) -> Vec<String> {
    all(dir, last(lines)).await.0.into_iter().map(|c| c.line).collect()
}

#[tokio::test]
async fn whatever_there_is_the_answer_comes_at_once_and_says_what_that_was() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("59-0");
    assert_eq!(all(&dir, last(5)).await.1, "nothing");
    std::fs::create_dir(&dir).unwrap();
    assert_eq!(all(&dir, last(5)).await.1, "never_started");
    for stream in ["out", "err"] {
        std::fs::write(dir.join(format!("{stream}.log")), "").unwrap();
    }
    assert_eq!(all(&dir, last(5)).await.1, "empty");
    std::fs::write(dir.join("err.log"), "no database").unwrap();
    let (lines, found) = all(&dir, last(5)).await;
    let line = lines.first().unwrap();
    assert_eq!((line.line.as_str(), line.stream.as_str(), found.as_str()), ("no database", "err", "lines"));
    assert!(line.wall_ms > 1_600_000_000_000, "{line:?}");
    assert_eq!(all(&dir, last(0)).await.1, "others");
    std::fs::remove_file(dir.join("out.log")).unwrap();
    std::fs::create_dir(dir.join("out.log")).unwrap();
    assert_eq!(all(&dir, last(5)).await.1, "unreadable");
}

#[tokio::test]
async fn lines_have_the_time_of_their_writing_and_old_ones_are_left_out_when_that_is_asked() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("out.log");
    let now = Clock::real().wall_ms();
    let mut notes = Notes::open(root.path().join("out.times"));
    let mut file = File::create(&path).unwrap();
    let mut length = 0;
    for (text, ago) in [("old\n", 3_600_000), ("one\ntwo\nhal", 120_000), ("f\nnew\n", 60_000)] {
        file.write_all(text.as_bytes()).unwrap();
        length += text.len() as u64;
        notes.note(length, now - ago, 0).unwrap();
    }
    // Not noted yet.
    file.write_all(b"newest").unwrap();
    file.set_modified(UNIX_EPOCH + Duration::from_millis(now)).unwrap();
    let told = async |ask| {
        let lines = all(root.path(), ask).await.0.into_iter();
        lines.map(|c| format!("{} {}", c.line, now - c.wall_ms)).collect::<Vec<_>>()
    };
    let whole = ["old 3600000", "one 120000", "two 120000", "half 120000", "new 60000", "newest 0"];
    assert_eq!(told(last(50)).await, whole);
    assert_eq!(told(last(2)).await, whole[4..]);
    let since = |since_ms, lines| TailLogs { since_ms, ..last(lines) };
    assert_eq!(told(since(600_000, 50)).await, whole[1..]);
    assert_eq!(told(since(600_000, 3)).await, whole[3..]);
    // A line belongs where it began.
    assert_eq!(told(since(90_000, 50)).await, whole[4..]);
    assert_eq!(told(since(30_000, 50)).await, whole[5..]);
    file.set_modified(UNIX_EPOCH + Duration::from_millis(now - 50_000)).unwrap();
    assert_eq!(all(root.path(), since(30_000, 50)).await.1, "others");
}

#[tokio::test]
async fn the_last_lines_of_millions_of_short_ones_take_no_time_that_grows_with_them() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("out.log"), "a\n".repeat(8 << 20)).unwrap();
    let clock = Clock::real();
    let began = clock.mono();
    assert_eq!(texts(dir.path(), 50).await, vec!["a"; 50]);
    let took = clock.mono().since(began);
    assert!(took < 2_000, "{took} ms for fifty lines");
    assert_eq!(texts(dir.path(), 0).await, Vec::<String>::new());
}

#[tokio::test]
async fn an_answer_that_is_cut_says_so_and_holes_are_stepped_over() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("out.log");
    let line = format!("{}\n", "z".repeat(7999));
    std::fs::write(&path, line.repeat(1000)).unwrap();
    let (cut, _) = all(dir.path(), last(10_000)).await;
    assert_eq!((cut[0].stream.as_str(), cut[1].stream.as_str()), ("note", "out"));
    assert!(cut[0].line.contains("cut: only the last 4 MiB"), "{}", cut[0].line);
    assert!(cut.len() > 500 && cut[1..].iter().all(|c| c.line.len() == 7999));
    // The front is gone, as in a log that was kept small: there is no more than what is there.
    let file = File::options().write(true).open(&path).unwrap();
    let hole = rustix::fs::FallocateFlags::PUNCH_HOLE | rustix::fs::FallocateFlags::KEEP_SIZE;
    rustix::fs::fallocate(&file, hole, 0, 7_000_000 / 4096 * 4096).unwrap();
    let left = texts(dir.path(), 10_000).await;
    assert!((120..=126).contains(&left.len()) && left.iter().all(|l| l.len() == 7999), "{}", left.len());
    assert_eq!(last_bytes(&path, 10), b"zzzzzzzzz\n");
}

#[tokio::test]
async fn the_last_lines_come_first_and_then_what_is_added() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("out.log");
    std::fs::write(&path, "1\n2\n3\n4\n").unwrap();
    let (mut receive, task) = asked(dir.path(), TailLogs { follow: true, ..last(2) });
    let mut next = async || {
        let chunk = receive.recv().await.unwrap();
        if chunk.found.is_empty() { chunk.line } else { chunk.found }
    };
    for wanted in ["heard", "3", "4", "lines"] {
        assert_eq!(next().await, wanted);
    }
    // Appended: a file that is written anew is empty for a moment, and the follower may look then.
    let mut file = File::options().append(true).open(&path).unwrap();
    file.write_all(b"5\n").unwrap();
    assert_eq!(next().await, "5");
    std::fs::write(&path, "new\n").unwrap();
    assert_eq!(next().await, "new");
    drop(receive);
    task.await.unwrap();
}
