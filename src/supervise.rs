//! Supervision of what runs beside others: what a panic said, and how often something happened lately.
//!
//! Not here: what follows from it, which is `node`'s, `lead`'s, `dns`'s and `agent`'s own.

use std::{any::Any, collections::VecDeque};

use crate::clock::Mono;

/// What a panic said.
pub fn words(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied().or(panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("a panic without words")
}

/// When something happened, as far back as a window of so many milliseconds reaches.
#[derive(Debug)]
pub struct Lately {
    window_ms: u64,
    at: VecDeque<Mono>,
}

impl Lately {
    /// Nothing happened yet.
    pub fn within(window_ms: u64) -> Self {
        Self { window_ms, at: VecDeque::new() }
    }

    /// Notes that it happened now; how often it did in the window, this time too.
    pub fn note(&mut self, now: Mono) -> usize {
        while self.at.front().is_some_and(|at| now.since(*at) > self.window_ms) {
            self.at.pop_front();
        }
        self.at.push_back(now);
        self.at.len()
    }

    /// How often it had happened in the window when it last did.
    pub fn times(&self) -> usize {
        self.at.len()
    }

    /// When it last did.
    pub fn last(&self) -> Option<Mono> {
        self.at.back().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_in_the_window_counts() {
        let mut lately = Lately::within(100);
        assert_eq!((lately.times(), lately.last()), (0, None));
        let counts: Vec<usize> = [0, 50, 100, 101, 250].into_iter().map(|t| lately.note(Mono(t))).collect();
        assert_eq!(counts, [1, 2, 3, 3, 1]);
        assert_eq!((lately.times(), lately.last()), (1, Some(Mono(250))));
    }

    #[test]
    fn a_panic_is_told_in_its_own_words() {
        let said = |f: fn()| words(std::panic::catch_unwind(f).unwrap_err().as_ref()).to_owned();
        assert_eq!(said(|| panic!("a text")), "a text");
        assert_eq!(said(|| panic!("a text with {}", 5)), "a text with 5");
        assert_eq!(said(|| std::panic::panic_any(5_u8)), "a panic without words");
    }
}
