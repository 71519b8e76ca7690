//! For tests: what a thread prints is kept instead of printed, lines of standard error with a mark.
//!
//! Not here: threads other than the one that began it.

#[cfg(test)]
use std::cell::{Cell, RefCell};

#[cfg(test)]
thread_local! {
    static KEPT: RefCell<Option<String>> = const { RefCell::new(None) };
    static WIDTH: Cell<Option<usize>> = const { Cell::new(None) };
}

/// From now on tables of this thread fit into so many columns.
#[cfg(test)]
pub fn set_width(columns: Option<usize>) {
    WIDTH.set(columns);
}

/// Into how many columns tables of this thread fit, if somebody said it.
#[cfg(test)]
pub(super) fn width() -> Option<usize> {
    WIDTH.get()
}

#[cfg(not(test))]
pub(super) fn width() -> Option<usize> {
    None
}

/// From now on what this thread prints is kept.
#[cfg(test)]
pub fn begin() {
    KEPT.with_borrow_mut(|kept| *kept = Some(String::new()));
}

/// What was kept; from now on it is printed again.
#[cfg(test)]
pub fn end() -> String {
    KEPT.with_borrow_mut(Option::take).unwrap_or_default()
}

/// Whether the text was kept.
#[cfg(test)]
pub(super) fn keeps(mark: &str, text: &str) -> bool {
    KEPT.with_borrow_mut(|kept| {
        let Some(kept) = kept else { return false };
        text.lines().for_each(|line| *kept += &format!("{mark}{line}\n"));
        true
    })
}

#[cfg(not(test))]
pub(super) fn keeps(_: &str, _: &str) -> bool {
    false
}
