//! Who gets which version.
