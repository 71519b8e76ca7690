//! Supervision of what runs beside others: what a panic said, how often something happened lately, and keeping what
//! holds nothing running.
//!
//! Not here: what follows from it, which is `node`'s, `lead`'s, `dns`'s and `agent`'s own.

use std::{
    any::Any,
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};

use futures_util::FutureExt as _;

use crate::clock::Mono;

/// What a panic said.
pub fn words(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied().or(panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("a panic without words")
}

/// Before something that panicked goes on, so that a lasting fault does not spin.
const PAUSE: Duration = Duration::from_millis(20);

/// Waits for what is made, and makes it again after each panic, which `say` hears in its words.
pub async fn kept<F: Future>(say: impl Fn(&str), make: impl Fn() -> F) -> F::Output {
    loop {
        match AssertUnwindSafe(make()).catch_unwind().await {
            Ok(done) => return done,
            Err(panic) => {
                say(words(panic.as_ref()));
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// The same for a thread.
pub fn kept_here<T>(say: impl Fn(&str), run: impl Fn() -> T) -> T {
    loop {
        match catch_unwind(AssertUnwindSafe(&run)) {
            Ok(done) => return done,
            Err(panic) => {
                say(words(panic.as_ref()));
                std::thread::sleep(PAUSE);
            }
        }
    }
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

    #[tokio::test]
    async fn what_panics_is_told_and_goes_on_until_it_is_done() {
        use std::{cell::RefCell, sync::Mutex};
        let said = Mutex::new(Vec::new());
        let say = |words: &str| said.lock().unwrap().push(words.to_owned());
        let tries = RefCell::new(0);
        let run = || {
            *tries.borrow_mut() += 1;
            let n = *tries.borrow();
            assert!(n % 3 == 0, "fault {n}");
            n
        };
        assert_eq!(kept_here(say, run), 3);
        assert_eq!(kept(say, async || run()).await, 6);
        assert_eq!(*said.lock().unwrap(), ["fault 1", "fault 2", "fault 4", "fault 5"]);
    }

    #[test]
    fn a_panic_is_told_in_its_own_words() {
        let said = |f: fn()| words(std::panic::catch_unwind(f).unwrap_err().as_ref()).to_owned();
        assert_eq!(said(|| panic!("a text")), "a text");
        assert_eq!(said(|| panic!("a text with {}", 5)), "a text with 5");
        assert_eq!(said(|| std::panic::panic_any(5_u8)), "a panic without words");
    }
}
