//! `DeliverySettled`: a delivery came to its end; it is settled once, by the attempt that made it.

use crate::state::{base::prelude::*, fleet::workers};

fields! {
    /// A delivery came to its end.
    #[derive(Debug, Clone, PartialEq)]
    pub struct DeliverySettled {
        1 [required] pub key: DeliveryKey,
        /// Attempt of the owning step.
        2 pub attempt: u32,
        /// Whether every target answered well.
        3 pub ok: bool,
        /// What it answered, 1 KiB at most.
        4 pub detail: String,
    }
}

impl Apply for DeliverySettled {
    fn apply(&self, cx: &mut Cx<'_>) -> Done {
        let &Self { key, attempt, ok, ref detail } = self;
        let Some(d) = cx.s.outbox.get(&key).cloned() else {
            return guard(format!("delivery ({}, {}) is settled already", key.index, key.ordinal));
        };
        let mut r = cx.rollout(d.rollout)?;
        let Some(row) = r.steps.get_mut(d.step as usize) else { return guard("its step is gone") };
        if row.status != StepStatus::Running || row.attempt != attempt || d.attempt != attempt {
            return guard(format!("attempt {attempt} is not the running one"));
        }
        let detail = workers::cut(detail);
        row.hook = Some((ok, detail.clone()));
        cx.s.outbox.remove(&key);
        cx.emit(EventBody::HookSettled { rollout: r.id, deployment: r.deployment.clone(), ok, detail });
        cx.put_rollout(r);
        Ok(())
    }
}
