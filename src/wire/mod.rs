//! Generated protobuf and conversions.
