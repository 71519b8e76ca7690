//! The only reader of configuration files and environment.
