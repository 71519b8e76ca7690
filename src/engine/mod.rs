//! The judgement: what the leader proposes next.
