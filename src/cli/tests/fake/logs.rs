//! The logs that the fake node has.

use crate::wire::v1::{self, logs_item::Body};

/// Of the instances that run, or of those before them.
pub fn answer(previous: bool) -> Vec<Body> {
    let source = |instance: &str, worker: &str, version: &str| v1::LogSource {
        instance: instance.into(),
        worker: worker.into(),
        version: version.into(),
    };
    let line = |instance: &str, stream: &str, ms: u64, line: &str| {
        let (instance, stream, line) = (instance.into(), stream.into(), line.into());
        let wall_ms = 1_782_820_800_000 + ms;
        Body::Chunk(v1::LogChunk {
            request: 7,
            instance,
            worker: "w1".into(),
            stream,
            line,
            wall_ms,
            ..Default::default()
        })
    };
    let end = |instance: &str, why: &str, missing: bool| {
        Body::End(v1::LogEnd { instance: instance.into(), why: why.into(), missing })
    };
    let (items, answer) = if previous {
        let silent = "gives no log: worker w2 did not answer within 3 s";
        let items = vec![source("40-0", "w2", "0.9.0"), source("40-1", "w1", "0.9.0")];
        let whole = [line("40-1", "out", 0, "stops"), end("40-1", "", false)];
        (items, [whole.to_vec(), vec![end("40-0", silent, true)]].concat())
    } else {
        let nope = "never started: run.command: the release holds no \"bin/nope\"";
        let items = vec![source("51-11", "w2", "1.1.0"), source("51-9", "w1", "1.0.0"), source("51-10", "w1", "1.0.0")];
        let answer = vec![
            line("51-10", "out", 7, "listens on 8080"),
            line("51-9", "err", 5, "no DB_URL"),
            line("51-10", "out", 1_250, "ready"),
            line("51-10", "err", 8, "a warning"),
            end("51-10", "", false),
            end("51-9", "", false),
            end("51-11", nope, false),
        ];
        (items, answer)
    };
    let sources = Body::Sources(v1::LogSources { items, left_out: 0 });
    std::iter::once(sources).chain(answer).collect()
}
