//! One page that needs nothing else: a matrix of subjects against hosts, the reasons behind each cell.
//!
//! All that comes from images is escaped. The page works without scripts: then all reasons are open.

use std::fmt::Write;

use super::Report;
use super::text::cell;
use crate::finding::{Finding, Status, Verdict};
use crate::host::Host;

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// The page.
pub fn page(report: &Report) -> String {
    let mut out = String::new();
    let title = match report.subjects.as_slice() {
        [one] => format!("Will {} run?", escape(&one.name)),
        many => format!("Will they run? {} images", many.len()),
    };
    let _ = write!(
        out,
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width, \
         initial-scale=1\">\n<title>{title}</title>\n<style>{STYLE}</style>\n<noscript><style>.why{{display:table-row}}</style></noscript>\n\
         </head>\n<body>\n<main>\n<h1>{title}</h1>\n"
    );
    summary(&mut out, report);
    out.push_str("<div class=\"scroll\"><table>\n<thead><tr><th scope=\"col\">Image</th>");
    for host in &report.hosts {
        let _ = write!(out, "<th scope=\"col\">{}</th>", column(host));
    }
    out.push_str("</tr></thead>\n<tbody>\n");
    for (number, row) in report.subjects.iter().enumerate() {
        let _ = write!(out, "<tr><th scope=\"row\">{}</th>", escape(&row.name));
        for (column, verdict) in row.verdicts.iter().enumerate() {
            let word = cell(verdict);
            let _ = write!(
                out,
                "<td><button class=\"{word}\" aria-expanded=\"false\" aria-controls=\"why-{number}-{column}\">{word}</button></td>"
            );
        }
        if let Some(error) = &row.error {
            let _ = write!(
                out,
                "<td colspan=\"{}\" class=\"error\">{}</td>",
                report.hosts.len(),
                escape(error)
            );
        }
        out.push_str("</tr>\n");
        for (column, verdict) in row.verdicts.iter().enumerate() {
            reasons(&mut out, report, number, column, verdict);
        }
    }
    let _ = write!(
        out,
        "</tbody>\n</table></div>\n<footer>{}, document version {}. <b class=\"runs\">runs</b> nothing stands in the way; <b \
         class=\"mended\">mended</b> Berth does what is needed; <b class=\"partly\">partly</b> something fails on some path; <b \
         class=\"fails\">fails</b> it will not run.</footer>\n</main>\n<script>{SCRIPT}</script>\n</body>\n</html>\n",
        escape(&report.generator),
        report.schema
    );
    out
}

/// How many of each, by host.
fn summary(out: &mut String, report: &Report) {
    if report.subjects.len() < 2 {
        return;
    }
    out.push_str("<ul class=\"sums\">\n");
    for (column, host) in report.hosts.iter().enumerate() {
        let verdicts = || report.subjects.iter().filter_map(|s| s.verdicts.get(column));
        let good = verdicts().filter(|v| v.status != Status::WillNotRun).count();
        let _ = writeln!(
            out,
            "<li><b>{good}</b> of {} run on {}</li>",
            verdicts().count(),
            escape(&host.release)
        );
    }
    out.push_str("</ul>\n");
}

fn column(host: &Host) -> String {
    let mut small = vec![host.architecture.clone()];
    if host.architecture == "amd64" {
        small.push(format!("vsyscall {}", host.vsyscall.name()));
        small.push(format!("v{}", host.cpu_level));
    }
    let name = if host.probed {
        "this host".to_owned()
    } else {
        format!("Linux {}", host.release)
    };
    if host.probed {
        small.insert(0, host.release.clone());
    }
    if host.page_size != 4096 {
        small.push(format!("{}k pages", host.page_size / 1024));
    }
    if host.engine_seccomp != "berth" {
        small.push(host.engine_seccomp.clone());
    }
    format!("{}<small>{}</small>", escape(&name), escape(&small.join(", ")))
}

fn reasons(out: &mut String, report: &Report, number: usize, column: usize, verdict: &Verdict) {
    let title = report.hosts.get(column).map(Host::title).unwrap_or_default();
    let _ = writeln!(
        out,
        "<tr class=\"why\" id=\"why-{number}-{column}\"><td colspan=\"{}\"><div><h2>{}: {}</h2><p>On {}. Starts with {}; {} programs looked \
         at.</p>",
        report.hosts.len() + 1,
        escape(&verdict.name),
        verdict.status.words(),
        escape(&title),
        if verdict.entry.is_empty() {
            "nothing that was found".into()
        } else {
            format!("<code>{}</code>", escape(&verdict.entry.join(" ")))
        },
        verdict.looked_at
    );
    if verdict.findings.is_empty() {
        out.push_str("<p>Nothing stands in the way.</p>");
    }
    verdict.findings.iter().for_each(|f| reason(out, f));
    let others: Vec<&str> = verdict
        .programs
        .iter()
        .filter(|p| !p.entry && p.status == Status::WillNotRun)
        .map(|p| p.path.as_str())
        .collect();
    if !others.is_empty() {
        let _ = write!(
            out,
            "<p>Other programs that will not run: {}.</p>",
            escape(&others.join(", "))
        );
    }
    out.push_str("</div></td></tr>\n");
}

fn reason(out: &mut String, finding: &Finding) {
    let class = match finding.status() {
        Status::Runs => "runs",
        Status::RunsWithRemedies if finding.remedy.automatic() => "mended",
        Status::RunsWithRemedies => "partly",
        Status::WillNotRun => "fails",
    };
    let package = finding
        .package
        .as_ref()
        .map(|p| format!(" ({})", escape(p)))
        .unwrap_or_default();
    let more = if finding.more > 0 {
        format!(" and {} more files", finding.more)
    } else {
        String::new()
    };
    let code = finding
        .symptom
        .exit_code
        .map(|c| format!(" (exit code {c})"))
        .unwrap_or_default();
    let file = if finding.file.is_empty() {
        "the image"
    } else {
        &finding.file
    };
    let _ = write!(
        out,
        "<section class=\"{class}\"><h3><code>{}</code>{package}{more} <em>{}</em></h3><dl>",
        escape(file),
        finding.sure.words()
    );
    for (name, text) in [
        ("asks", finding.asks.clone()),
        ("lacking", finding.lacks.clone()),
        ("seen", format!("{}{code}", finding.symptom.message)),
        ("Berth", finding.remedy.words()),
        ("otherwise", finding.advice.clone()),
    ] {
        if !text.is_empty() {
            let _ = write!(out, "<dt>{name}</dt><dd>{}</dd>", escape(&text));
        }
    }
    out.push_str("</dl></section>\n");
}

fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            c if c.is_control() && c != '\n' => safe.push('?'),
            c => safe.push(c),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Row;

    #[test]
    fn names_of_images_are_no_markup_and_the_page_needs_nothing_else() {
        let verdict = Verdict {
            name: "<script>alert(1)</script>".into(),
            ..Verdict::default()
        };
        let row = Row {
            name: verdict.name.clone(),
            verdicts: vec![verdict],
            calls: Vec::new(),
            error: None,
        };
        let page = page(&Report::new(vec![Host::probe()], vec![row]));
        assert!(!page.contains("<script>alert") && page.contains("&lt;script&gt;alert(1)"));
        for word in ["http:", "https:", "src=", "@import", "url("] {
            assert!(!page.contains(word), "{word}");
        }
    }
}
