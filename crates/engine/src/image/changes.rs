//! The Dockerfile lines that `import` and `commit --change` take, as an image's settings.

use errdefs::{Error, Result};
use serde_json::{Map, Value, json};

/// All lines, in order.
pub fn settings(lines: &[String]) -> Result<Value> {
    let mut settings = Map::new();
    apply_all(&mut settings, lines)?;
    Ok(Value::Object(settings))
}

/// All lines, in order, on settings that are there.
pub fn apply_all(settings: &mut Map<String, Value>, lines: &[String]) -> Result<()> {
    lines.iter().try_for_each(|line| apply(settings, line))
}

fn apply(settings: &mut Map<String, Value>, line: &str) -> Result<()> {
    let (word, rest) = line.trim().split_once(char::is_whitespace).unwrap_or((line.trim(), ""));
    let rest = rest.trim();
    let word = word.to_ascii_uppercase();
    if rest.is_empty() {
        return Err(Error::invalid(format!("{word} requires at least one argument")));
    }
    match word.as_str() {
        "CMD" => _ = settings.insert("Cmd".into(), command(rest)),
        "ENTRYPOINT" => _ = settings.insert("Entrypoint".into(), command(rest)),
        "USER" => _ = settings.insert("User".into(), json!(rest)),
        "WORKDIR" => _ = settings.insert("WorkingDir".into(), json!(rest)),
        "STOPSIGNAL" => {
            crate::signal::parse(rest)?;
            settings.insert("StopSignal".into(), json!(rest));
        }
        "ENV" => {
            let list = settings.entry("Env").or_insert_with(|| json!([]));
            for (key, value) in pairs(rest)? {
                if let Some(list) = list.as_array_mut() {
                    list.retain(|e| e.as_str().and_then(|e| e.split('=').next()) != Some(&key));
                    list.push(json!(format!("{key}={value}")));
                }
            }
        }
        "LABEL" => {
            let pairs = pairs(rest)?.into_iter().map(|(key, value)| (key, json!(value)));
            merge(settings, "Labels", pairs);
        }
        "EXPOSE" => {
            let port = |p: &str| {
                if p.contains('/') {
                    p.to_owned()
                } else {
                    format!("{p}/tcp")
                }
            };
            merge(
                settings,
                "ExposedPorts",
                rest.split_whitespace().map(|p| (port(p), json!({}))),
            );
        }
        "VOLUME" => {
            let list = serde_json::from_str::<Vec<String>>(rest);
            let list = list.unwrap_or_else(|_| rest.split_whitespace().map(String::from).collect());
            merge(settings, "Volumes", list.into_iter().map(|v| (v, json!({}))));
        }
        _ => return Err(Error::invalid(format!("{word} is not a valid change command"))),
    }
    Ok(())
}

fn merge(settings: &mut Map<String, Value>, key: &str, entries: impl Iterator<Item = (String, Value)>) {
    if let Some(map) = settings.entry(key).or_insert_with(|| json!({})).as_object_mut() {
        map.extend(entries);
    }
}

/// A JSON list is taken as it is; anything else is for a shell.
fn command(text: &str) -> Value {
    match serde_json::from_str::<Vec<String>>(text) {
        Ok(list) => json!(list),
        Err(_) => json!(["/bin/sh", "-c", text]),
    }
}

/// `A=1 B="two words"`, or `A one value`.
fn pairs(text: &str) -> Result<Vec<(String, String)>> {
    let words = words(text);
    if !words.first().is_some_and(|w| w.contains('=')) {
        let (key, value) = text
            .split_once(char::is_whitespace)
            .ok_or_else(|| Error::invalid("ENV must have two arguments"))?;
        return Ok(vec![(key.into(), value.trim().into())]);
    }
    let pair = |w: String| w.split_once('=').map(|(k, v)| (k.to_owned(), v.to_owned()));
    words
        .into_iter()
        .map(|w| pair(w).ok_or_else(|| Error::invalid("a word without '='")))
        .collect()
}

/// Split at blanks, quotes taken off.
fn words(text: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), String::new(), None);
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (c, quote) {
            ('\\', _) => word.extend(chars.next()),
            ('"' | '\'', None) => quote = Some(c),
            (c, Some(q)) if c == q => quote = None,
            (c, None) if c.is_whitespace() => words.extend((!word.is_empty()).then(|| std::mem::take(&mut word))),
            (c, _) => word.push(c),
        }
    }
    words.extend((!word.is_empty()).then_some(word));
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_become_settings() {
        let lines = [
            "CMD [\"a\",\"b\"]",
            "entrypoint run it",
            "ENV A=1 B=\"two words\"",
            "ENV A 3",
            "EXPOSE 80 53/udp",
            "VOLUME /x /y",
            "LABEL k=v",
            "USER me",
            "WORKDIR /w",
        ]
        .map(String::from);
        let expected = json!({"Cmd": ["a", "b"], "Entrypoint": ["/bin/sh", "-c", "run it"], "Env": ["B=two words", "A=3"],
            "ExposedPorts": {"80/tcp": {}, "53/udp": {}}, "Volumes": {"/x": {}, "/y": {}}, "Labels": {"k": "v"},
            "User": "me", "WorkingDir": "/w"});
        assert_eq!(settings(&lines).unwrap(), expected);
        assert!(settings(&["RUN x".into()]).is_err() && settings(&["CMD".into()]).is_err());
    }
}
