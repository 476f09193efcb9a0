//! Executing the command, and saying in Docker's words why it could not be.

use std::ffi::CString;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use errdefs::{Error, Kind, Result, Step};
use rustix::io::Errno;

/// Where programs are looked for when the environment does not say.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// So much of `/etc/passwd` is looked at.
const PASSWD_LIMIT: u64 = 1 << 20;

/// A command, ready for execve.
pub struct Command {
    /// `HOME` is not said.
    homeless: bool,
    name: String,
    arguments: Vec<CString>,
    environment: Vec<CString>,
    path: String,
}

impl Command {
    /// Checks that no string has a zero byte.
    pub fn new(arguments: &[String], environment: &[String]) -> Result<Self> {
        let c = |list: &[String]| -> Result<Vec<CString>> {
            let one = |s: &String| CString::new(s.as_str()).step("a zero byte in the command or its environment");
            list.iter().map(one).collect()
        };
        let name = arguments
            .first()
            .cloned()
            .ok_or_else(|| Error::invalid("no command specified"))?;
        let environment = &once(environment);
        let path = environment
            .iter()
            .find_map(|e| e.strip_prefix("PATH="))
            .unwrap_or(DEFAULT_PATH)
            .to_owned();
        Ok(Command {
            homeless: !environment.iter().any(|e| e.starts_with("HOME=")),
            name,
            arguments: c(arguments)?,
            environment: c(environment)?,
            path,
        })
    }

    /// What the command's environment is.
    pub fn environment(&self) -> &[CString] {
        &self.environment
    }

    /// Says `HOME` if nobody did: the user's by the container's `/etc/passwd`, else the root. Not in the specification; engines
    /// rely on it (runc).
    pub fn find_home(&mut self, uid: u32) {
        if !self.homeless {
            return;
        }
        let mut text = String::new();
        let file = File::open("/etc/passwd").map(|f| f.take(PASSWD_LIMIT));
        let _ = file.and_then(|mut f| f.read_to_string(&mut text));
        let home = text.lines().find_map(|line| {
            let fields: Vec<&str> = line.split(':').collect();
            let own = fields.get(2)?.parse() == Ok(uid);
            fields.get(5).filter(|home| own && !home.is_empty()).copied()
        });
        self.environment
            .extend(CString::new(format!("HOME={}", home.unwrap_or("/"))));
    }

    /// Becomes the command; returns only why it could not.
    pub fn execute(&self) -> Error {
        if self.name.contains('/') {
            let error = self.attempt(&self.name);
            return self.explain(Path::new(&self.name), error);
        }
        let mut refused = None;
        for dir in self.path.split(':') {
            let dir = if dir.is_empty() { "." } else { dir };
            let candidate = format!("{dir}/{}", self.name);
            match self.attempt(&candidate) {
                Errno::NOENT if !Path::new(&candidate).exists() => {}
                Errno::NOTDIR => {}
                Errno::ACCESS => refused = refused.or(Some(candidate)),
                error => return self.explain(Path::new(&candidate), error),
            }
        }
        match refused {
            Some(candidate) => self.explain(Path::new(&candidate), Errno::ACCESS),
            None => self.not_found(),
        }
    }

    /// Fails as `execute` would if there is nothing that could be executed; relative names are below `cwd`.
    pub fn look_up(&self, cwd: &Path) -> Result<()> {
        let candidates: Vec<PathBuf> = match self.name.contains('/') {
            true => vec![cwd.join(&self.name)],
            false => self.path.split(':').map(|dir| cwd.join(dir).join(&self.name)).collect(),
        };
        let executable =
            |path: &PathBuf| std::fs::metadata(path).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0);
        if candidates.iter().any(executable) {
            return Ok(());
        }
        let found = candidates.iter().find(|path| path.exists());
        Err(match (found, self.name.contains('/')) {
            (Some(path), _) => self.explain(path, Errno::ACCESS),
            (None, true) => self.explain(Path::new(&self.name), Errno::NOENT),
            (None, false) => self.not_found(),
        })
    }

    fn not_found(&self) -> Error {
        let message = format!("exec: {:?}: executable file not found in $PATH", self.name);
        Error::new(Kind::CommandNotFound, message)
            .hint("the image has no such program; is it in another image, or misspelt?")
    }

    fn attempt(&self, path: &str) -> Errno {
        match CString::new(path) {
            Ok(path) => sys::process::execve(&path, &self.arguments, &self.environment),
            Err(_) => Errno::INVAL,
        }
    }

    /// An errno of execve, with what it means here.
    fn explain(&self, path: &Path, errno: Errno) -> Error {
        let shown = path.display();
        match errno {
            Errno::NOENT if !path.exists() => Error::new(
                Kind::CommandNotFound,
                format!("exec: {:?}: stat {shown}: no such file or directory", self.name),
            ),
            Errno::NOENT => missing_interpreter(path),
            Errno::ACCESS => not_executable(&self.name, path),
            Errno::ISDIR => Error::new(
                Kind::CommandNotExecutable,
                format!("exec: {:?}: is a directory", self.name),
            ),
            Errno::NOTDIR => Error::new(
                Kind::CommandNotExecutable,
                format!("exec: {:?}: not a directory", self.name),
            ),
            Errno::NOEXEC => format_error(path),
            other => {
                let cause = std::io::Error::from(other);
                Error::caused(format!("exec {shown}"), cause).kind_is(Kind::CommandNotExecutable)
            }
        }
    }
}

/// Every variable once, with what is said last; an empty `HOME` says nothing.
fn once(environment: &[String]) -> Vec<String> {
    let name = |entry: &str| entry.split('=').next().unwrap_or_default().to_owned();
    let last = |at: usize, entry: &String| {
        let own = name(entry);
        !environment[at + 1..].iter().any(|e| name(e) == own)
    };
    let entries = environment.iter().enumerate();
    entries
        .filter(|(at, entry)| entry.as_str() != "HOME=" && last(*at, entry))
        .map(|(_, entry)| entry.clone())
        .collect()
}

/// The file is there: what is not there is what it is to be run by.
fn missing_interpreter(path: &Path) -> Error {
    let error = Error::new(
        Kind::CommandNotFound,
        format!("exec {}: no such file or directory", path.display()),
    );
    match interpreter(path) {
        Some((what, name)) => error.hint(format!("the file is there, but its {what} {name} is not in the image")),
        None => error,
    }
}

fn not_executable(name: &str, path: &Path) -> Error {
    let error = |words: &str| Error::new(Kind::CommandNotExecutable, format!("exec: {name:?}: {words}"));
    match std::fs::metadata(path) {
        Ok(m) if m.is_dir() => error("is a directory"),
        Ok(m) if m.permissions().mode() & 0o111 == 0 => error("permission denied").hint(format!(
            "{} has no execute bit (mode {:o})",
            path.display(),
            m.mode() & 0o7777
        )),
        _ => error("permission denied"),
    }
}

/// Neither ELF for this processor nor a script with a first line.
fn format_error(path: &Path) -> Error {
    let error = Error::new(
        Kind::CommandNotExecutable,
        format!("exec {}: exec format error", path.display()),
    );
    let head = head(path);
    match elf_machine(&head) {
        Some(machine) if machine != OWN_MACHINE => error.hint(format!(
            "the program is for another processor ({})",
            machine_name(machine)
        )),
        Some(_) => error,
        None if head.is_empty() => error.hint("the file is empty"),
        None => error.hint("a script needs a first line such as #!/bin/sh"),
    }
}

#[cfg(target_arch = "x86_64")]
const OWN_MACHINE: u16 = 62;
#[cfg(target_arch = "aarch64")]
const OWN_MACHINE: u16 = 183;

fn machine_name(machine: u16) -> String {
    const NAMES: &[(u16, &str)] = &[
        (3, "386"),
        (8, "mips"),
        (20, "ppc"),
        (21, "ppc64"),
        (22, "s390x"),
        (40, "arm"),
        (62, "amd64"),
        (183, "arm64"),
        (243, "riscv64"),
        (258, "loong64"),
    ];
    NAMES
        .iter()
        .find(|(n, _)| *n == machine)
        .map_or_else(|| format!("ELF machine {machine}"), |(_, name)| (*name).into())
}

fn elf_machine(head: &[u8]) -> Option<u16> {
    let machine = head.get(18..20).filter(|_| head.starts_with(b"\x7fELF"))?;
    let bytes = [machine[0], machine[1]];
    Some(if head[5] == 2 {
        u16::from_be_bytes(bytes)
    } else {
        u16::from_le_bytes(bytes)
    })
}

fn head(path: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    let _ = File::open(path).and_then(|f| f.take(4096).read_to_end(&mut bytes));
    bytes
}

/// A script's first line, or the ELF interpreter of a 64-bit program.
fn interpreter(path: &Path) -> Option<(&'static str, String)> {
    let head = head(path);
    if let Some(line) = head.strip_prefix(b"#!") {
        let line = line.split(|b| *b == b'\n').next().unwrap_or_default();
        let line = String::from_utf8_lossy(line);
        let name = line.split_whitespace().next().unwrap_or_default();
        let carriage = if line.ends_with('\r') {
            " (the line ends with a carriage return)"
        } else {
            ""
        };
        return Some(("interpreter", format!("{}{carriage}", name.trim_end_matches('\r'))));
    }
    let number = |at: usize, size: usize| -> Option<usize> {
        let bytes = head.get(at..at.checked_add(size)?)?;
        Some(bytes.iter().rev().fold(0usize, |n, b| n << 8 | usize::from(*b)))
    };
    elf_machine(&head).filter(|_| head[4] == 2 && head[5] == 1)?;
    let (table, size, count) = (number(32, 8)?, number(54, 2)?, number(56, 2)?);
    for index in 0..count.min(64) {
        let entry = table.checked_add(index * size)?;
        if number(entry, 4)? == 3 {
            let (offset, length) = (number(entry + 8, 8)?, number(entry + 32, 8)?);
            let name = head.get(offset..offset.checked_add(length)?)?;
            return Some((
                "program loader",
                String::from_utf8_lossy(name).trim_end_matches('\0').into(),
            ));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_named_in_dockers_words() {
        let dir = std::env::temp_dir().join(format!("berth-command-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let file = |name: &str, text: &[u8], mode: u32| {
            std::fs::write(dir.join(name), text).unwrap();
            std::fs::set_permissions(dir.join(name), PermissionsExt::from_mode(mode)).unwrap();
            dir.join(name).display().to_string()
        };
        let run = |name: &str| {
            let env = [format!("PATH={}", dir.display())];
            let mut error = Command::new(&[name.to_owned()], &env).unwrap().execute();
            // A child of another test holds the file open for writing until its own exec (ETXTBSY).
            while error.to_string().contains("Text file busy") {
                std::thread::sleep(std::time::Duration::from_millis(1));
                error = Command::new(&[name.to_owned()], &env).unwrap().execute();
            }
            (
                error.kind(),
                error.to_string(),
                error.find_hint().unwrap_or_default().to_owned(),
            )
        };
        let (kind, words, _) = run("nosuch");
        assert_eq!(
            (kind, words.as_str()),
            (
                Kind::CommandNotFound,
                "exec: \"nosuch\": executable file not found in $PATH"
            )
        );
        assert_eq!(run("/nosuch").0, Kind::CommandNotFound);
        file("plain", b"x", 0o644);
        let (kind, words, hint) = run("plain");
        assert_eq!(
            (kind, words.as_str()),
            (Kind::CommandNotExecutable, "exec: \"plain\": permission denied")
        );
        assert!(hint.contains("no execute bit (mode 644)"));
        let script = file("script", b"#!/no/such/shell -e\n", 0o755);
        let (kind, words, hint) = run("script");
        assert_eq!(
            (kind, words),
            (
                Kind::CommandNotFound,
                format!("exec {script}: no such file or directory")
            )
        );
        assert!(hint.contains("/no/such/shell"));
        file("noise", b"echo\n", 0o755);
        assert!(run("noise").1.ends_with("exec format error"));
        let mut foreign = vec![0u8; 64];
        foreign[..8].copy_from_slice(b"\x7fELF\x02\x01\x01\0");
        foreign[16] = 2;
        foreign[18] = 183;
        file("foreign", &foreign, 0o755);
        assert!(run("foreign").2.contains("arm64"));
        assert_eq!(run("/").0, Kind::CommandNotExecutable);
        std::fs::remove_dir_all(dir).unwrap();
    }
}
