//! Verdicts for people and programs: a document, a screen of text, a matrix, a page.

mod html;
mod text;

use serde::Serialize;

pub use html::page;
pub use text::{matrix, screen};

use crate::finding::{SCHEMA, Status, Verdict};
use crate::host::Host;
use crate::judge::Calls;

/// All that was asked for: subjects against hosts.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Report {
    /// The version of this document's shape.
    pub schema: u32,
    /// Who made it.
    pub generator: String,
    /// The worst of all.
    pub status: Status,
    /// The columns.
    pub hosts: Vec<Host>,
    /// The rows.
    pub subjects: Vec<Row>,
}

/// One subject.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Row {
    /// What the user calls it.
    pub name: String,
    /// A verdict a host, in their order; none if it could not be looked at.
    pub verdicts: Vec<Verdict>,
    /// System calls by program, if they were asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub calls: Vec<Calls>,
    /// Why it could not be looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl Report {
    /// Of rows; the outcome is the worst of them.
    pub fn new(hosts: Vec<Host>, subjects: Vec<Row>) -> Report {
        let failed = subjects.iter().any(|row| row.error.is_some());
        let worst = subjects
            .iter()
            .flat_map(|row| &row.verdicts)
            .map(|v| v.status)
            .max()
            .unwrap_or_default();
        Report {
            schema: SCHEMA,
            generator: format!("berth {}", env!("CARGO_PKG_VERSION")),
            status: if failed { Status::WillNotRun } else { worst },
            hosts,
            subjects,
        }
    }
}
