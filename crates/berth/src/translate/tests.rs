//! What Berth makes of `run`'s flags, beside what Docker's own command line sends for the same words
//! (`testdata/record` recorded it).

use std::ffi::OsString;

use errdefs::{Error, Kind, Result};
use serde_json::{Value, json};

use crate::cli::Parsed;
use crate::cli::table::commands;

/// Arguments that Docker's command line lets through, for its daemon to refuse; Berth refuses them at once.
const REFUSED_EARLIER: &[&str] = &["--mount type=nonsense,dst=/b img", "--restart nonsense img"];

/// Arguments that are refused after the body is made: where the system is touched, or by the engine.
const REFUSED_LATER: &[&str] = &[
    "--pull nonsense img",
    "--cidfile /tmp/nonexistent-dir/cid img",
    "--restart always --rm img",
];

fn ours(arguments: &[String]) -> Result<Value> {
    let command = commands().find(|c| c.name == "create").unwrap();
    let arguments: Vec<OsString> = arguments.iter().map(OsString::from).collect();
    let Parsed::Given(given) = command.parse(&arguments)? else {
        return Err(Error::invalid("help"));
    };
    super::body(&given, false).map(|asked| said(&serde_json::to_value(asked.body).unwrap()))
}

/// Without what nobody asked for, as `testdata/record` does it.
fn said(value: &Value) -> Value {
    let fields = match value {
        Value::Object(fields) => fields,
        Value::Array(list) => return list.iter().map(said).collect(),
        other => return other.clone(),
    };
    let nothing = [
        json!(null),
        json!(""),
        json!([]),
        json!({}),
        json!(0),
        json!(0.0),
        json!(false),
    ];
    fields
        .iter()
        .map(|(key, inner)| match key.as_str() {
            "ExposedPorts" | "Volumes" => (key.clone(), names(inner)),
            _ => (key.clone(), said(inner)),
        })
        .filter(|(key, inner)| match key.as_str() {
            "NetworkingConfig" | "ConsoleSize" | "MemorySwappiness" => false,
            "StopTimeout" | "Init" | "MaskedPaths" | "ReadonlyPaths" => !inner.is_null(),
            _ => !nothing.contains(inner),
        })
        .collect::<serde_json::Map<_, _>>()
        .into()
}

/// The keys of a map to nothing.
fn names(map: &Value) -> Value {
    let mut names: Vec<&String> = map.as_object().into_iter().flatten().map(|(name, _)| name).collect();
    names.sort();
    json!(names)
}

/// Docker's body as Berth's would be: what differs on purpose.
fn expected(docker: &Value) -> Value {
    let crates = std::env::current_dir().unwrap();
    let crates = crates.parent().unwrap().to_str().unwrap();
    let mut body: Value = serde_json::from_str(&docker.to_string().replace("<PARENT>", crates)).unwrap();
    let host = &mut body["HostConfig"];
    // "no" is what no policy means.
    if host["RestartPolicy"] == json!({"Name": "no"}) {
        host.as_object_mut().unwrap().remove("RestartPolicy");
    }
    body
}

/// Docker's message without what its parser puts around it.
fn message(text: &str) -> &str {
    let text = text.strip_prefix("docker: ").unwrap_or(text);
    text.split_once(" flag: ").map_or(text, |(_, why)| why)
}

#[test]
fn flags_come_to_what_dockers_command_line_sends() {
    let mut wrong = Vec::new();
    for line in include_str!("../../testdata/docker-bodies.jsonl").lines() {
        let record: Value = serde_json::from_str(line).unwrap();
        let arguments: Vec<String> = serde_json::from_value(record["arguments"].clone()).unwrap();
        let shown = arguments.join(" ");
        match (ours(&arguments), record.get("body")) {
            (Ok(body), Some(docker)) => {
                let mut body = body;
                if body["HostConfig"]["RestartPolicy"] == json!({"Name": "no"}) {
                    body["HostConfig"].as_object_mut().unwrap().remove("RestartPolicy");
                }
                if body != expected(docker) {
                    wrong.push(format!("{shown}\n   ours   {body}\n   docker {}", expected(docker)));
                }
            }
            (Err(error), None) => {
                let docker = message(record["error"].as_str().unwrap());
                // Go's own words for a bad number, and for a file that is not there, are no better than ours.
                if !docker.contains("strconv.")
                    && !docker.contains("no such file")
                    && !error.to_string().contains(docker)
                {
                    wrong.push(format!("{shown}\n   ours   {error}\n   docker {docker}"));
                }
            }
            (Err(error), Some(_)) if error.kind() == Kind::NotImplemented => {}
            (Err(_), Some(_)) if REFUSED_EARLIER.contains(&shown.as_str()) => {}
            (Err(error), Some(_)) => wrong.push(format!("{shown}\n   ours   {error}\n   docker takes it")),
            (Ok(_), None) if REFUSED_LATER.contains(&shown.as_str()) => {}
            (Ok(body), None) => wrong.push(format!("{shown}\n   ours   {body}\n   docker {}", record["error"])),
        }
    }
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
}
