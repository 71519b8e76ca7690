//! The only module that names openraft.
