//! The leader's loop.
