//! What State is kept in and written as: persistent tables, frames around bytes. It knows no row.

pub(in crate::state) mod frame;
pub(in crate::state) mod table;
