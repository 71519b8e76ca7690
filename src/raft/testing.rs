//! What tests of the storage adapters need and nobody else may use.

pub use super::{
    log_store::LogStore,
    machine::{Builder, Machine},
    types::{ApplyOutcome, Sealed, TypeConfig},
};
