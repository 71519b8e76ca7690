//! Feature levels: what every node must be able to read.
//!
//! Invariant: the active level only rises, by one, and never above what a node that is not removed supports.

use crate::state::base::prelude::*;

/// A command that nodes at the active level cannot read.
pub fn too_new(command: &str, needs: u32, level: u32) -> Rejection {
    Rejection::Precondition(format!(
        "{command} needs feature level {needs}, the cluster is at {level}: upgrade every node, then `slipway cluster upgrade finalize`"
    ))
}

/// Refuses a program that cannot take part at the active level.
pub(in crate::state) fn check_level(cx: &Cx<'_>, name: &str, min: u32, max: u32) -> Done {
    let level = cx.s.level;
    if max < level {
        return Err(Rejection::Precondition(format!(
            "node {name} is too old: it supports feature levels {min} to {max}, the cluster is at {level}: install a newer version there"
        )));
    }
    if min > level {
        return Err(Rejection::Precondition(format!(
            "node {name} is too new: it supports feature levels {min} to {max}, the cluster is at {level}: install the version \
             before it there, and `slipway cluster upgrade finalize` once every node has it"
        )));
    }
    Ok(())
}
