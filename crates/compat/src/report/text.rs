//! For a terminal: one screen for one subject on one host, a table for more.

use super::{Report, Row};
use crate::finding::{Finding, Status, Sure, Verdict};
use crate::host::Host;

/// Findings and programs on one screen.
const FINDINGS: usize = 6;
const PROGRAMS: usize = 6;

/// One subject on one host.
pub fn screen(verdict: &Verdict, host: &Host) -> String {
    let mut lines = vec![format!("{}: {}", clean(&verdict.name), verdict.status.words())];
    lines.push(format!(
        "on {}{}",
        host.title(),
        if host.probed { " (this host)" } else { "" }
    ));
    let entry = if verdict.entry.is_empty() {
        "nothing that was found".to_owned()
    } else {
        clean(&verdict.entry.join(" "))
    };
    lines.push(format!("starts with {entry}; {} programs looked at", verdict.looked_at));
    let told: Vec<&Finding> = verdict.findings.iter().filter(|f| f.sure > Sure::Unlikely).collect();
    for finding in told.iter().take(FINDINGS) {
        lines.push(String::new());
        lines.extend(paragraph(finding));
    }
    let others: Vec<_> = verdict
        .programs
        .iter()
        .filter(|p| !p.entry && p.status == Status::WillNotRun)
        .collect();
    if !others.is_empty() {
        lines.push(String::new());
        lines.push(format!("other programs that will not run: {}", others.len()));
        lines.extend(others.iter().take(PROGRAMS).map(|p| format!("  {}", clean(&p.path))));
    }
    let more = told.len().saturating_sub(FINDINGS);
    let unlikely = verdict.findings.len() - told.len();
    let mut rest = Vec::new();
    if more > 0 {
        rest.push(format!("{more} more findings"));
    }
    if unlikely > 0 {
        rest.push(format!("{unlikely} that practice does not reach"));
    }
    if !rest.is_empty() {
        lines.push(String::new());
        lines.push(format!("not shown: {} (--format json, --format html)", rest.join(", ")));
    }
    lines.join("\n") + "\n"
}

fn paragraph(finding: &Finding) -> Vec<String> {
    let package = finding.package.as_ref().map(|p| format!(" ({p})")).unwrap_or_default();
    let more = if finding.more > 0 {
        format!(" and {} more files", finding.more)
    } else {
        String::new()
    };
    let file = if finding.file.is_empty() {
        "the image"
    } else {
        &finding.file
    };
    let mark = match finding.status() {
        Status::Runs => "o",
        Status::RunsWithRemedies => "!",
        Status::WillNotRun => "x",
    };
    let code = finding
        .symptom
        .exit_code
        .map(|c| format!(" (exit code {c})"))
        .unwrap_or_default();
    let mut lines = vec![
        format!("{mark} {}{package}{more}: {}", clean(file), finding.sure.words()),
        format!("  asks       {}", clean(&finding.asks)),
        format!("  lacking    {}", clean(&finding.lacks)),
        format!("  seen       {}{code}", clean(&finding.symptom.message)),
        format!("  Berth      {}", clean(&finding.remedy.words())),
    ];
    if !finding.advice.is_empty() {
        lines.push(format!("  otherwise  {}", clean(&finding.advice)));
    }
    lines
}

/// Subjects against hosts, as rows of cells: the first row is the titles.
pub fn matrix(report: &Report) -> Vec<Vec<String>> {
    let mut titles = vec!["NAME".to_owned()];
    titles.extend(report.hosts.iter().map(|h| h.release.to_uppercase()));
    titles.push("WHY".into());
    let mut rows = vec![titles];
    rows.extend(report.subjects.iter().map(row));
    rows
}

fn row(row: &Row) -> Vec<String> {
    let mut cells = vec![clean(&row.name)];
    cells.extend(row.verdicts.iter().map(|v| cell(v).to_owned()));
    let worst = row.verdicts.iter().max_by_key(|v| v.status);
    let why = worst
        .filter(|v| v.status != Status::Runs)
        .and_then(|v| v.findings.first());
    let why = why
        .map(|f| format!("{}: {}", f.file, f.asks))
        .or_else(|| row.error.clone());
    cells.push(clean(&why.unwrap_or_default()));
    cells
}

/// An outcome in a word.
pub fn cell(verdict: &Verdict) -> &'static str {
    match verdict.status {
        Status::Runs => "runs",
        // What Berth does is enough, or a path is left that fails.
        Status::RunsWithRemedies
            if verdict
                .findings
                .iter()
                .any(|f| f.status() == Status::RunsWithRemedies && f.remedy.automatic()) =>
        {
            "mended"
        }
        Status::RunsWithRemedies => "partly",
        Status::WillNotRun => "fails",
    }
}

/// Names come from images: what a terminal would take for orders is not passed on.
fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}
