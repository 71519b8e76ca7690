//! `StopPermitted`: entries leave the assignments; who waits for a replaced one's place takes it in the same
//! generation.

use super::{
    alloc,
    assign::{self, Allow},
    drain,
};
use crate::state::base::prelude::*;

fields! {
    /// Drained instances may be stopped.
    #[derive(Debug, Clone, PartialEq)]
    pub struct StopPermitted {
        1 [required] pub deployment: DeploymentId,
        2 pub instances: Vec<InstanceId>,
    }
}

impl Apply for StopPermitted {
    fn apply(&self, cx: &mut Cx<'_>) -> Done {
        let Self { deployment, instances: ids } = self;
        if ids.is_empty() {
            return guard("no instance named");
        }
        let mut stopping = Vec::new();
        for id in ids {
            let i = cx.instance_of(deployment, *id)?;
            if !drain::clear(&i, cx.now()) {
                return guard(format!("{id} is {} and may not be stopped yet", i.life));
            }
            stopping.push(i);
        }
        for mut i in stopping {
            cx.move_life(&mut i, Life::Stopping);
            cx.put_instance(i.clone());
            match successor(cx.s, &i) {
                None => assign::remove(cx, &i.worker, deployment, &[i.id]),
                Some(next) => {
                    alloc::hand_over(cx, &i.worker, i.id, next.id);
                    let entry = assign::entry(&next);
                    assign::edit(cx, &i.worker, deployment, Allow::Set(Permit::Activate), true, |c| {
                        c.instances.retain(|e| e.id != i.id);
                        c.instances.push(entry);
                    });
                }
            }
        }
        Ok(())
    }
}

/// The instance that waits for this one's place.
fn successor(s: &State, old: &Instance) -> Option<Instance> {
    let waiting = |i: &&Instance| {
        i.replaces == Some(old.id) && i.life == Life::Starting && i.worker == old.worker && !assign::has_entry(s, i)
    };
    s.instances_of(&old.deployment).find(waiting).cloned()
}
