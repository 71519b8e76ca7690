//! In which order lines of many instances are printed: instance after instance while what was there comes, and then as
//! they come.
//!
//! Invariants: an instance's lines are in the order of their times, and those of one stream in that of the stream; an
//! instance that is not through keeps others back for [`PATIENCE`] at most. Not here: printing.

use std::{collections::VecDeque, time::Duration};

use super::LogLine;
use crate::wire::v1;

/// How long nothing may come while instances wait for those before them.
pub(super) const PATIENCE: Duration = Duration::from_millis(300);

/// What may be printed now.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ready {
    Line(LogLine),
    /// About a log, for standard error.
    Remark(String),
}

/// All instances, in the order that the node gave.
#[derive(Debug)]
pub(super) struct Order {
    all: Vec<Instance>,
    /// Last lines of each to begin with.
    lines: usize,
    patient: bool,
    ready: Vec<Ready>,
}

#[derive(Debug)]
struct Instance {
    source: v1::LogSource,
    out: VecDeque<LogLine>,
    err: VecDeque<LogLine>,
    remarks: Vec<String>,
    turn: Turn,
}

/// How far an instance is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    /// What was there comes.
    Coming,
    /// It is complete and waits for those before it.
    Waits,
    /// It is printed, and what comes is printed as it comes.
    Over,
}

impl Order {
    /// `lines` of each to begin with; all that come, if that is not said.
    pub fn new(lines: Option<u32>) -> Self {
        let lines = lines.and_then(|n| usize::try_from(n).ok()).unwrap_or(usize::MAX);
        Self { all: Vec::new(), lines, patient: true, ready: Vec::new() }
    }

    /// Who will be heard.
    pub fn expect(&mut self, sources: Vec<v1::LogSource>) {
        let instance = |source| Instance {
            source,
            out: VecDeque::new(),
            err: VecDeque::new(),
            remarks: Vec::new(),
            turn: Turn::Coming,
        };
        self.all = sources.into_iter().map(instance).collect();
    }

    /// Takes a line, or a remark of an agent.
    pub fn take(&mut self, chunk: v1::LogChunk) {
        let Some(of) = self.all.iter_mut().find(|i| i.source.instance == chunk.instance) else { return };
        if chunk.stream == "note" {
            let remark = of.remark(&chunk.line);
            match of.turn {
                Turn::Coming | Turn::Waits => of.remarks.push(remark),
                Turn::Over => self.ready.push(Ready::Remark(remark)),
            }
            return;
        }
        let v1::LogChunk { instance, worker, stream, line, wall_ms, .. } = chunk;
        let line = LogLine { wall_ms, version: of.source.version.clone(), instance, worker, stream, line };
        match (of.turn, line.stream.as_str()) {
            (Turn::Over, _) => self.ready.push(Ready::Line(line)),
            (Turn::Coming | Turn::Waits, "err") => of.err.push_back(line),
            (Turn::Coming | Turn::Waits, _) => of.out.push_back(line),
        }
    }

    /// Takes the end of what was there of an instance.
    pub fn end(&mut self, end: &v1::LogEnd) {
        let Some(of) = self.all.iter_mut().find(|i| i.source.instance == end.instance) else { return };
        let remark = (!end.why.is_empty()).then(|| of.remark(&end.why));
        match of.turn {
            Turn::Coming => {
                of.remarks.extend(remark);
                of.turn = Turn::Waits;
            }
            Turn::Waits => of.remarks.extend(remark),
            Turn::Over => self.ready.extend(remark.map(Ready::Remark)),
        }
    }

    /// Whether some are complete and wait for one that is not.
    pub fn keeps_back(&self) -> bool {
        self.patient && self.all.iter().any(|i| i.turn == Turn::Waits)
    }

    /// From now on nobody waits for those before it.
    pub fn wait_no_more(&mut self) {
        self.patient = false;
    }

    /// The answer is over; whether it lacks the end of an instance.
    pub fn close(&mut self) -> bool {
        let coming = self.all.iter().filter(|i| i.turn == Turn::Coming);
        let coming: Vec<_> = coming.map(|i| i.source.instance.clone()).collect();
        let lacks = !coming.is_empty();
        for instance in coming {
            let why = "may have more lines: the node has ended its answer".into();
            self.end(&v1::LogEnd { instance, why, missing: true });
        }
        lacks
    }

    /// What may be printed now, once.
    pub fn ready(&mut self) -> Vec<Ready> {
        for of in &mut self.all {
            match of.turn {
                Turn::Coming if self.patient => break,
                Turn::Coming | Turn::Over => {}
                Turn::Waits => {
                    of.turn = Turn::Over;
                    self.ready.extend(of.lines(self.lines).into_iter().map(Ready::Line));
                    self.ready.extend(of.remarks.drain(..).map(Ready::Remark));
                }
            }
        }
        std::mem::take(&mut self.ready)
    }
}

impl Instance {
    fn remark(&self, what: &str) -> String {
        format!("{} ({} on {}) {what}", self.source.instance, self.source.version, self.source.worker)
    }

    /// The last lines of both streams by their times.
    fn lines(&mut self, most: usize) -> Vec<LogLine> {
        let mut all = Vec::with_capacity(self.out.len() + self.err.len());
        while let Some(next) = match (self.out.front(), self.err.front()) {
            (Some(out), Some(err)) if err.wall_ms < out.wall_ms => self.err.pop_front(),
            (Some(_), _) => self.out.pop_front(),
            (None, _) => self.err.pop_front(),
        } {
            all.push(next);
        }
        all.split_off(all.len().saturating_sub(most))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(lines: Option<u32>) -> Order {
        let mut order = Order::new(lines);
        let source = |id: &str| v1::LogSource { instance: id.into(), worker: "w1".into(), version: "1.1.0".into() };
        order.expect(["512-0", "9-0", "51-0"].map(source).to_vec());
        order
    }

    fn line(order: &mut Order, instance: &str, stream: &str, wall_ms: u64, text: &str) {
        let (instance, stream, line) = (instance.into(), stream.into(), text.into());
        order.take(v1::LogChunk { instance, stream, line, wall_ms, ..Default::default() });
    }

    fn end(order: &mut Order, instance: &str, why: &str) {
        order.end(&v1::LogEnd { instance: instance.into(), why: why.into(), missing: false });
    }

    fn printed(order: &mut Order) -> Vec<String> {
        let text = |ready| match ready {
            Ready::Line(line) => format!("{} {}", line.instance, line.line),
            Ready::Remark(text) => format!("! {text}"),
        };
        order.ready().into_iter().map(text).collect()
    }

    #[test]
    fn instances_come_in_their_order_and_their_streams_by_time() {
        let mut order = order(Some(3));
        for (at, stream, text) in
            [(30, "out", "d"), (10, "out", "a"), (20, "err", "b"), (25, "err", "c"), (5, "err", "e")]
        {
            line(&mut order, "9-0", stream, at, text);
        }
        end(&mut order, "9-0", "");
        assert_eq!((printed(&mut order), order.keeps_back()), (vec![], true));
        end(&mut order, "512-0", "never started: no bin/nope");
        // A stream stays as it was written, whatever its clock did; and there are three lines at most.
        let wanted = ["! 512-0 (1.1.0 on w1) never started: no bin/nope", "9-0 e", "9-0 d", "9-0 a"];
        assert_eq!(printed(&mut order), wanted);
        assert!(!order.keeps_back());
        line(&mut order, "9-0", "out", 40, "live");
        line(&mut order, "51-0", "out", 40, "kept");
        assert_eq!(printed(&mut order), ["9-0 live"]);
        end(&mut order, "51-0", "");
        assert_eq!(printed(&mut order), ["51-0 kept"]);
    }

    #[test]
    fn an_instance_that_does_not_answer_keeps_nobody_back_for_long() {
        let mut order = order(None);
        line(&mut order, "9-0", "out", 1, "ready");
        end(&mut order, "9-0", "");
        line(&mut order, "51-0", "out", 1, "half");
        assert_eq!((printed(&mut order), order.keeps_back()), (vec![], true));
        order.wait_no_more();
        assert_eq!((printed(&mut order), order.keeps_back()), (vec!["9-0 ready".to_string()], false));
        line(&mut order, "51-0", "note", 0, "cut");
        end(&mut order, "51-0", "");
        assert_eq!(printed(&mut order), ["51-0 half", "! 51-0 (1.1.0 on w1) cut"]);
        end(&mut order, "512-0", "gives no log: worker w1 did not answer within 3 s");
        let wanted = "! 512-0 (1.1.0 on w1) gives no log: worker w1 did not answer within 3 s";
        assert_eq!(printed(&mut order), [wanted]);
        end(&mut order, "51-0", "may have more lines: worker w1 has ended its answer");
        assert_eq!(printed(&mut order).len(), 1);
    }

    #[test]
    fn an_answer_that_ends_early_is_printed_and_said_to_be_a_part() {
        let mut order = order(None);
        line(&mut order, "9-0", "out", 1, "half");
        end(&mut order, "512-0", "");
        end(&mut order, "51-0", "");
        assert!(order.close());
        let part = "! 9-0 (1.1.0 on w1) may have more lines: the node has ended its answer";
        assert_eq!(printed(&mut order), ["9-0 half", part]);
        assert!(!order.close());
    }
}
