//! Reading documents: a bundle's config.json, and a process for `exec`. What is wrong is told with its place in the document.

use std::path::Path;

use errdefs::{Error, Result, Step};
use runtime::oci;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// No document is larger.
const LIMIT: u64 = 16 << 20;

/// A document, and what of it cannot be had but is not worth failing for.
pub struct Read<T> {
    pub document: T,
    pub warnings: Vec<String>,
}

/// The bundle's document, checked.
pub fn config(bundle: &Path) -> Result<Read<oci::Spec>> {
    let path = bundle.join("config.json");
    let read: Read<oci::Spec> = parse(&load(&path)?).step_with(|| path.display().to_string())?;
    super::validate::spec(&read.document, bundle).step_with(|| path.display().to_string())?;
    Ok(read)
}

/// A process of its own document (`exec --process`).
pub fn process(path: &str) -> Result<Read<oci::Process>> {
    let step = || format!("read the process from {path}");
    let read: Read<oci::Process> = parse(&load(Path::new(path))?).step_with(step)?;
    super::validate::process(&read.document, "").step_with(step)?;
    Ok(read)
}

fn load(path: &Path) -> Result<Vec<u8>> {
    use std::io::Read;
    let step = || format!("read {}", path.display());
    let file = std::fs::File::open(path).step_with(step)?;
    let mut text = Vec::new();
    file.take(LIMIT + 1).read_to_end(&mut text).step_with(step)?;
    match text.len() as u64 > LIMIT {
        true => Err(Error::invalid(format!(
            "{} is larger than {LIMIT} bytes",
            path.display()
        ))),
        false => Ok(text),
    }
}

/// Most documents are read at once. What the types refuse is looked at again: capabilities that nobody knows are left out
/// with a warning (the specification wants it so), a user that is not said is root, two flags have other names there;
/// anything else is told by its place.
pub fn parse<T: DeserializeOwned>(text: &[u8]) -> Result<Read<T>> {
    if let Ok(document) = serde_json::from_slice(text) {
        return Ok(Read {
            document,
            warnings: Vec::new(),
        });
    }
    let mut warnings = Vec::new();
    let mut value: Value = serde_json::from_slice(text).map_err(|e| Error::invalid(e.to_string()))?;
    let process = match value.get("process") {
        Some(_) => &mut value["process"],
        None => &mut value,
    };
    if let Some(fields) = process.as_object_mut().filter(|fields| fields.contains_key("cwd")) {
        fields.entry("user").or_insert(json!({ "uid": 0, "gid": 0 }));
        known_capabilities(fields.get_mut("capabilities"), &mut warnings);
        scheduler_flags(fields.get_mut("scheduler"));
    }
    let document = serde_path_to_error::deserialize(value).map_err(|e| {
        let (place, why) = (e.path().to_string(), e.into_inner());
        Error::invalid(format!("{place}: {why}")).hint("the runtime specification says what may stand there")
    })?;
    Ok(Read { document, warnings })
}

fn known_capabilities(sets: Option<&mut Value>, warnings: &mut Vec<String>) {
    let known = runtime::known_capabilities();
    let lists = sets
        .and_then(Value::as_object_mut)
        .into_iter()
        .flat_map(|sets| sets.values_mut());
    for list in lists.filter_map(Value::as_array_mut) {
        list.retain(|name| {
            let Some(name) = name.as_str() else { return true };
            let found = known.iter().any(|k| k == name);
            let warning = format!("ignoring unknown or unavailable capability {name}");
            if !found && !warnings.contains(&warning) {
                warnings.push(warning);
            }
            found
        });
    }
}

/// The types spell these otherwise than the specification.
fn scheduler_flags(scheduler: Option<&mut Value>) {
    const NAMES: &[(&str, &str)] = &[
        ("SCHED_FLAG_RESET_ON_FORK", "SCHED_RESET_ON_FORK"),
        ("SCHED_FLAG_DL_OVERRUN", "SCHED_FLAG_D_L_OVERRUN"),
    ];
    let flags = scheduler.and_then(|s| s.get_mut("flags")).and_then(Value::as_array_mut);
    for flag in flags.into_iter().flatten() {
        if let Some((_, name)) = NAMES.iter().find(|(name, _)| flag == name) {
            *flag = json!(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fails(text: &str) -> String {
        match parse::<oci::Spec>(text.as_bytes()) {
            Ok(_) => panic!("{text}: it was read"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn what_is_wrong_is_told_by_its_place() {
        for (text, place) in [
            (r#"{"process": {"cwd": "/", "args": [1]}}"#, "process.args[0]: "),
            (
                r#"{"linux": {"namespaces": [{"type": "pid"}, {"type": "moon"}]}}"#,
                "linux.namespaces[1].type: ",
            ),
            (
                r#"{"linux": {"seccomp": {"defaultAction": "SCMP_ACT_PRAY"}}}"#,
                "linux.seccomp.defaultAction: ",
            ),
            (r#"{"root": 3}"#, "root: "),
            (r#"{"mounts": [{"destination": {}}]}"#, "mounts[0].destination: "),
            (r#"{"process": "#, "EOF"),
            ("", "EOF"),
        ] {
            let said = fails(text);
            assert!(said.starts_with(place), "{text}: {said}");
        }
        let deep = "[".repeat(100_000);
        assert!(fails(&deep).contains("recursion limit"));
    }

    /// Numbers that look random and are the same every time (splitmix64).
    struct Dice(u64);

    impl Dice {
        fn next(&mut self, below: usize) -> usize {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = self.0;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            ((z ^ (z >> 31)) % below as u64) as usize
        }
    }

    /// Some value of a document becomes another one.
    fn mutate(value: &mut Value, dice: &mut Dice) {
        match value {
            Value::Object(fields) if !fields.is_empty() && dice.next(8) > 0 => {
                let at = dice.next(fields.len());
                if let Some((_, field)) = fields.iter_mut().nth(at) {
                    return mutate(field, dice);
                }
            }
            Value::Array(list) if !list.is_empty() && dice.next(8) > 0 => {
                let at = dice.next(list.len());
                return mutate(&mut list[at], dice);
            }
            _ => {}
        }
        let strange = [
            json!(null),
            json!(-1),
            json!(u64::MAX),
            json!(1e300),
            json!(""),
            json!("/"),
            json!("../../.."),
            json!("a\u{0}b"),
            json!("\u{fffd}".repeat(5000)),
            json!([]),
            json!({}),
            json!([[]]),
            json!({ "": "" }),
            json!(true),
        ];
        *value = strange[dice.next(strange.len())].clone();
    }

    /// The same as `fuzz/fuzz_targets/document.rs`, for as long as a test may take: nothing that is written in a document brings
    /// the program down.
    #[test]
    fn no_document_is_too_strange() {
        let example: Value = serde_json::from_str(include_str!("example.json")).unwrap();
        let profile = serde_json::to_value(runtime::seccomp::default_profile(&[])).unwrap();
        let (mut dice, mut read) = (Dice(3), 0);
        for round in 0..6000 {
            let mut document = example.clone();
            if round % 8 == 0 {
                document["linux"]["seccomp"] = profile.clone();
            }
            for _ in 0..=dice.next(4) {
                mutate(&mut document, &mut dice);
            }
            let mut text = serde_json::to_vec(&document).unwrap();
            if round % 5 == 0 {
                let at = dice.next(text.len());
                text[at] = dice.next(256) as u8;
            }
            let Ok(parsed) = parse::<oci::Spec>(&text) else {
                continue;
            };
            read += 1;
            let _ = super::super::validate::spec(&parsed.document, Path::new("/nosuch"));
            if let Some(process) = parsed.document.process() {
                let _ = super::super::validate::process(process, "process.");
            }
            let filter = parsed.document.linux().as_ref().and_then(|l| l.seccomp().as_ref());
            let _ = filter.map(runtime::seccomp::length_of);
        }
        assert!(read > 500, "{read}");
    }

    #[test]
    fn unknown_capabilities_are_left_out_and_told_and_root_is_who_is_not_said() {
        let text = r#"{"process": {"cwd": "/", "capabilities": {"bounding": ["CAP_MOON", "CAP_KILL"]}}}"#;
        let read = parse::<oci::Spec>(text.as_bytes()).unwrap();
        let process = read.document.process().clone().unwrap();
        assert_eq!(process.user().uid(), 0);
        let bounding = process.capabilities().clone().unwrap().bounding().clone().unwrap();
        assert_eq!(bounding.into_iter().collect::<Vec<_>>(), [oci::Capability::Kill]);
        assert!(read.warnings[0].contains("CAP_MOON"), "{:?}", read.warnings);
    }
}
