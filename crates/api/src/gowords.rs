//! What Go's `encoding/json` says of a body that it cannot read: clients show these words, and some look for them.
//!
//! Nothing here decides whether a body is good: serde has done that, and these are asked for words afterwards.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::openapi;

/// Depth that is followed; serde's own limit is lower.
const DEPTH: usize = 200;

/// Of a text that is no JSON: the first character that has no place there. `None` when the text only ends too early.
pub fn syntax(text: &[u8]) -> Option<String> {
    let mut scan = Scan { text, at: 0 };
    match scan.value(0) {
        Err(Stop::Here(words)) => Some(words),
        _ => None,
    }
}

enum Stop {
    /// The text is over.
    End,
    /// In these words.
    Here(String),
}

struct Scan<'a> {
    text: &'a [u8],
    at: usize,
}

impl Scan<'_> {
    fn peek(&mut self) -> Result<u8, Stop> {
        self.text.get(self.at).copied().ok_or(Stop::End)
    }

    fn next(&mut self) -> Result<u8, Stop> {
        let byte = self.peek()?;
        self.at += 1;
        Ok(byte)
    }

    fn blanks(&mut self) -> Result<u8, Stop> {
        while b" \t\r\n".contains(&self.peek()?) {
            self.at += 1;
        }
        self.peek()
    }

    fn value(&mut self, depth: usize) -> Result<(), Stop> {
        let first = self.blanks()?;
        match first {
            _ if depth > DEPTH => Err(Stop::Here("exceeded max depth".into())),
            b'{' => self.object(depth),
            b'[' => self.array(depth),
            b'"' => self.string(),
            b't' => self.word("true"),
            b'f' => self.word("false"),
            b'n' => self.word("null"),
            b'-' | b'0'..=b'9' => self.number(),
            other => Err(wrong(other, "looking for beginning of value")),
        }
    }

    fn object(&mut self, depth: usize) -> Result<(), Stop> {
        self.next()?;
        if self.blanks()? == b'}' {
            return self.next().map(drop);
        }
        loop {
            match self.blanks()? {
                b'"' => self.string()?,
                other => return Err(wrong(other, "looking for beginning of object key string")),
            }
            match self.blanks()? {
                b':' => self.at += 1,
                other => return Err(wrong(other, "after object key")),
            }
            self.value(depth + 1)?;
            self.blanks()?;
            match self.next()? {
                b',' => {}
                b'}' => return Ok(()),
                other => return Err(wrong(other, "after object key:value pair")),
            }
        }
    }

    fn array(&mut self, depth: usize) -> Result<(), Stop> {
        self.next()?;
        if self.blanks()? == b']' {
            return self.next().map(drop);
        }
        loop {
            self.value(depth + 1)?;
            self.blanks()?;
            match self.next()? {
                b',' => {}
                b']' => return Ok(()),
                other => return Err(wrong(other, "after array element")),
            }
        }
    }

    fn string(&mut self) -> Result<(), Stop> {
        self.next()?;
        loop {
            match self.next()? {
                b'"' => return Ok(()),
                b'\\' => self.escape()?,
                other if other < 0x20 => return Err(wrong(other, "in string")),
                _ => {}
            }
        }
    }

    fn escape(&mut self) -> Result<(), Stop> {
        let from = self.at - 1;
        let digits = match self.next()? {
            b'u' => 4,
            byte if b"\"\\/bfnrt".contains(&byte) => 0,
            _ => return Err(self.no_escape(from)),
        };
        for index in 0..digits {
            if !self.next()?.is_ascii_hexdigit() {
                self.at += 3 - index;
                return Err(self.no_escape(from));
            }
        }
        Ok(())
    }

    fn no_escape(&self, from: usize) -> Stop {
        let bytes = &self.text[from..self.at.min(self.text.len())];
        let text = String::from_utf8_lossy(bytes);
        Stop::Here(format!("invalid escape sequence `{text}` in string"))
    }

    fn word(&mut self, word: &str) -> Result<(), Stop> {
        for expected in word.bytes() {
            let byte = self.next()?;
            if byte != expected {
                let place = format!("in literal {word} (expecting '{}')", expected as char);
                return Err(wrong(byte, &place));
            }
        }
        Ok(())
    }

    fn number(&mut self) -> Result<(), Stop> {
        if self.peek()? == b'-' {
            self.at += 1;
        }
        match self.peek()? {
            b'0' => self.at += 1,
            _ => self.digits()?,
        }
        if self.text.get(self.at) == Some(&b'.') {
            self.at += 1;
            self.digits()?;
        }
        if self.text.get(self.at).is_some_and(|b| b"eE".contains(b)) {
            self.at += 1;
            if b"+-".contains(&self.peek()?) {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(())
    }

    /// At least one.
    fn digits(&mut self) -> Result<(), Stop> {
        let first = self.peek()?;
        if !first.is_ascii_digit() {
            return Err(wrong(first, "in numeric literal"));
        }
        while self.text.get(self.at).is_some_and(u8::is_ascii_digit) {
            self.at += 1;
        }
        Ok(())
    }
}

/// A byte as Go quotes it: on its own it stands for the character of that number.
fn wrong(byte: u8, place: &str) -> Stop {
    let quoted = match byte {
        b'\'' => "'\\''".to_owned(),
        b'\\' => "'\\\\'".to_owned(),
        b'\t' | b'\n' | b'\r' => format!("'{}'", (byte as char).escape_default()),
        0..=0x1f | 0x7f..=0xa0 => format!("'\\x{byte:02x}'"),
        byte => format!("'{}'", byte as char),
    };
    Stop::Here(format!("invalid character {quoted} {place}"))
}

/// The place in a body where something of another type was expected.
struct Mismatch<'a> {
    /// Names and numbers on the way.
    path: Vec<String>,
    /// What stands there.
    value: &'a Value,
    /// What should.
    schema: Value,
}

/// What does not fit the type, in Docker's words; `None` when that cannot be told.
pub fn mismatch<T: DeserializeOwned>(value: &Value) -> Option<String> {
    let mut schemas = Map::new();
    let root = openapi::of::<T>(&mut schemas);
    let found = find(&root, &schemas, value, &mut Vec::new())?;
    let field = found.path.last().map_or("", String::as_str);
    if found.schema.get("enum").is_some()
        && let Value::String(word) = found.value
    {
        return refused_word(field, word, value, &found.path);
    }
    let whole = found.schema["type"] == "integer";
    let kind = match found.value {
        Value::Null => "null".into(),
        Value::Bool(_) => "bool".into(),
        Value::Number(number) if whole => format!("number {number}"),
        Value::Number(_) => "number".into(),
        Value::String(_) => "string".into(),
        Value::Array(_) => "array".into(),
        Value::Object(_) => "object".into(),
    };
    let go = go_type(&found.schema, field);
    let words = match found.path.is_empty() {
        true => format!("json: cannot unmarshal {kind} into Go value of type {go}"),
        false => {
            // Its fields are those of structs within it, which have no name there.
            let of = go_type(&root, "");
            let of = of.rsplit('.').next().filter(|_| of != "container.CreateRequest");
            let in_struct = field.parse::<usize>().is_err();
            let place = found.path.iter().map(|p| p.replace('~', "~0").replace('/', "~1"));
            let place = place.collect::<Vec<_>>().join(".");
            format!(
                "json: cannot unmarshal {kind} into {}{}.{place} of type {go}",
                if in_struct { "Go struct field " } else { "" },
                of.unwrap_or_default()
            )
        }
    };
    Some(format!("invalid JSON: {words}"))
}

/// A word where only some are known: who would refuse it there.
fn refused_word(field: &str, word: &str, body: &Value, path: &[String]) -> Option<String> {
    Some(match (field, path.iter().rev().nth(1).map_or("", String::as_str)) {
        ("Name", "RestartPolicy") => format!(
            "invalid restart policy: unknown policy '{word}'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'"
        ),
        ("CgroupnsMode", _) => format!("invalid cgroup namespace mode: {word}"),
        ("Isolation", _) => format!("invalid isolation ({word}): linux only supports 'default'"),
        ("Type", _) if path.iter().any(|p| p == "Mounts") => {
            let mount = path[..path.len() - 1].iter().try_fold(body, |at, step| match at {
                Value::Array(items) => items.get(step.parse::<usize>().ok()?),
                other => other.get(step),
            });
            let target = mount.and_then(|m| m["Target"].as_str()).unwrap_or_default();
            let why = if target.is_empty() {
                "field Target must not be empty"
            } else {
                "mount type unknown"
            };
            format!("invalid mount config for type {word:?}: {why}")
        }
        _ => return None,
    })
}

fn resolved<'a>(schema: &'a Value, schemas: &'a Map<String, Value>) -> (&'a Value, Option<&'a str>) {
    let reference = schema["allOf"][0]["$ref"].as_str().or(schema["$ref"].as_str());
    match reference.and_then(|r| r.rsplit('/').next()) {
        Some(name) => (schemas.get(name).unwrap_or(&Value::Null), Some(name)),
        None => (schema, None),
    }
}

fn find<'a>(
    schema: &Value,
    schemas: &Map<String, Value>,
    value: &'a Value,
    path: &mut Vec<String>,
) -> Option<Mismatch<'a>> {
    let (here, _) = resolved(schema, schemas);
    let whole = |n: &serde_json::Number| {
        let limit = |name: &str| here[name].as_i64();
        match n.as_i64() {
            Some(n) => limit("minimum").is_none_or(|m| n >= m) && limit("maximum").is_none_or(|m| n <= m),
            None => n.is_u64() && here["maximum"].as_u64().is_none_or(|m| n.as_u64() <= Some(m)),
        }
    };
    let fits = match (here["type"].as_str().unwrap_or_default(), value) {
        (_, Value::Null) | ("", _) => return None,
        ("object", Value::Object(fields)) => {
            for (name, value) in fields {
                let own = here["properties"].get(name).or(here.get("additionalProperties"));
                path.push(name.clone());
                if let Some(found) = own.and_then(|own| find(own, schemas, value, path)) {
                    return Some(found);
                }
                path.pop();
            }
            true
        }
        ("array", Value::Array(items)) => {
            for (index, item) in items.iter().enumerate() {
                path.push(index.to_string());
                if let Some(found) = find(&here["items"], schemas, item, path) {
                    return Some(found);
                }
                path.pop();
            }
            true
        }
        ("string", Value::String(word)) => here["enum"].as_array().is_none_or(|e| e.iter().any(|v| v == word)),
        ("integer", Value::Number(number)) => whole(number),
        ("number", Value::Number(_)) | ("boolean", Value::Bool(_)) => true,
        _ => false,
    };
    (!fits).then(|| Mismatch {
        path: path.clone(),
        value,
        schema: if here["enum"].is_array() {
            here.clone()
        } else {
            schema.clone()
        },
    })
}

/// The name of a type in Docker's own source; `field` has one of its own now and then.
fn go_type(schema: &Value, field: &str) -> String {
    let own = GO_FIELDS.iter().find(|(name, _)| *name == field);
    if let Some((_, go)) = own {
        return (*go).to_owned();
    }
    let reference = schema["allOf"][0]["$ref"].as_str().or(schema["$ref"].as_str());
    if let Some(name) = reference.and_then(|r| r.rsplit('/').next()) {
        let known = GO_TYPES.iter().find(|(ours, _)| *ours == name);
        return known.map_or(format!("container.{name}"), |(_, go)| (*go).to_owned());
    }
    match schema["type"].as_str().unwrap_or_default() {
        "boolean" => "bool".into(),
        "integer" => "int64".into(),
        "number" => "float64".into(),
        "array" => format!("[]{}", go_type(&schema["items"], "")),
        "object" => format!("map[string]{}", go_type(&schema["additionalProperties"], "")),
        _ => "string".into(),
    }
}

/// Types whose names are not those of the API's description.
const GO_TYPES: &[(&str, &str)] = &[
    ("ContainerCreateBody", "container.CreateRequest"),
    ("ContainerUpdateBody", "container.UpdateConfig"),
    ("ConfigReference", "network.ConfigReference"),
    ("EndpointIpamConfig", "network.EndpointIPAMConfig"),
    ("EndpointSettings", "network.EndpointSettings"),
    ("ExecConfig", "container.ExecOptions"),
    ("ExecStartConfig", "container.ExecStartOptions"),
    ("HealthConfig", "v1.HealthcheckConfig"),
    ("Ipam", "network.IPAM"),
    ("IpamConfig", "network.IPAMConfig"),
    ("Mount", "mount.Mount"),
    ("NetworkConnectRequest", "network.ConnectOptions"),
    ("NetworkCreateRequest", "network.CreateRequest"),
    ("NetworkDisconnectRequest", "network.DisconnectOptions"),
    ("NetworkingConfig", "network.NetworkingConfig"),
    ("PortBinding", "nat.PortBinding"),
    ("VolumeCreateRequest", "volume.CreateOptions"),
];

/// Fields whose types have names of their own.
const GO_FIELDS: &[(&str, &str)] = &[
    ("BlkioWeight", "uint16"),
    ("ExposedPorts", "nat.PortSet"),
    ("Interval", "time.Duration"),
    ("IpcMode", "container.IpcMode"),
    ("MaximumRetryCount", "int"),
    ("NetworkMode", "container.NetworkMode"),
    ("OomScoreAdj", "int"),
    ("PidMode", "container.PidMode"),
    ("PortBindings", "nat.PortMap"),
    ("Retries", "int"),
    ("StartInterval", "time.Duration"),
    ("StartPeriod", "time.Duration"),
    ("StopTimeout", "int"),
    ("Timeout", "time.Duration"),
    ("UTSMode", "container.UTSMode"),
    ("UsernsMode", "container.UsernsMode"),
    ("Volumes", "map[string]struct {}"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use engine::models::{ContainerCreateBody, NetworkCreateRequest};

    /// dockerd 28.5.2's words.
    #[test]
    fn texts_that_are_no_json_are_told_as_go_does() {
        for (text, words) in [
            (
                "{Image:1}",
                "invalid character 'I' looking for beginning of object key string",
            ),
            (
                "{'Image':1}",
                "invalid character '\\'' looking for beginning of object key string",
            ),
            (
                "{\"a\":1,}",
                "invalid character '}' looking for beginning of object key string",
            ),
            ("{\"a\" 1}", "invalid character '1' after object key"),
            ("{\"a\":1 \"b\"}", "invalid character '\"' after object key:value pair"),
            ("[1 2]", "invalid character '2' after array element"),
            ("[,]", "invalid character ',' looking for beginning of value"),
            ("nulx", "invalid character 'x' in literal null (expecting 'l')"),
            ("{\"a\":tru}", "invalid character '}' in literal true (expecting 'e')"),
            ("{\"a\":-}", "invalid character '}' in numeric literal"),
            ("{\"a\":1.}", "invalid character '}' in numeric literal"),
            ("\"\\x\"", "invalid escape sequence `\\x` in string"),
            ("\"\\u00zz\"", "invalid escape sequence `\\u00zz` in string"),
            ("\"a\tb\"", "invalid character '\\t' in string"),
            ("\u{1}", "invalid character '\\x01' looking for beginning of value"),
        ] {
            assert_eq!(syntax(text.as_bytes()).as_deref(), Some(words), "{text}");
        }
        let odd = syntax(b"\xff").unwrap();
        assert_eq!(odd, "invalid character 'ÿ' looking for beginning of value");
        for early in ["{", "{\"a\"", "{\"a\":", "[1,", "\"\\", "tru", "-"] {
            assert_eq!(syntax(early.as_bytes()), None, "{early}");
        }
        assert!(syntax("[".repeat(100_000).as_bytes()).is_some());
    }

    #[test]
    fn types_that_do_not_fit_are_told_as_go_does() {
        for (body, words) in [
            ("[]", "array into Go value of type container.CreateRequest"),
            ("{\"Image\":5}", "number into Go struct field .Image of type string"),
            ("{\"Env\":\"a\"}", "string into Go struct field .Env of type []string"),
            ("{\"Env\":[5]}", "number into .Env.0 of type string"),
            (
                "{\"Labels\":[]}",
                "array into Go struct field .Labels of type map[string]string",
            ),
            (
                "{\"Labels\":{\"a\":5}}",
                "number into Go struct field .Labels.a of type string",
            ),
            ("{\"Tty\":\"yes\"}", "string into Go struct field .Tty of type bool"),
            (
                "{\"StopTimeout\":\"x\"}",
                "string into Go struct field .StopTimeout of type int",
            ),
            (
                "{\"HostConfig\":5}",
                "number into Go struct field .HostConfig of type container.HostConfig",
            ),
            (
                "{\"HostConfig\":{\"Memory\":1.5}}",
                "number 1.5 into Go struct field .HostConfig.Memory of type int64",
            ),
            (
                "{\"HostConfig\":{\"Devices\":5}}",
                "number into Go struct field .HostConfig.Devices of type []container.DeviceMapping",
            ),
            (
                "{\"HostConfig\":{\"PortBindings\":{\"80\":[{\"HostPort\":5}]}}}",
                "number into Go struct field .HostConfig.PortBindings.80.0.HostPort of type string",
            ),
        ] {
            let words = format!("invalid JSON: json: cannot unmarshal {words}");
            let value = serde_json::from_str(body).unwrap();
            assert_eq!(mismatch::<ContainerCreateBody>(&value), Some(words), "{body}");
        }
        let value = serde_json::json!({"Name": "x", "IPAM": {"Config": [{"Subnet": 5}]}});
        assert_eq!(
            mismatch::<NetworkCreateRequest>(&value).unwrap(),
            "invalid JSON: json: cannot unmarshal number into Go struct field CreateRequest.IPAM.Config.0.Subnet of type string"
        );
    }

    #[test]
    fn words_that_nobody_knows_are_refused_by_who_would_read_them() {
        for (host, words) in [
            (
                r#"{"RestartPolicy":{"Name":"foo"}}"#,
                "invalid restart policy: unknown policy 'foo'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'",
            ),
            (r#"{"CgroupnsMode":"foo"}"#, "invalid cgroup namespace mode: foo"),
            (
                r#"{"Mounts":[{"Type":"foo"}]}"#,
                "invalid mount config for type \"foo\": field Target must not be empty",
            ),
            (
                r#"{"Mounts":[{"Type":"foo","Target":"/x"}]}"#,
                "invalid mount config for type \"foo\": mount type unknown",
            ),
        ] {
            let host: Value = serde_json::from_str(host).unwrap();
            let body = serde_json::json!({"Image": "x", "HostConfig": host});
            assert_eq!(mismatch::<ContainerCreateBody>(&body).unwrap(), words);
        }
    }
}
