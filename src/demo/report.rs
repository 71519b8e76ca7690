//! The table at the end, and the same as one JSON object on the very last line.

use serde::Serialize;

use crate::console::table;

const HEADER: [&str; 10] = [
    "phase",
    "seconds",
    "requests",
    "failed",
    "own errors",
    "wanted",
    "seen",
    "kill to progress",
    "traffic back",
    "capacity back",
];

/// One row of the table.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Phase {
    pub name: String,
    /// How long it took, seconds.
    pub seconds: f64,
    /// Requests of the probe in it.
    pub requests: u64,
    /// Failures that 4.0.0 did not cause itself.
    pub failed: u64,
    /// 4.0.0's own errors.
    pub own_errors: u64,
    /// Weight of the new version, percent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub share_wanted: Option<f64>,
    /// Share of requests that clients saw answered by it, percent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub share_seen: Option<f64>,
    /// Milliseconds until traffic was back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub traffic_back_ms: Option<u64>,
    /// Milliseconds until capacity was back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capacity_back_ms: Option<u64>,
    /// Milliseconds from the kill of the leader to progress.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kill_to_progress_ms: Option<u64>,
}

/// Everything the demo concludes.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Report {
    /// Whether every expectation held.
    pub ok: bool,
    /// Requests failed for any reason but 4.0.0's own errors.
    pub failed_requests: u64,
    /// From `kill -9` of the leader to the first entry another leader had applied.
    pub leader_kill_to_progress_ms: Option<u64>,
    /// From the `rollback` command to the old version being served by every node.
    pub rollback_ms: Option<u64>,
    /// Largest difference between wanted and seen share, percentage points.
    pub share_error_max_pp: Option<f64>,
    /// Milliseconds by which the probe itself was behind at most: the machine's part in what it missed.
    pub probe_late_max_ms: u64,
    pub phases: Vec<Phase>,
    /// Expectations that did not hold.
    pub complaints: Vec<String>,
}

impl Report {
    /// The table, for people.
    pub fn table(&self) -> String {
        let percent = |p: Option<f64>| p.map_or(String::new(), |p| format!("{p:.1} %"));
        let ms = |m: Option<u64>| m.map_or(String::new(), |m| format!("{m} ms"));
        let row = |p: &Phase| {
            vec![
                p.name.clone(),
                format!("{:.1}", p.seconds),
                p.requests.to_string(),
                p.failed.to_string(),
                p.own_errors.to_string(),
                percent(p.share_wanted),
                percent(p.share_seen),
                ms(p.kill_to_progress_ms),
                ms(p.traffic_back_ms),
                ms(p.capacity_back_ms),
            ]
        };
        table(&HEADER, self.phases.iter().map(row).collect(), "nothing was seen")
    }

    /// One line of JSON.
    pub fn json(&self) -> String {
        // Numbers and texts only: it cannot fail, and a failure must still end in a line that says not ok.
        serde_json::to_string(self).unwrap_or_else(|_| "{\"ok\":false}".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_is_one_json_object() {
        let report =
            Report { ok: true, phases: vec![Phase { name: "25 %".into(), ..Phase::default() }], ..Report::default() };
        let value: serde_json::Value = serde_json::from_str(&report.json()).unwrap();
        for key in
            ["ok", "failed_requests", "leader_kill_to_progress_ms", "rollback_ms", "share_error_max_pp", "phases"]
        {
            assert!(value.get(key).is_some(), "{key}");
        }
        assert!(!report.json().contains('\n') && report.table().contains("25 %"));
    }
}
