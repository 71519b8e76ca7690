//! The signals of `run.stop.signal`, by name: one reader, for `apply` and for the agent.
//!
//! Real-time signals are counted as glibc, systemd and Docker count them: RTMIN is the first that programs may use (34
//! on Linux), RTMAX the last (64). Programs stop by them too: an init as systemd by RTMIN+3. Not here: the numbers of
//! this machine (`agent::process`).

use super::ModelError;

/// Those with a name of their own; WINCH is httpd's graceful one.
pub const SIGNALS: [&str; 8] = ["TERM", "INT", "QUIT", "HUP", "USR1", "USR2", "WINCH", "KILL"];

/// RTMAX is RTMIN and so many.
pub const REALTIME: u8 = 30;

/// How far above RTMIN a real-time signal is: of `RTMIN`, `RTMIN+3`, `RTMAX-1`, `RTMAX`; `None` for everything else.
pub fn above_rtmin(name: &str) -> Option<u8> {
    let number = |text: &str| {
        let plain = text.len() <= 2 && text.bytes().all(|b| b.is_ascii_digit());
        text.parse::<u8>().ok().filter(|n| plain && *n <= REALTIME)
    };
    match (name.strip_prefix("RTMIN"), name.strip_prefix("RTMAX")) {
        (Some(""), _) => Some(0),
        (_, Some("")) => Some(REALTIME),
        (Some(up), _) => number(up.strip_prefix('+')?),
        (_, Some(down)) => Some(REALTIME - number(down.strip_prefix('-')?)?),
        (None, None) => None,
    }
}

/// Refuses what is no signal that stops programs; the error says which are.
pub(super) fn check(field: &str, name: &str) -> Result<(), ModelError> {
    if SIGNALS.contains(&name) || above_rtmin(name).is_some() {
        return Ok(());
    }
    let named = SIGNALS.join(", ");
    let problem = format!(
        "{name:?} is not one of {named}, RTMIN, RTMIN+1 to RTMIN+{REALTIME}, RTMAX-{REALTIME} to RTMAX-1, RTMAX: write one of these, with or \
         without SIG"
    );
    Err(ModelError::field(field, problem))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn real_time_signals_are_counted_from_both_ends() {
        for (name, n) in
            [("RTMIN", 0), ("RTMIN+0", 0), ("RTMIN+3", 3), ("RTMIN+30", 30), ("RTMAX", 30), ("RTMAX-0", 30)]
        {
            assert_eq!(above_rtmin(name), Some(n), "{name}");
        }
        assert_eq!((above_rtmin("RTMAX-1"), above_rtmin("RTMAX-30")), (Some(29), Some(0)));
        for name in
            ["RTMIN+31", "RTMAX-31", "RTMIN-1", "RTMAX+1", "RTMIN+", "RTMIN++3", "RTMIN+ 3", "RTMIN+-3", "RTMIN3"]
        {
            assert_eq!(above_rtmin(name), None, "{name}");
        }
        for name in ["RTMIN+300", "RT", "rtmin", "34", "TERM", ""] {
            assert_eq!(above_rtmin(name), None, "{name}");
        }
    }

    #[test]
    fn what_is_no_stop_signal_is_refused_with_all_that_are() {
        for good in SIGNALS.into_iter().chain(["RTMIN+3", "RTMAX-4"]) {
            assert_eq!(check("run.stop.signal", good), Ok(()));
        }
        for bad in ["STOP", "CHLD", "RTMIN+31", "15", "TERM+1"] {
            let said = check("run.stop.signal", bad).unwrap_err().to_string();
            let all =
                ["run.stop.signal", bad, "TERM, INT", "KILL, RTMIN, RTMIN+1 to RTMIN+30, RTMAX-30 to RTMAX-1, RTMAX"];
            assert!(all.iter().all(|w| said.contains(w)), "{said}");
        }
    }
}
