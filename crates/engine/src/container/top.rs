//! `top`: the container's processes as the host sees them.

use std::process::Command;

use bollard_stubs::models::ContainerTopResponse;
use errdefs::{Error, Result, Step};
use runtime::cgroup::Cgroup;

use crate::Engine;

impl Engine {
    /// The rows of `ps` with these arguments (`-ef` unless given) that are the container's.
    pub fn top(&self, name: &str, args: &[String]) -> Result<ContainerTopResponse> {
        let record = self.record(name)?;
        if self.alive(&record.id)?.is_none() {
            return Err(Error::conflict(format!("container {} is not running", record.id)));
        }
        let pids = Cgroup::at(&record.cgroup()).pids()?;
        let top = processes(&pids, args)?;
        self.tell_of(&record, "top", &[]);
        Ok(top)
    }
}

/// The rows of `ps` with these arguments (`-ef` unless given) that are of these processes.
pub fn processes(pids: &[i32], args: &[String]) -> Result<ContainerTopResponse> {
    let ps = |more: &[&str]| {
        let mut command = Command::new("ps");
        match args {
            [] => command.arg("-ef"),
            args => command.args(args),
        };
        command.args(more).output().step("run ps on the host")
    };
    // As Docker does: columns alone (`-o`) do not say which processes; some options and `-q` do not go together.
    let list: Vec<String> = pids.iter().map(i32::to_string).collect();
    let mut output = ps(&["-q", &list.join(",")])?;
    if !output.status.success() {
        output = ps(&[])?;
    }
    if !output.status.success() {
        return Err(Error::invalid(format!(
            "ps: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        )));
    }
    select(&String::from_utf8_lossy(&output.stdout), pids)
}

/// The title row and the rows of these processes; the last column may have blanks.
fn select(table: &str, pids: &[i32]) -> Result<ContainerTopResponse> {
    let mut lines = table.lines();
    let titles: Vec<String> = lines
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .map(String::from)
        .collect();
    let column = titles.iter().position(|t| t == "PID");
    let column = column.ok_or_else(|| Error::invalid("Couldn't find PID field in ps output"))?;
    let row = |line: &str| -> Vec<String> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let own = words.len().min(titles.len().saturating_sub(1));
        let mut row: Vec<String> = words[..own].iter().map(|w| (*w).into()).collect();
        row.push(words[own..].join(" "));
        row
    };
    let ours = |row: &Vec<String>| {
        row.get(column)
            .and_then(|p| p.parse().ok())
            .is_some_and(|p: i32| pids.contains(&p))
    };
    Ok(ContainerTopResponse {
        processes: Some(lines.map(row).filter(ours).collect()),
        titles: Some(titles),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_containers_rows_are_shown() {
        let table = "UID   PID  CMD\nroot    1  /sbin/init splash\nroot   42  sleep 5 6\n";
        let top = select(table, &[42]).unwrap();
        assert_eq!(top.processes.unwrap(), [["root", "42", "sleep 5 6"]]);
        assert!(select("A B\n", &[]).is_err());
        let own = std::process::id() as i32;
        let words = |text: &str| text.split(' ').map(String::from).collect::<Vec<_>>();
        for args in ["-o pid,comm", "-eo pid,comm", "-ef"] {
            let top = processes(&[own], &words(args)).unwrap();
            assert_eq!(top.processes.map(|p| p.len()), Some(1), "{args}");
        }
    }
}
