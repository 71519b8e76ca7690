//! What the demo prints: a status line that is redrawn on a terminal, plain lines elsewhere.

use std::io::{IsTerminal, Write, stdout};

/// The demo's voice.
pub struct Ui {
    terminal: bool,
}

impl Ui {
    /// Looks at standard output.
    pub fn new() -> Self {
        Self { terminal: stdout().is_terminal() }
    }

    /// A line that stays.
    pub fn say(&self, line: &str) {
        let mut out = stdout().lock();
        let clear = if self.terminal { "\r\x1b[2K" } else { "" };
        // A reader that went away is no reason to leave processes behind: output errors are ignored.
        let _ = writeln!(out, "{clear}{line}");
        let _ = out.flush();
    }

    /// The heading of a phase.
    pub fn heading(&self, title: &str) {
        let (on, off) = if self.terminal { ("\x1b[1m", "\x1b[0m") } else { ("", "") };
        self.say(&format!("\n{on}== {title}{off}"));
    }

    /// The line that is redrawn; plain output shows it only when `plain` is set.
    pub fn status(&self, line: &str, plain: bool) {
        if self.terminal {
            let mut out = stdout().lock();
            let short: String = line.chars().take(118).collect();
            let _ = write!(out, "\r\x1b[2K{short}");
            let _ = out.flush();
        } else if plain {
            self.say(line);
        }
    }
}
