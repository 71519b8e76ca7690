//! Durable bytes: log, snapshots, blobs; knows no Raft rules.
