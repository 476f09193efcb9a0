//! The `filters` parameter: a JSON object of lists, or of sets as old clients write them.

use errdefs::{Error, Result};
use serde_json::Value;

/// Longest text that is looked at.
const LIMIT: usize = 64 << 10;

/// Names and values; empty when there is no parameter.
pub fn parse(text: Option<&str>) -> Result<Vec<(String, String)>> {
    let bad = || Error::invalid("invalid filter");
    let Some(text) = text.filter(|t| !t.is_empty()) else {
        return Ok(Vec::new());
    };
    if text.len() > LIMIT {
        return Err(bad());
    }
    let names = match serde_json::from_str(text) {
        Ok(Value::Object(names)) => names,
        Ok(Value::Null) => return Ok(Vec::new()),
        _ => return Err(bad()),
    };
    let mut pairs = Vec::new();
    for (name, values) in names {
        match values {
            Value::Array(values) => {
                for value in values {
                    let value = value.as_str().ok_or_else(bad)?;
                    pairs.push((name.clone(), value.to_owned()));
                }
            }
            Value::Object(values) => {
                for (value, on) in values {
                    on.as_bool().ok_or_else(bad)?;
                    pairs.push((name.clone(), value));
                }
            }
            Value::Null => {}
            _ => return Err(bad()),
        }
    }
    Ok(pairs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_read_and_others_refused() {
        let expected = vec![("label".to_owned(), "a=b".to_owned())];
        assert_eq!(parse(Some(r#"{"label":["a=b"]}"#)).unwrap(), expected);
        assert_eq!(parse(Some(r#"{"label":{"a=b":true}}"#)).unwrap(), expected);
        assert!(parse(None).unwrap().is_empty() && parse(Some("{}")).unwrap().is_empty());
        assert!(parse(Some("null")).unwrap().is_empty());
        for bad in ["x", "[]", r#"{"a":1}"#, r#"{"a":[1]}"#, r#"{"a":{"b":1}}"#, "{\"a\""] {
            assert_eq!(parse(Some(bad)).unwrap_err().to_string(), "invalid filter", "{bad}");
        }
    }

    /// Whatever comes: an answer, never a panic, and never more values than the text has commas.
    #[test]
    fn mutated_filters_do_no_harm() {
        let seed = br#"{"label":["a=b","c"],"status":{"running":true},"name":["\u00e9"]}"#;
        let mut state = 0x9e37_79b9_7f4a_7c15u64;
        let mut random = move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as usize
        };
        for _ in 0..20_000 {
            let mut bytes = seed.to_vec();
            for _ in 0..1 + random() % 4 {
                let at = random() % bytes.len();
                match random() % 3 {
                    0 => bytes[at] = random() as u8,
                    1 => _ = bytes.remove(at),
                    _ => bytes.insert(at, b"{}[],:\"\\x0"[random() % 10]),
                }
            }
            if let Ok(text) = std::str::from_utf8(&bytes)
                && let Ok(pairs) = parse(Some(text))
            {
                assert!(pairs.len() <= text.len());
            }
        }
    }
}
