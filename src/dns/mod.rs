//! DNS answers from State.
