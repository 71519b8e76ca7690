//! What the demo prints: a status line that is redrawn on a terminal, plain lines elsewhere.

use crate::console;

/// The demo's voice.
pub struct Ui {
    terminal: bool,
}

impl Ui {
    /// Looks at standard output.
    pub fn new() -> Self {
        Self { terminal: console::out_is_terminal() }
    }

    /// A line that stays.
    pub fn say(&self, line: &str) {
        let clear = if self.terminal { "\r\x1b[2K" } else { "" };
        // A reader that went away is no reason to leave processes behind: output errors are ignored.
        let _ = console::line(&format!("{clear}{line}"));
    }

    /// The heading of a phase.
    pub fn heading(&self, title: &str) {
        let (on, off) = if self.terminal { ("\x1b[1m", "\x1b[0m") } else { ("", "") };
        self.say(&format!("\n{on}== {title}{off}"));
    }

    /// The line that is redrawn; plain output shows it only when `plain` is set.
    pub fn status(&self, line: &str, plain: bool) {
        if self.terminal {
            let short: String = line.chars().take(118).collect();
            let _ = console::put(&format!("\r\x1b[2K{short}"));
        } else if plain {
            self.say(line);
        }
    }
}
