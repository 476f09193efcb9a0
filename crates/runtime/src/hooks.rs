//! Hooks: programs of the host that an OCI document wants run at points of the container's life (runtime specification,
//! "POSIX-platform Hooks").

use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use errdefs::{Error, Result, Step};
use oci_spec::runtime::{Hook, State};

/// How often a hook with a timeout is looked at.
const LOOK_AGAIN: Duration = Duration::from_millis(2);
/// So much of what a hook says goes into the error.
const WORDS: u64 = 4096;

/// Runs hooks one after the other, the state on their standard input. The first that fails, or takes too long, ends it.
pub fn run(kind: &str, hooks: Option<&[Hook]>, state: &State) -> Result<()> {
    let hooks = hooks.unwrap_or_default();
    if hooks.is_empty() {
        return Ok(());
    }
    let text = serde_json::to_vec(state).step("write the state for hooks")?;
    for (index, hook) in hooks.iter().enumerate() {
        run_one(hook, &text).step_with(|| format!("error running {kind} hook #{index} ({})", hook.path().display()))?;
    }
    Ok(())
}

fn run_one(hook: &Hook, state: &[u8]) -> Result<()> {
    if !hook.path().is_absolute() {
        return Err(Error::invalid("the path of a hook must be absolute"));
    }
    let arguments = hook.args().as_deref().unwrap_or_default();
    let mut command = Command::new(hook.path());
    if let Some((name, rest)) = arguments.split_first() {
        command.arg0(name).args(rest);
    }
    let environment = hook.env().iter().flatten().filter_map(|e| e.split_once('='));
    command.env_clear().envs(environment);
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
    Err(Error::system(format!("{status}, stderr: {}", words.trim())))
}

fn wait_until(child: &mut Child, deadline: Instant) -> Result<std::process::ExitStatus> {
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
