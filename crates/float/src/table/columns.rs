//! The columns of a list, fitted to the width of a terminal.

/// The least width to which a column is cut.
const CUT_MIN: usize = 8;

/// A column of a list.
pub(super) struct Column {
    pub(super) header: &'static str,
    pub(super) cells: Vec<String>,
}

impl Column {
    /// The width without the blanks and the line beside it.
    fn width(&self) -> usize {
        self.cells.iter().map(|cell| text_width(cell)).chain([self.header.len()]).max().unwrap_or_default()
    }
}

/// Leaves out spare columns, the first of them first, and cuts the widest ones, until the table
/// fits or can't be smaller.
pub(super) fn fit(columns: &mut Vec<Column>, spare: &[&str], width: usize) {
    leave_out(columns, spare, width);
    cut(columns, width);
}

/// The width of a table: each column has a blank on both sides and a line after it.
fn table_width(columns: &[Column]) -> usize {
    columns.iter().map(|column| column.width() + 3).sum::<usize>() + 1
}

fn leave_out(columns: &mut Vec<Column>, spare: &[&str], width: usize) {
    for spare in spare {
        if table_width(columns) <= width {
            return;
        }
        columns.retain(|column| column.header != *spare);
    }
}

/// Cuts the widest columns until the table fits or no column can be cut.
fn cut(columns: &mut [Column], width: usize) {
    while table_width(columns) > width {
        let over = table_width(columns) - width;
        let Some(widest) = columns.iter_mut().max_by_key(|column| column.width()) else { return };
        let now = widest.width();
        let most = now.saturating_sub(over).max(CUT_MIN).max(widest.header.len());
        if most >= now {
            return;
        }
        for cell in &mut widest.cells {
            shorten(cell, most);
        }
    }
}

/// Cuts a text to a number of columns.
fn shorten(cell: &mut String, most: usize) {
    if text_width(cell) <= most {
        return;
    }
    while text_width(cell) + 1 > most {
        cell.pop();
    }
    cell.push('…');
}

/// The columns that a text takes on a terminal.
fn text_width(text: &str) -> usize {
    text.chars().count()
}
