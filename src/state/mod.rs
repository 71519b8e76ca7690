//! The law: what a committed command does to State.
