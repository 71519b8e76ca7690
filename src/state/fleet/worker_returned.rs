//! `WorkerReturned`: a lost worker reported again; what was counted out on it counts again.

use super::workers;
use crate::state::base::prelude::*;

fields! {
    /// A lost worker reported again.
    #[derive(Debug, Clone, PartialEq)]
    pub struct WorkerReturned {
        1 [required] pub worker: WorkerName,
    }
}

impl Apply for WorkerReturned {
    fn apply(&self, cx: &mut Cx<'_>) -> Done {
        let Self { worker: name } = self;
        let Some(mut w) = cx.s.workers.get(name).cloned() else { return Err(workers::unknown(cx, name)) };
        if w.presence == Presence::Ready {
            return guard(format!("worker {name} is not lost"));
        }
        w.presence = Presence::Ready;
        // It is here, so no other machine takes its place.
        (w.lost_at, w.rekey_until) = (None, None);
        cx.put_worker(w);
        back(cx, name);
        cx.emit(EventBody::WorkerChanged { worker: name.clone(), what: "returned".into() });
        Ok(())
    }
}

/// What was counted out on a worker counts again.
pub(in crate::state) fn back(cx: &mut Cx<'_>, worker: &WorkerName) {
    let rows: Vec<Instance> = cx.s.instances.on(worker).filter(|i| i.counted_out.is_some()).cloned().collect();
    for mut i in rows {
        i.counted_out = None;
        cx.put_instance(i);
    }
}
