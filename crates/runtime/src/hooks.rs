//! Hooks: programs of the host that an OCI document wants run at points of the container's life (runtime specification,
//! "POSIX-platform Hooks").

use std::ffi::{CString, OsStr};
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use errdefs::{Error, Result, Step};
use oci_spec::runtime::{Hook, Hooks, Spec, State};

/// How often a hook with a timeout is looked at.
const LOOK_AGAIN: Duration = Duration::from_millis(2);
/// So much of what a hook says goes into the error.
const WORDS: u64 = 4096;

/// The hooks that run in the caller's namespaces, and what they are told, if there are any.
pub(crate) fn of_the_runtime<'a>(spec: &'a Spec, state: Option<&'a State>) -> Option<(&'a Hooks, &'a State)> {
    let any = |hooks: &Option<Vec<Hook>>| hooks.as_ref().is_some_and(|hooks| !hooks.is_empty());
    let hooks = spec.hooks().as_ref()?;
    (any(hooks.prestart()) || any(hooks.create_runtime())).then_some((hooks, state?))
}

/// Where and as what hooks run, when they do not run as their caller does.
#[derive(Clone, Copy, Default)]
pub struct Setting<'a> {
    /// Their working directory.
    pub directory: Option<&'a Path>,
    /// The environment of those that name none.
    pub environment: &'a [CString],
}

/// Runs hooks one after the other, the state on their standard input. The first that fails, or takes too long, ends it.
pub fn run(kind: &str, hooks: Option<&[Hook]>, state: &State) -> Result<()> {
    run_in(Setting::default(), kind, hooks, state)
}

/// The same in a setting.
pub fn run_in(setting: Setting<'_>, kind: &str, hooks: Option<&[Hook]>, state: &State) -> Result<()> {
    let hooks = hooks.unwrap_or_default();
    if hooks.is_empty() {
        return Ok(());
    }
    let text = serde_json::to_vec(state).step("write the state for hooks")?;
    for (index, hook) in hooks.iter().enumerate() {
        run_one(setting, hook, &text)
            .step_with(|| hook.path().display().to_string())
            .step_with(|| format!("error running {kind} hook #{index}"))?;
    }
    Ok(())
}

fn run_one(setting: Setting<'_>, hook: &Hook, state: &[u8]) -> Result<()> {
    if !hook.path().is_absolute() {
        return Err(Error::invalid("the path of a hook must be absolute"));
    }
    let arguments = hook.args().as_deref().unwrap_or_default();
    let mut command = Command::new(hook.path());
    if let Some((name, rest)) = arguments.split_first() {
        command.arg0(name).args(rest);
    }
    command.env_clear();
    match hook.env() {
        Some(own) => drop(command.envs(own.iter().filter_map(|e| e.split_once('=')))),
        None => drop(command.envs(setting.environment.iter().filter_map(|e| variable(e)))),
    }
    if let Some(directory) = setting.directory {
        command.current_dir(directory);
    }
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let mut child = command.spawn().step("start it")?;
    if let Some(mut input) = child.stdin.take() {
        // One that does not read is no failure.
        let _ = input.write_all(state);
    }
    let limit = hook.timeout().and_then(|seconds| u64::try_from(seconds).ok());
    let status = match limit {
        Some(seconds) => wait_until(&mut child, Instant::now() + Duration::from_secs(seconds))?,
        None => child.wait().step("wait for it")?,
    };
    if status.success() {
        return Ok(());
    }
    let mut words = String::new();
    if let Some(error) = child.stderr.take() {
        let _ = error.take(WORDS).read_to_string(&mut words);
    }
    Err(Error::system(format!("{}, stderr: {}", ending(status), words.trim())))
}

fn variable(entry: &CString) -> Option<(&OsStr, &OsStr)> {
    let bytes = entry.as_bytes();
    let at = bytes.iter().position(|b| *b == b'=')?;
    Some((OsStr::from_bytes(&bytes[..at]), OsStr::from_bytes(&bytes[at + 1..])))
}

/// In Go's words, which engines show.
fn ending(status: ExitStatus) -> String {
    const SIGNALS: &[(i32, &str)] = &[
        (6, "aborted"),
        (9, "killed"),
        (11, "segmentation fault"),
        (15, "terminated"),
        (31, "bad system call"),
    ];
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => match SIGNALS.iter().find(|(number, _)| *number == signal) {
            Some((_, name)) => format!("signal: {name}"),
            None => format!("signal: {signal}"),
        },
        (None, None) => status.to_string(),
    }
}

fn wait_until(child: &mut Child, deadline: Instant) -> Result<ExitStatus> {
    loop {
        if let Some(status) = child.try_wait().step("wait for it")? {
            return Ok(status);
        }
        if Instant::now() >= deadline {
            let _ = child.kill();
            let _ = child.wait();
            return Err(Error::system("it took longer than its timeout"));
        }
        std::thread::sleep(LOOK_AGAIN);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hook(json: &str) -> Hook {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn a_hook_reads_the_state_fails_and_is_given_up() {
        let state = State::default();
        let run = |json: &str| run("poststop", Some(&[hook(json)]), &state);
        run(r#"{"path": "/bin/sh", "args": ["sh", "-c", "read line && test \"$A\" = b && test -n \"$line\""], "env": ["A=b"]}"#)
            .unwrap_err();
        run(r#"{"path": "/bin/sh", "args": ["sh", "-c", "grep -q ociVersion && test \"$A\" = b"], "env": ["A=b"]}"#)
            .unwrap();
        let error = run(r#"{"path": "/bin/sh", "args": ["sh", "-c", "echo why >&2; exit 3"]}"#).unwrap_err();
        assert!(
            error.to_string().contains("why") && error.to_string().contains("hook #0"),
            "{error}"
        );
        let error = run(r#"{"path": "/bin/sleep", "args": ["sleep", "60"], "timeout": 0}"#).unwrap_err();
        assert!(error.to_string().contains("timeout"), "{error}");
        assert!(run(r#"{"path": "sh"}"#).is_err());
    }
}
