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

/// Columns with two spaces between them and nothing else. An empty table says so in `empty`. Where not even cut columns
/// have room, the last ones are left out, and a line says which.
pub fn table(header: &[&str], rows: Vec<Vec<String>>, empty: &str) -> String {
    if rows.is_empty() {
        return empty.to_string();
    }
    let width = super::capture::width().unwrap_or_else(|| WIDTH.load(Ordering::Relaxed));
    let rows =
        rows.into_iter().map(|row| row.iter().map(|cell| harmless(cell).replace('\n', "\\n")).collect()).collect();
    let (room, rows) = fitting(header, rows, width);
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header[..room].to_vec());
    for row in rows {
        table.add_row(row);
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, GAP as u16));
    }
    let left_out = header[room..].iter().filter(|h| !h.is_empty()).copied().collect::<Vec<_>>().join(", ");
    let note = if left_out.is_empty() { String::new() } else { format!("\n(no room for {left_out}: -o wide)") };
    table.trim_fmt() + &note
}

/// A text of lines without what would move a terminal's cursor, colour it, or turn its text around: others wrote parts.
pub fn harmless(text: &str) -> String {
    let turns =
        |c: char| matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let plain = |c: char| {
        if (c.is_control() && c != '\n') || turns(c) { c.escape_default().to_string() } else { c.to_string() }
    };
    text.chars().map(plain).collect()
}

/// How many columns have room, and the rows with these, the widest cut until a line has `width` characters. The first
/// column always has room.
fn fitting(header: &[&str], mut rows: Vec<Vec<String>>, width: usize) -> (usize, Vec<Vec<String>>) {
    if width == 0 {
        return (header.len(), rows);
    }
    let long = |text: &str| text.chars().count();
    let mut widths: Vec<usize> = header.iter().map(|h| long(h)).collect();
    for row in &rows {
        for (w, cell) in widths.iter_mut().zip(row) {
            *w = (*w).max(long(cell));
        }
    }
    let line = |widths: &[usize]| widths.iter().sum::<usize>() + GAP * widths.len().saturating_sub(1);
    while line(&widths) > width {
        let least = |i: usize| header.get(i).map_or(0, |h| long(h)).max(NARROWEST);
        // The rightmost of the widest: names stand on the left.
        let Some((_, widest)) = widths.iter_mut().enumerate().filter(|(i, w)| **w > least(*i)).max_by_key(|(_, w)| **w)
        else {
            break;
        };
        *widest -= 1;
    }
    while line(&widths) > width && widths.len() > 1 {
        widths.pop();
    }
    for row in &mut rows {
        row.truncate(widths.len());
        for (cell, w) in row.iter_mut().zip(&widths) {
            if long(cell) > *w {
                *cell = cell.chars().take(w - 1).chain(['…']).collect();
            }
        }
    }
    (widths.len(), rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_widest_column_is_cut_to_the_screen_and_names_last() {
        let row = vec!["r-7".to_string(), "failed".into(), "errors of 2.0.0 30.8 % > 5 % in 40 requests".into()];
        let (_, cut) = fitting(&["ROLLOUT", "STATUS", "REASON"], vec![row.clone()], 40);
        assert_eq!(cut[0][..2], row[..2]);
        assert_eq!(cut[0][2], "errors of 2.0.0 30.8 %…");
        assert_eq!(7 + 2 + 6 + 2 + cut[0][2].chars().count(), 40);
        assert_eq!(fitting(&["ROLLOUT", "STATUS", "REASON"], vec![row.clone()], 0).1[0], row);
        let (_, narrow) = fitting(&["ROLLOUT", "STATUS", "REASON"], vec![row.clone()], 29);
        assert_eq!(narrow[0][2].chars().count(), NARROWEST, "not to nothing");
        let (room, narrow) = fitting(&["ROLLOUT", "STATUS", "REASON"], vec![row], 28);
        assert_eq!((room, narrow[0].len()), (2, 2), "what has no room is left out");
    }

    #[test]
    fn what_others_wrote_neither_moves_the_cursor_nor_turns_the_text_around() {
        let text = "é\u{202e}dab\u{1b}[31m\n";
        assert_eq!(harmless(text), "é\\u{202e}dab\\u{1b}[31m\n");
        let cell = table(&["NAME"], vec![vec![text.into()]], "");
        assert_eq!(cell, "NAME\né\\u{202e}dab\\u{1b}[31m\\n");
    }
}
