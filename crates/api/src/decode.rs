//! JSON bodies, read as Go's decoder reads them: names in any case, nulls as absent, unknown fields passed over.

use errdefs::{Error, Result};
use hyper::HeaderMap;
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::gowords;

/// The body; `None` when there is none, which is no error.
pub fn body<T: DeserializeOwned>(headers: &HeaderMap, bytes: &[u8]) -> Result<Option<T>> {
    let value = value(headers, bytes)?.filter(|value| !value.is_null());
    value.map(from_value).transpose()
}

/// A body that has to be there.
pub fn required<T: DeserializeOwned>(headers: &HeaderMap, bytes: &[u8]) -> Result<T> {
    body(headers, bytes)?.ok_or_else(missing)
}

/// A body of which nothing has to be there: what is not is empty.
pub fn lenient<T: DeserializeOwned>(headers: &HeaderMap, bytes: &[u8], texts: &[&str]) -> Result<T> {
    let mut value = value(headers, bytes)?.filter(|v| !v.is_null());
    let value = value.get_or_insert_with(|| Value::Object(Default::default()));
    if let Some(fields) = value.as_object_mut() {
        for text in texts {
            fields.entry(*text).or_insert_with(|| "".into());
        }
    }
    from_value(value.take())
}

/// There is no body, and there should be.
pub fn missing() -> Error {
    Error::invalid("invalid JSON: got EOF while reading request body")
}

/// What there is, before it is given a type.
pub fn value(headers: &HeaderMap, bytes: &[u8]) -> Result<Option<Value>> {
    let kind = headers.get(CONTENT_TYPE).map(|v| v.to_str().unwrap_or_default());
    match kind {
        None if bytes.is_empty() => return Ok(None),
        None => return Err(Error::invalid("malformed Content-Type header (): mime: no media type")),
        Some(kind) => check_type(kind)?,
    }
    if bytes.is_empty() {
        let said = headers.get(CONTENT_LENGTH).is_some_and(|l| l != "0");
        return match said {
            true => Err(Error::invalid("invalid JSON: got EOF while reading request body")),
            false => Ok(None),
        };
    }
    let mut stream = serde_json::Deserializer::from_slice(bytes).into_iter::<Value>();
    let value = match stream.next() {
        None => return Err(Error::invalid("invalid JSON: got EOF while reading request body")),
        Some(Err(e)) if e.is_eof() => return Err(Error::invalid("invalid JSON: unexpected EOF")),
        Some(Err(e)) => {
            let words = gowords::syntax(bytes).unwrap_or_else(|| e.to_string());
            return Err(Error::invalid(format!("invalid JSON: {words}")));
        }
        Some(Ok(value)) => value,
    };
    let rest = bytes.get(stream.byte_offset()..).unwrap_or_default();
    match rest.iter().all(u8::is_ascii_whitespace) {
        true => Ok(Some(value)),
        false => Err(Error::invalid("unexpected content after JSON")),
    }
}

fn check_type(kind: &str) -> Result<()> {
    let essence = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match essence.as_str() {
        "application/json" => Ok(()),
        "" => Err(Error::invalid(format!(
            "malformed Content-Type header ({kind}): mime: no media type"
        ))),
        _ => Err(Error::invalid(format!(
            "unsupported Content-Type header ({kind}): must be 'application/json'"
        ))),
    }
}

/// A value as a type; nulls count as absent.
pub fn from_value<T: DeserializeOwned>(mut value: Value) -> Result<T> {
    without_nulls(&mut value);
    // What it is not is told only when it is not: the words need the value, which reading takes.
    T::deserialize(&value).map_err(|e| {
        let words = gowords::mismatch::<T>(&value);
        Error::invalid(words.unwrap_or_else(|| format!("invalid JSON: {e}")))
    })
}

fn without_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, v| !v.is_null());
            fields.values_mut().for_each(without_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(without_nulls),
        _ => {}
    }
}

/// Names as Docker writes them, for clients that begin them with a small letter: Go's decoder takes both.
pub fn capitals(value: &mut Value) {
    let Some(fields) = value.as_object_mut() else { return };
    let small: Vec<String> = fields
        .keys()
        .filter(|k| k.starts_with(|c: char| c.is_ascii_lowercase()))
        .cloned()
        .collect();
    for name in small {
        let capital = name[..1].to_ascii_uppercase() + &name[1..];
        if let Some(value) = fields.remove(&name) {
            fields.entry(capital).or_insert(value);
        }
    }
}

/// The body of `containers/create`: one reading of it for who decides and for who does.
pub fn container(headers: &HeaderMap, bytes: &[u8]) -> Result<engine::models::ContainerCreateBody> {
    let mut body = value(headers, bytes)?.ok_or_else(missing)?;
    capitals(&mut body);
    words_to_lists(&mut body, &["Cmd", "Entrypoint"])?;
    let about_the_container = |name: &String| !["HostConfig", "NetworkingConfig"].contains(&name.as_str());
    if body.is_null() || body.as_object().is_some_and(|b| !b.keys().any(about_the_container)) {
        return Err(Error::invalid("config cannot be empty in order to create a container"));
    }
    mac_address(&mut body)?;
    from_value(body)
}

/// A container's own address (before 1.44) is that of its endpoint on its main network.
fn mac_address(body: &mut Value) -> Result<()> {
    let Some(Value::String(address)) = field(body, "MacAddress").map(Value::take) else {
        return Ok(());
    };
    if address.is_empty() {
        return Ok(());
    }
    let mode = field(body, "HostConfig").and_then(|host| field(host, "NetworkMode"));
    let network = match mode.and_then(|m| m.as_str()).unwrap_or_default() {
        "" | "default" => "bridge".to_owned(),
        mode if ["none", "host"].contains(&mode) || mode.starts_with("container:") => {
            return Err(Error::invalid("conflicting options: mac-address and the network mode"));
        }
        mode => mode.to_owned(),
    };
    let mut asked = body;
    for name in ["NetworkingConfig", "EndpointsConfig", &network, "MacAddress"] {
        if asked.is_null() {
            *asked = Value::Object(Default::default());
        }
        let fields = asked.as_object_mut();
        let fields = fields.ok_or_else(|| Error::invalid(format!("invalid JSON: {name} belongs to an object")))?;
        asked = fields.entry(name).or_insert(Value::Null);
    }
    match asked.as_str().unwrap_or_default() {
        "" => *asked = address.into(),
        other if other == address => {}
        _ => {
            return Err(Error::invalid(
                "the container-wide MAC address must match the endpoint-specific MAC address for the main network, or be \
                 left empty",
            ));
        }
    }
    Ok(())
}

/// A field under whatever case it was written in.
fn field<'a>(value: &'a mut Value, name: &str) -> Option<&'a mut Value> {
    let fields = value.as_object_mut()?;
    if !fields.contains_key(name) {
        let other = fields.keys().find(|k| k.eq_ignore_ascii_case(name))?.clone();
        let moved = fields.remove(&other)?;
        fields.insert(name.to_owned(), moved);
    }
    fields.get_mut(name)
}

/// Fields that may be one word instead of a list (moby's `StrSlice`, which has words of its own).
fn words_to_lists(value: &mut Value, names: &[&str]) -> Result<()> {
    for name in names {
        let Some(field) = field(value, name) else { continue };
        let bad = match field {
            Value::String(word) => {
                *field = Value::Array(vec![Value::String(std::mem::take(word))]);
                None
            }
            Value::Array(words) => words.iter().any(|w| !w.is_string() && !w.is_null()).then_some("array"),
            Value::Null => None,
            Value::Bool(_) => Some("bool"),
            Value::Number(_) => Some("number"),
            Value::Object(_) => Some("object"),
        };
        if let Some(kind) = bad {
            let words = format!("invalid JSON: json: cannot unmarshal {kind} into Go value of type string");
            return Err(Error::invalid(words));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::models::ContainerCreateBody;
    use hyper::header::HeaderValue;

    fn read(text: &str) -> Result<Option<ContainerCreateBody>> {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(CONTENT_LENGTH, HeaderValue::from_static("1"));
        body(&headers, text.as_bytes())
    }

    #[test]
    fn bad_bodies_get_dockers_words() {
        for (text, words) in [
            ("", "invalid JSON: got EOF while reading request body"),
            ("{", "invalid JSON: unexpected EOF"),
            ("{} x", "unexpected content after JSON"),
            ("{\"Image\":5}", "invalid JSON: "),
            ("nope", "invalid JSON: "),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.starts_with(words), "{text}: {error}");
        }
        assert_eq!(
            read("{\"Image\":\"x\",\"Cmd\":null,\"Unknown\":1}")
                .unwrap()
                .unwrap()
                .image
                .unwrap(),
            "x"
        );
        assert!(body::<Value>(&HeaderMap::new(), b"{}").is_err());
        assert!(body::<Value>(&HeaderMap::new(), b"").unwrap().is_none());
    }

    #[test]
    fn small_letters_are_capitals() {
        let mut value = serde_json::json!({"detachKeys": "x", "Cmd": [], "cmd": 1});
        capitals(&mut value);
        assert_eq!(value, serde_json::json!({"DetachKeys": "x", "Cmd": []}));
    }

    #[test]
    fn depth_is_limited() {
        assert!(read(&"[".repeat(100_000)).is_err());
    }
}
