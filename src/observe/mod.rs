//! What the leader has heard.
