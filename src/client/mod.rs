//! Finds a node and retries.
