//! Nodes and data to text.

use std::cmp::Ordering;

use serde_json::{Value, json};

use super::parse::{Node, Operand, Pipeline};

type Result<T> = std::result::Result<T, String>;

/// Fills a template in.
pub fn evaluate(nodes: &[Node], data: &Value) -> Result<String> {
    let mut scope = Scope {
        variables: vec![(String::new(), data.clone())],
        out: String::new(),
    };
    scope.nodes(nodes, data)?;
    Ok(scope.out)
}

struct Scope {
    /// `$` is the one without a name.
    variables: Vec<(String, Value)>,
    out: String,
}

impl Scope {
    fn nodes(&mut self, nodes: &[Node], dot: &Value) -> Result<()> {
        nodes.iter().try_for_each(|node| self.node(node, dot))
    }

    /// What is set inside is not seen outside.
    fn block(&mut self, nodes: &[Node], dot: &Value) -> Result<()> {
        let depth = self.variables.len();
        let done = self.nodes(nodes, dot);
        self.variables.truncate(depth);
        done
    }

    fn node(&mut self, node: &Node, dot: &Value) -> Result<()> {
        match node {
            Node::Text(text) => self.out.push_str(text),
            Node::Action(pipeline) => {
                let value = self.pipeline(pipeline, dot)?;
                match &pipeline.set {
                    Some(name) => self.variables.push((name.clone(), value)),
                    None => self.out.push_str(&show(&value)),
                }
            }
            Node::If(branches) => {
                let depth = self.variables.len();
                for (condition, body) in branches {
                    let holds = match condition {
                        Some(pipeline) => truth(&self.condition(pipeline, dot)?),
                        None => true,
                    };
                    if holds {
                        self.nodes(body, dot)?;
                        break;
                    }
                }
                self.variables.truncate(depth);
            }
            Node::With(pipeline, body, otherwise) => {
                let depth = self.variables.len();
                let value = self.condition(pipeline, dot)?;
                if truth(&value) {
                    self.nodes(body, &value)?;
                } else {
                    self.nodes(otherwise, dot)?;
                }
                self.variables.truncate(depth);
            }
            Node::Range {
                variables,
                over,
                body,
                otherwise,
            } => {
                let items: Vec<(Value, Value)> = match self.pipeline(over, dot)? {
                    Value::Array(list) => list.into_iter().enumerate().map(|(i, v)| (json!(i), v)).collect(),
                    Value::Object(map) => map.into_iter().map(|(k, v)| (json!(k), v)).collect(),
                    Value::Null => Vec::new(),
                    other => return Err(format!("range can't iterate over {}", show(&other))),
                };
                if items.is_empty() {
                    return self.block(otherwise, dot);
                }
                for (key, value) in items {
                    let depth = self.variables.len();
                    match variables.as_slice() {
                        [one] => self.variables.push((one.clone(), value.clone())),
                        [first, second] => {
                            self.variables.push((first.clone(), key));
                            self.variables.push((second.clone(), value.clone()));
                        }
                        _ => {}
                    }
                    let done = self.nodes(body, &value);
                    self.variables.truncate(depth);
                    done?;
                }
            }
        }
        Ok(())
    }

    /// A pipeline whose variable, if it sets one, is seen in what follows.
    fn condition(&mut self, pipeline: &Pipeline, dot: &Value) -> Result<Value> {
        let value = self.pipeline(pipeline, dot)?;
        self.variables
            .extend(pipeline.set.iter().map(|name| (name.clone(), value.clone())));
        Ok(value)
    }

    fn pipeline(&mut self, pipeline: &Pipeline, dot: &Value) -> Result<Value> {
        let mut last: Option<Value> = None;
        for command in &pipeline.commands {
            last = Some(self.command(command, dot, last)?);
        }
        Ok(last.unwrap_or(Value::Null))
    }

    fn command(&mut self, command: &[Operand], dot: &Value, piped: Option<Value>) -> Result<Value> {
        let (first, rest) = command.split_first().ok_or("missing value for command")?;
        if let Operand::Function(name) = first {
            if ["and", "or"].contains(&name.as_str()) && !rest.is_empty() {
                return self.first_that_decides(name == "or", rest, dot, piped);
            }
            let mut arguments = rest.iter().map(|o| self.operand(o, dot)).collect::<Result<Vec<_>>>()?;
            arguments.extend(piped);
            return call(name, &arguments);
        }
        // The one method of Docker's rows that takes something: `{{.Label "name"}}`.
        if let (Operand::Field(path), [name]) = (first, rest)
            && path.as_slice() == ["Label"]
        {
            return label(dot, &self.operand(name, dot)?);
        }
        match rest.is_empty() && piped.is_none() {
            true => self.operand(first, dot),
            false => Err("can't give argument to non-function".into()),
        }
    }

    /// `and` and `or`: what comes after the one that decides is not looked at.
    fn first_that_decides(&mut self, on: bool, all: &[Operand], dot: &Value, piped: Option<Value>) -> Result<Value> {
        let mut last = Value::Null;
        for operand in all {
            last = self.operand(operand, dot)?;
            if truth(&last) == on {
                return Ok(last);
            }
        }
        Ok(piped.unwrap_or(last))
    }

    fn operand(&mut self, operand: &Operand, dot: &Value) -> Result<Value> {
        Ok(match operand {
            Operand::Field(path) => field(dot, path)?,
            Operand::Variable(name, path) => {
                let found = self
                    .variables
                    .iter()
                    .rev()
                    .find(|(n, _)| n == name)
                    .map(|(_, v)| v.clone());
                field(&found.ok_or_else(|| format!("undefined variable \"${name}\""))?, path)?
            }
            Operand::Text(text) => json!(text),
            Operand::Number(n) if n.fract() == 0.0 => json!(*n as i64),
            Operand::Number(n) => json!(n),
            Operand::Truth(truth) => json!(truth),
            Operand::Nothing => Value::Null,
            Operand::Function(name) => call(name, &[])?,
            Operand::Nested(pipeline, path) => field(&self.pipeline(pipeline, dot)?, path)?,
        })
    }
}

/// A label of a row of a list, where labels stand as `a=b,c=d`.
fn label(row: &Value, name: &Value) -> Result<Value> {
    let labels = row
        .get("Labels")
        .and_then(Value::as_str)
        .ok_or("can't evaluate field Label")?;
    let found = labels
        .split(',')
        .filter_map(|label| label.split_once('='))
        .find(|(key, _)| name.as_str() == Some(key));
    Ok(json!(found.map_or("", |(_, value)| value)))
}

/// Maps with keys of the user's own: one that is not there is no mistake.
const MAPS: &[&str] = &[
    "Attributes",
    "Labels",
    "Options",
    "Ports",
    "Networks",
    "Volumes",
    "Sysctls",
    "Tmpfs",
];

/// By the exact name, else by one that differs in case alone: Go's fields and the JSON's do.
fn field(value: &Value, path: &[String]) -> Result<Value> {
    let mut at = value.clone();
    for (place, name) in path.iter().enumerate() {
        let open = place > 0 && MAPS.contains(&path[place - 1].as_str());
        at = match &at {
            Value::Object(map) => {
                let found = map
                    .get(name)
                    .or_else(|| map.iter().find(|(k, _)| k.eq_ignore_ascii_case(name)).map(|(_, v)| v));
                found
                    .cloned()
                    .or(open.then_some(Value::Null))
                    .ok_or_else(|| format!("at <.{}>: map has no entry for key {name:?}", path.join(".")))?
            }
            Value::Null => return Err(format!("at <.{}>: nil data; no entry for key {name:?}", path.join("."))),
            _ => return Err(format!("at <.{}>: can't evaluate field {name}", path.join("."))),
        };
    }
    Ok(at)
}

fn truth(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(b) => *b,
        Value::Number(n) => n.as_f64() != Some(0.0),
        Value::String(s) => !s.is_empty(),
        Value::Array(a) => !a.is_empty(),
        Value::Object(o) => !o.is_empty(),
    }
}

/// As Go prints it.
fn show(value: &Value) -> String {
    match value {
        Value::Null => "<no value>".into(),
        Value::String(s) => s.clone(),
        Value::Array(list) => format!("[{}]", list.iter().map(show).collect::<Vec<_>>().join(" ")),
        Value::Object(map) => {
            let entries: Vec<String> = map.iter().map(|(k, v)| format!("{k}:{}", show(v))).collect();
            format!("map[{}]", entries.join(" "))
        }
        other => other.to_string(),
    }
}

fn compare(a: &Value, b: &Value) -> Option<Ordering> {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a.as_f64()?.partial_cmp(&b.as_f64()?),
        (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
        _ => None,
    }
}

/// What a function was given.
struct Arguments<'a> {
    name: &'a str,
    list: &'a [Value],
}

impl<'a> Arguments<'a> {
    fn wrong(&self, wanted: &str) -> String {
        format!(
            "wrong number of args for {}: want {wanted} got {}",
            self.name,
            self.list.len()
        )
    }

    fn one(&self) -> Result<&'a Value> {
        match self.list {
            [only] => Ok(only),
            _ => Err(self.wrong("1")),
        }
    }

    fn two(&self) -> Result<(&'a Value, &'a Value)> {
        match self.list {
            [first, second] => Ok((first, second)),
            _ => Err(self.wrong("2")),
        }
    }

    fn first_and_rest(&self) -> Result<(&'a Value, &'a [Value])> {
        self.list.split_first().ok_or_else(|| self.wrong("at least 1"))
    }
}

fn call(name: &str, list: &[Value]) -> Result<Value> {
    let given = Arguments { name, list };
    let found = match text_function(&given)? {
        None => general_function(&given)?,
        found => found,
    };
    found.ok_or_else(|| format!("function {name:?} not defined"))
}

/// Those of Go's text/template.
fn general_function(given: &Arguments<'_>) -> Result<Option<Value>> {
    let order = |holds: fn(Ordering) -> bool| -> Result<Value> {
        let (a, b) = given.two()?;
        compare(a, b)
            .map(|o| json!(holds(o)))
            .ok_or_else(|| format!("error calling {}: incompatible types for comparison", given.name))
    };
    let deciding = |stops: fn(&Value) -> bool| -> Result<Value> {
        let (first, _) = given.first_and_rest()?;
        let last = given.list.last().unwrap_or(first);
        Ok(given.list.iter().find(|a| stops(a)).unwrap_or(last).clone())
    };
    Ok(Some(match given.name {
        "len" => json!(match given.one()? {
            Value::String(s) => s.len(),
            Value::Array(a) => a.len(),
            Value::Object(o) => o.len(),
            other => return Err(format!("error calling len: len of {}", show(other))),
        }),
        "index" => {
            let (at, path) = given.first_and_rest()?;
            path.iter().try_fold(at.clone(), |at, key| index(&at, key))?
        }
        "not" => json!(!truth(given.one()?)),
        "and" => deciding(|a| !truth(a))?,
        "or" => deciding(truth)?,
        "eq" => match given.list {
            [first, others @ ..] if !others.is_empty() => json!(others.contains(first)),
            _ => return Err(given.wrong("at least 2")),
        },
        "ne" => {
            let (a, b) = given.two()?;
            json!(a != b)
        }
        "lt" => order(Ordering::is_lt)?,
        "le" => order(Ordering::is_le)?,
        "gt" => order(Ordering::is_gt)?,
        "ge" => order(Ordering::is_ge)?,
        _ => return Ok(None),
    }))
}

/// Those that make text: Go's and Docker's (`docker/cli` templates).
fn text_function(given: &Arguments<'_>) -> Result<Option<Value>> {
    Ok(Some(match given.name {
        "json" => json!(to_json(given.one()?)),
        "join" => {
            let (list, separator) = given.two()?;
            let items = list.as_array().ok_or("error calling join: it is no list")?;
            json!(items.iter().map(show).collect::<Vec<_>>().join(&show(separator)))
        }
        "split" => {
            let (whole, separator) = given.two()?;
            json!(show(whole).split(&show(separator)).collect::<Vec<_>>())
        }
        "upper" => json!(show(given.one()?).to_uppercase()),
        "lower" => json!(show(given.one()?).to_lowercase()),
        "title" => json!(title(&show(given.one()?))),
        "truncate" => {
            let (whole, length) = given.two()?;
            let length = length.as_u64().unwrap_or(0) as usize;
            json!(show(whole).chars().take(length).collect::<String>())
        }
        "pad" => match given.list {
            [whole, before, after] => {
                let blanks = |n: &Value| " ".repeat(n.as_u64().unwrap_or(0).min(1000) as usize);
                json!(format!("{}{}{}", blanks(before), show(whole), blanks(after)))
            }
            _ => return Err(given.wrong("3")),
        },
        "print" => json!(given.list.iter().map(show).collect::<String>()),
        "println" => json!(given.list.iter().map(show).collect::<Vec<_>>().join(" ") + "\n"),
        "printf" => {
            let (format, values) = given.first_and_rest()?;
            json!(printf(&show(format), values)?)
        }
        _ => return Ok(None),
    }))
}

/// Each word begins with a capital letter.
fn title(text: &str) -> String {
    let mut first = true;
    let letter = |c: char| {
        let begins = std::mem::replace(&mut first, !c.is_alphanumeric());
        if begins {
            c.to_uppercase().to_string()
        } else {
            c.to_string()
        }
    };
    text.chars().map(letter).collect()
}

fn index(value: &Value, key: &Value) -> Result<Value> {
    match (value, key) {
        (Value::Object(map), Value::String(key)) => Ok(map.get(key).cloned().unwrap_or(json!(""))),
        (Value::Array(list), Value::Number(n)) => {
            let found = n.as_u64().and_then(|n| list.get(n as usize));
            found
                .cloned()
                .ok_or_else(|| format!("error calling index: index out of range: {n}"))
        }
        _ => Err(format!("error calling index: can't index item of {}", show(value))),
    }
}

/// As Go's encoder: with `<`, `>` and `&` escaped.
pub fn to_json(value: &Value) -> String {
    value
        .to_string()
        .replace('<', "\\u003c")
        .replace('>', "\\u003e")
        .replace('&', "\\u0026")
}

/// `%s %v %d %q %%`, with a width.
fn printf(format: &str, values: &[Value]) -> Result<String> {
    let (mut out, mut values, mut chars) = (String::new(), values.iter(), format.chars());
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut width = String::new();
        let verb = loop {
            match chars.next() {
                Some(c) if c.is_ascii_digit() || c == '-' => width.push(c),
                other => break other,
            }
        };
        if verb == Some('%') {
            out.push('%');
            continue;
        }
        let value = values.next().ok_or("error calling printf: a value is missing")?;
        let text = match verb {
            Some('s' | 'v') => show(value),
            Some('d') if value.is_number() => show(value),
            Some('q') => format!("{:?}", show(value)),
            other => {
                return Err(format!(
                    "error calling printf: %{} of {}",
                    other.unwrap_or(' '),
                    show(value)
                ));
            }
        };
        let zeros = width.starts_with('0');
        let number: i64 = width.parse().unwrap_or(0);
        let size = number.unsigned_abs().min(1000) as usize;
        out.push_str(&match (number < 0, zeros) {
            (true, _) => format!("{text:<size$}"),
            (false, true) => format!("{text:0>size$}"),
            (false, false) => format!("{text:>size$}"),
        });
    }
    match values.next() {
        Some(_) => Err("error calling printf: too many values".into()),
        None => Ok(out),
    }
}

/// `{{.ID}}\t{{.Names}}` gives `ID\tNAMES`: a table's titles.
pub fn titles(nodes: &[Node]) -> String {
    let title = |pipeline: &Pipeline| {
        let operands = pipeline.commands.iter().flatten();
        operands
            .filter_map(|o| {
                if let Operand::Field(path) = o {
                    path.last().cloned()
                } else {
                    None
                }
            })
            .next()
            .unwrap_or_default()
    };
    let piece = |node: &Node| match node {
        Node::Text(text) => text.clone(),
        Node::Action(pipeline) => spaced(&title(pipeline)),
        _ => String::new(),
    };
    nodes.iter().map(piece).collect()
}

/// `CreatedAt` is titled `CREATED AT`, as Docker does it.
fn spaced(field: &str) -> String {
    match field {
        "ID" => "ID".into(),
        "RunningFor" | "CreatedSince" => "CREATED".into(),
        "Repository" | "Tag" | "Digest" | "Image" | "Command" | "Ports" | "Status" | "Names" | "Size" | "State" => {
            field.to_uppercase()
        }
        _ => {
            let mut out = String::new();
            for c in field.chars() {
                if c.is_uppercase() && out.ends_with(|p: char| p.is_lowercase()) {
                    out.push(' ');
                }
                out.push(c);
            }
            out.to_uppercase()
        }
    }
}
