//! Outbox deliveries.
