//! Printing. A reader that has gone away (`| head`) ends the printing, not the program in a panic.

use std::io::Write;

use errdefs::Error;

/// To standard output.
pub fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// To standard output; false when nobody reads it any more.
pub fn write(text: &str) -> bool {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).is_ok()
}

/// To standard error.
pub fn note(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// An error, with its hint on a line of its own. Names in it may be an image's.
pub fn complain(error: &Error) {
    note(&plain(&format!("berth: {error}")));
    if let Some(hint) = error.find_hint() {
        note(&plain(&format!("hint: {hint}")));
    }
}

/// What a container or an image made up must not steer the user's terminal: of the control characters only new lines
/// and tabs are left.
pub fn plain(text: &str) -> std::borrow::Cow<'_, str> {
    let steers = |c: char| c.is_control() && c != '\n' && c != '\t';
    match text.contains(steers) {
        true => text.chars().map(|c| if steers(c) { '\u{fffd}' } else { c }).collect(),
        false => text.into(),
    }
}

/// Does something for each word; goes on after an error, prints it, and fails in the end.
pub fn each(words: &[String], mut run: impl FnMut(&str) -> errdefs::Result<()>) -> u8 {
    let mut code = 0;
    for word in words {
        if let Err(error) = run(word) {
            complain(&error);
            code = 1;
        }
    }
    code
}

/// Rows in columns, as Docker's: three blanks between, ten at least.
pub fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter()
            .filter_map(|r| r.get(column))
            .map(|c| c.chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(|c| (width(c) + 3).max(10)).collect();
    let mut text = String::new();
    for row in rows {
        for (column, cell) in row.iter().enumerate() {
            // A cell is one line.
            text.extend(cell.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }));
            if column + 1 < row.len() {
                text.extend(std::iter::repeat_n(' ', widths[column] - cell.chars().count()));
            }
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    #[test]
    fn columns_are_dockers() {
        let rows = [
            vec!["ID".to_owned(), "NAME".into(), "X".into()],
            vec!["a".into(), "a-long-name".into(), "y".into()],
        ];
        assert_eq!(
            super::table(&rows),
            "ID        NAME          X\na         a-long-name   y\n"
        );
    }
}
