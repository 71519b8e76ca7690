//! `WorkerLost`: a worker is silent at every node.

use super::workers;
use crate::state::base::prelude::*;

fields! {
    /// A worker is silent at every node.
    #[derive(Debug, Clone, PartialEq)]
    pub struct WorkerLost {
        1 [required] pub worker: WorkerName,
        /// Cluster time of its last report.
        2 pub last_heard: Millis,
    }
}

impl Apply for WorkerLost {
    fn apply(&self, cx: &mut Cx<'_>) -> Done {
        let &Self { worker: ref name, last_heard } = self;
        let Some(mut w) = cx.s.workers.get(name).cloned() else { return Err(workers::unknown(cx, name)) };
        if w.presence == Presence::Lost {
            return guard(format!("worker {name} is lost already"));
        }
        w.presence = Presence::Lost;
        w.lost_at = Some(last_heard.min(cx.now()));
        cx.put_worker(w);
        cx.emit(EventBody::WorkerChanged { worker: name.clone(), what: "lost".into() });
        Ok(())
    }
}
