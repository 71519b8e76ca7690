//! Cuts the bytes of a log into lines as they come.
//!
//! Invariants: a line is given once, whole or cut at [`MAX_LINE`] with a word that it is; it knows where it begins. Not
//! here: reading (`file`).

/// Longest line that is sent; what is longer is cut.
const MAX_LINE: usize = 8192;

/// A line, and where in the log it begins.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub at: u64,
    pub text: String,
}

#[derive(Debug, Default)]
pub(super) struct Lines {
    rest: Vec<u8>,
    /// Where what is in `rest` begins.
    at: u64,
    /// The rest of a line that was too long goes nowhere.
    skipping: bool,
    pub found: Vec<Line>,
}

impl Lines {
    /// Takes bytes that lie at this place of the log.
    pub fn take(&mut self, mut at: u64, bytes: &[u8]) {
        for part in bytes.split_inclusive(|b| *b == b'\n') {
            let whole = part.ends_with(b"\n");
            if !self.skipping {
                if self.rest.is_empty() {
                    self.at = at;
                }
                let room = (MAX_LINE + 1).saturating_sub(self.rest.len());
                let body = part.strip_suffix(b"\n").unwrap_or(part);
                self.rest.extend_from_slice(body.get(..body.len().min(room)).unwrap_or(body));
                if whole || self.rest.len() > MAX_LINE {
                    self.finish_line();
                    self.skipping = !whole;
                }
            } else if whole {
                self.skipping = false;
            }
            at += part.len() as u64;
        }
    }

    fn finish_line(&mut self) {
        let cut = self.rest.len() > MAX_LINE;
        self.rest.truncate(MAX_LINE);
        let text = String::from_utf8_lossy(&self.rest).trim_end_matches('\r').to_owned();
        let text = if cut { format!("{text} (cut: the line is longer)") } else { text };
        self.found.push(Line { at: self.at, text });
        self.rest.clear();
    }

    /// An unfinished line is the last.
    pub fn finish(&mut self) {
        if !self.rest.is_empty() {
            self.finish_line();
        }
    }

    /// What comes next does not go on where the last bytes ended.
    pub fn forget(&mut self) {
        self.rest.clear();
        self.skipping = false;
    }

    /// Where the unfinished line begins, if there is one.
    pub fn unfinished(&self) -> Option<u64> {
        (!self.rest.is_empty()).then_some(self.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(bytes: &[u8], at_a_time: usize) -> Vec<Line> {
        let mut all = Lines::default();
        let mut at = 100;
        for part in bytes.chunks(at_a_time) {
            all.take(at, part);
            at += part.len() as u64;
        }
        all.finish();
        all.found
    }

    #[test]
    fn lines_are_whole_and_know_where_they_begin() {
        let mut all = Lines::default();
        all.take(0, b"one\r\ntwo\nthr");
        assert_eq!(all.found.iter().map(|l| l.text.as_str()).collect::<Vec<_>>(), ["one", "two"]);
        assert_eq!(all.unfinished(), Some(9));
        all.take(12, b"ee");
        all.finish();
        assert_eq!(all.found.last(), Some(&Line { at: 9, text: "three".into() }));
        for n in 1..20 {
            let found: Vec<_> = lines(b"one\n\ntwo\n", n).into_iter().map(|l| (l.at, l.text)).collect();
            assert_eq!(found, [(100, "one".into()), (104, String::new()), (105, "two".into())], "{n} at a time");
        }
    }

    #[test]
    fn a_line_that_is_too_long_is_cut_once_and_says_so() {
        let long = [vec![b'x'; 3 * MAX_LINE], b"\nnext\n".to_vec()].concat();
        for n in [1, 1000, 64 << 10] {
            let all = lines(&long, n);
            assert_eq!(all.len(), 2, "{n}");
            assert!(all[0].text.ends_with("x (cut: the line is longer)") && all[1].text == "next", "{n}");
        }
        assert_eq!(lines(&vec![b'y'; MAX_LINE], 100)[0].text.len(), MAX_LINE);
    }
}
