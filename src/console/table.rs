//! Tables for people.

use std::sync::atomic::{AtomicUsize, Ordering};

use comfy_table::{ContentArrangement, Table, presets};

/// Columns of the screen that tables are cut to; 0: they are not cut.
static WIDTH: AtomicUsize = AtomicUsize::new(0);
/// No column is cut below this.
const NARROWEST: usize = 12;
/// Between two columns.
const GAP: usize = 2;

/// From now on tables fit into so many columns, if they can; `None`: they are as wide as they are.
pub fn set_width(columns: Option<usize>) {
    WIDTH.store(columns.unwrap_or(0), Ordering::Relaxed);
}

/// Columns with two spaces between them and nothing else. An empty table says so in `empty`.
pub fn table(header: &[&str], rows: Vec<Vec<String>>, empty: &str) -> String {
    if rows.is_empty() {
        return empty.to_string();
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header.to_vec());
    for row in fitting(header, rows, WIDTH.load(Ordering::Relaxed)) {
        table.add_row(row);
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, GAP as u16));
    }
    table.trim_fmt()
}

/// The rows with the widest columns cut until a line has `width` characters, as far as that goes.
fn fitting(header: &[&str], mut rows: Vec<Vec<String>>, width: usize) -> Vec<Vec<String>> {
    if width == 0 {
        return rows;
    }
    let long = |text: &str| text.chars().count();
    let mut widths: Vec<usize> = header.iter().map(|h| long(h)).collect();
    for row in &rows {
        for (w, cell) in widths.iter_mut().zip(row) {
            *w = (*w).max(long(cell));
        }
    }
    while widths.iter().sum::<usize>() + GAP * widths.len().saturating_sub(1) > width {
        let least = |i: usize| header.get(i).map_or(0, |h| long(h)).max(NARROWEST);
        // The rightmost of the widest: names stand on the left.
        let Some((_, widest)) = widths.iter_mut().enumerate().filter(|(i, w)| **w > least(*i)).max_by_key(|(_, w)| **w)
        else {
            break;
        };
        *widest -= 1;
    }
    for row in &mut rows {
        for (cell, w) in row.iter_mut().zip(&widths) {
            if long(cell) > *w {
                *cell = cell.chars().take(w - 1).chain(['…']).collect();
            }
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_widest_column_is_cut_to_the_screen_and_names_last() {
        let row = vec!["r-7".to_string(), "failed".into(), "errors of 2.0.0 30.8 % > 5 % in 40 requests".into()];
        let cut = fitting(&["ROLLOUT", "STATUS", "REASON"], vec![row.clone()], 40);
        assert_eq!(cut[0][..2], row[..2]);
        assert_eq!(cut[0][2], "errors of 2.0.0 30.8 %…");
        assert_eq!(7 + 2 + 6 + 2 + cut[0][2].chars().count(), 40);
        assert_eq!(fitting(&["ROLLOUT", "STATUS", "REASON"], vec![row.clone()], 0)[0], row);
        let narrow = fitting(&["ROLLOUT", "STATUS", "REASON"], vec![row], 5);
        assert_eq!(narrow[0][2].chars().count(), NARROWEST, "not to nothing");
    }
}
