//! Pages of lists: rows by a key that sorts, the index they were read at, and where to go on.

use crate::{state::State, wire::v1};

const DEFAULT: usize = 500;
const MOST: usize = 5000;

/// One page of `rows` (key, row); keys need not be sorted yet.
pub(super) fn page<T>(
    state: &State,
    ask: Option<&v1::Page>,
    mut rows: Vec<(String, T)>,
) -> (Option<v1::PageInfo>, Vec<T>) {
    let limit = match ask.map_or(0, |p| p.limit) {
        0 => DEFAULT,
        n => usize::try_from(n).unwrap_or(MOST).min(MOST),
    };
    rows.sort_by(|a, b| a.0.cmp(&b.0));
    if let Some(after) = ask.map(|p| p.after.as_str()).filter(|a| !a.is_empty()) {
        rows.retain(|(key, _)| key.as_str() > after);
    }
    let next = if rows.len() > limit { rows.get(limit - 1).map(|(k, _)| k.clone()) } else { None };
    rows.truncate(limit);
    let info = v1::PageInfo { index: state.applied.index, next: next.unwrap_or_default(), now_ms: state.now.0 };
    (Some(info), rows.into_iter().map(|(_, row)| row).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_join_without_gap_or_overlap() {
        let state = State::default();
        let rows = || (0..7).map(|n| (format!("{n:03}"), n)).collect::<Vec<_>>();
        let (mut after, mut all) = (String::new(), Vec::new());
        loop {
            let ask = v1::Page { limit: 3, after: after.clone() };
            let (info, items) = page(&state, Some(&ask), rows());
            all.extend(items);
            after = info.unwrap().next;
            if after.is_empty() {
                break;
            }
        }
        assert_eq!(all, (0..7).collect::<Vec<_>>());
    }
}
