//! What `ps`, `images` and `volume ls` have in common: tables, templates, JSON lines.

use errdefs::Result;
use serde_json::Value;

use crate::output;
use crate::template::Template;

/// A column: title, and the name of its value in a row.
pub type Column = (&'static str, &'static str);

/// Prints rows as asked: a table of these columns unless there is a format.
pub fn print(format: Option<&str>, columns: &[Column], rows: &[Value]) -> Result<()> {
    let text = |row: &Value, key: &str| match row.get(key) {
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
        None => String::new(),
    };
    match format.unwrap_or("table") {
        "table" => {
            let mut cells = vec![columns.iter().map(|(title, _)| (*title).to_owned()).collect::<Vec<_>>()];
            cells.extend(
                rows.iter()
                    .map(|row| columns.iter().map(|(_, key)| text(row, key)).collect()),
            );
            output::say(&output::table(&cells));
        }
        "json" => rows.iter().for_each(|row| output::say(&format!("{row}\n"))),
        template => {
            let (tabular, body) = template
                .strip_prefix("table ")
                .map_or((false, template), |rest| (true, rest));
            let template = Template::parse(body)?;
            let mut lines = Vec::new();
            if tabular {
                lines.push(template.titles());
            }
            for row in rows {
                lines.push(template.fill(&plain(row))?);
            }
            if tabular {
                let cells: Vec<Vec<String>> = lines
                    .iter()
                    .map(|l| l.split('\t').map(String::from).collect())
                    .collect();
                output::say(&output::table(&cells));
            } else {
                lines.iter().for_each(|line| output::say(&format!("{line}\n")));
            }
        }
    }
    Ok(())
}

/// The same value, with nothing in its texts that steers a terminal.
pub fn plain(value: &Value) -> Value {
    match value {
        Value::String(text) => output::plain(text).into(),
        Value::Array(list) => list.iter().map(plain).collect(),
        Value::Object(map) => map
            .iter()
            .map(|(name, value)| (output::plain(name).into_owned(), plain(value)))
            .collect(),
        other => other.clone(),
    }
}

/// One document: JSON of Docker's indentation, a template, or `json` in one line.
pub fn print_documents(format: Option<&str>, documents: &[Value]) -> Result<()> {
    match format {
        None => {
            let mut bytes = Vec::new();
            let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
            let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, formatter);
            use errdefs::Step;
            serde::Serialize::serialize(documents, &mut serializer).step("write JSON")?;
            output::say(&(String::from_utf8_lossy(&bytes).into_owned() + "\n"));
        }
        Some("json") => documents.iter().for_each(|d| output::say(&format!("{d}\n"))),
        Some(template) => {
            let template = Template::parse(template)?;
            for document in documents {
                output::say(&(template.fill(document)? + "\n"));
            }
        }
    }
    Ok(())
}
