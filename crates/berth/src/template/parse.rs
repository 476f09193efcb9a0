//! Text to nodes.

/// A piece of a template.
#[derive(Debug)]
pub enum Node {
    Text(String),
    /// `{{pipeline}}`; with the variable that it sets.
    Action(Pipeline),
    If(Vec<(Option<Pipeline>, Vec<Node>)>),
    With(Pipeline, Vec<Node>, Vec<Node>),
    Range {
        variables: Vec<String>,
        over: Pipeline,
        body: Vec<Node>,
        otherwise: Vec<Node>,
    },
}

/// Commands, each of which gets the result of the one before as its last argument.
#[derive(Debug)]
pub struct Pipeline {
    pub set: Option<String>,
    pub commands: Vec<Vec<Operand>>,
}

/// A word of a command.
#[derive(Debug)]
pub enum Operand {
    /// `.A.B`; empty for `.`.
    Field(Vec<String>),
    /// `$x.A`.
    Variable(String, Vec<String>),
    Text(String),
    Number(f64),
    Truth(bool),
    Nothing,
    Function(String),
    /// `(pipeline)`, with fields after it.
    Nested(Box<Pipeline>, Vec<String>),
}

type Result<T> = std::result::Result<T, String>;

/// The whole text.
pub fn parse(text: &str) -> Result<Vec<Node>> {
    let mut pieces = pieces(text)?.into_iter().peekable();
    let nodes = block(&mut pieces)?;
    match pieces.next() {
        Some(Piece::Action(word)) => Err(format!("unexpected {{{{{word}}}}}")),
        _ => Ok(nodes),
    }
}

/// Text, or what stands between braces.
enum Piece {
    Text(String),
    Action(String),
}

fn pieces(text: &str) -> Result<Vec<Piece>> {
    let (mut pieces, mut rest, mut trim) = (Vec::new(), text, false);
    loop {
        let (before, after) = rest.split_once("{{").map_or((rest, None), |(b, a)| (b, Some(a)));
        let before = if trim { before.trim_start() } else { before };
        let Some(after) = after else {
            pieces.push(Piece::Text(before.to_owned()));
            return Ok(pieces);
        };
        let left = after.starts_with("- ");
        pieces.push(Piece::Text(if left { before.trim_end() } else { before }.to_owned()));
        let end = end_of_action(after).ok_or("unclosed action")?;
        let action = &after[usize::from(left)..end];
        trim = action.ends_with(" -");
        let action = action.strip_suffix(" -").unwrap_or(action).trim();
        if !action.starts_with("/*") {
            pieces.push(Piece::Action(action.to_owned()));
        }
        rest = &after[end + 2..];
    }
}

/// The closing braces, those in strings passed over.
fn end_of_action(text: &str) -> Option<usize> {
    let (mut quote, mut escaped) = (None, false);
    for (index, c) in text.char_indices() {
        match (quote, c) {
            (Some('"'), '\\') if !escaped => {
                escaped = true;
                continue;
            }
            (Some(q), c) if c == q && !escaped => quote = None,
            (None, '"' | '`') => quote = Some(c),
            (None, '}') if text[index..].starts_with("}}") => return Some(index),
            _ => {}
        }
        escaped = false;
    }
    None
}

type Pieces = std::iter::Peekable<std::vec::IntoIter<Piece>>;

/// Until `end`, `else` or the end of the text, none of which is taken.
fn block(pieces: &mut Pieces) -> Result<Vec<Node>> {
    let mut nodes = Vec::new();
    loop {
        match pieces.peek() {
            None => return Ok(nodes),
            Some(Piece::Action(word)) if word == "end" || word == "else" || word.starts_with("else ") => {
                return Ok(nodes);
            }
            Some(_) => {}
        }
        match pieces.next() {
            Some(Piece::Text(text)) if text.is_empty() => {}
            Some(Piece::Text(text)) => nodes.push(Node::Text(text)),
            Some(Piece::Action(action)) => nodes.push(node(&action, pieces)?),
            None => return Ok(nodes),
        }
    }
}

fn node(action: &str, pieces: &mut Pieces) -> Result<Node> {
    let (word, rest) = action.split_once(char::is_whitespace).unwrap_or((action, ""));
    match word {
        "if" => conditional(rest, pieces),
        "with" => {
            let over = pipeline(rest)?;
            let body = block(pieces)?;
            Ok(Node::With(over, body, otherwise(pieces)?))
        }
        "range" => {
            let (variables, over) = match rest.split_once(":=") {
                Some((names, over)) => (
                    names
                        .split(',')
                        .map(|n| n.trim().trim_start_matches('$').to_owned())
                        .collect(),
                    over,
                ),
                None => (Vec::new(), rest),
            };
            let over = pipeline(over)?;
            let body = block(pieces)?;
            Ok(Node::Range {
                variables,
                over,
                body,
                otherwise: otherwise(pieces)?,
            })
        }
        _ => pipeline(action).map(Node::Action),
    }
}

fn conditional(condition: &str, pieces: &mut Pieces) -> Result<Node> {
    let mut branches = vec![(Some(pipeline(condition)?), block(pieces)?)];
    loop {
        match pieces.next() {
            Some(Piece::Action(word)) if word == "end" => return Ok(Node::If(branches)),
            Some(Piece::Action(word)) => match word.strip_prefix("else").map(str::trim) {
                Some("") => branches.push((None, block(pieces)?)),
                Some(rest) => {
                    let condition = rest.strip_prefix("if ").ok_or("unexpected word after else")?;
                    branches.push((Some(pipeline(condition)?), block(pieces)?));
                }
                None => return Err(format!("unexpected {{{{{word}}}}}")),
            },
            _ => return Err("unexpected EOF".into()),
        }
    }
}

/// `{{else}}...{{end}}`, or just the end.
fn otherwise(pieces: &mut Pieces) -> Result<Vec<Node>> {
    match pieces.next() {
        Some(Piece::Action(word)) if word == "end" => Ok(Vec::new()),
        Some(Piece::Action(word)) if word == "else" => {
            let nodes = block(pieces)?;
            match pieces.next() {
                Some(Piece::Action(word)) if word == "end" => Ok(nodes),
                _ => Err("unexpected EOF".into()),
            }
        }
        _ => Err("unexpected EOF".into()),
    }
}

fn pipeline(text: &str) -> Result<Pipeline> {
    let mut tokens = tokens(text)?.into_iter().peekable();
    let parsed = commands(&mut tokens)?;
    match tokens.next() {
        Some(token) => Err(format!("unexpected {token:?}")),
        None => Ok(parsed),
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Word(String),
    Text(String),
    Bar,
    Open,
    /// With the fields right after it.
    Close(Vec<String>),
    Set,
}

fn commands(tokens: &mut std::iter::Peekable<std::vec::IntoIter<Token>>) -> Result<Pipeline> {
    let mut all = Pipeline {
        set: None,
        commands: Vec::new(),
    };
    let mut command = Vec::new();
    while let Some(token) = tokens.peek() {
        match token {
            Token::Close(_) => break,
            Token::Bar => all.commands.push(std::mem::take(&mut command)),
            Token::Set => match command.pop() {
                Some(Operand::Variable(name, _)) if command.is_empty() => all.set = Some(name),
                _ => return Err("unexpected \":=\"".into()),
            },
            Token::Open => {
                tokens.next();
                let inner = commands(tokens)?;
                match tokens.peek() {
                    Some(Token::Close(fields)) => command.push(Operand::Nested(Box::new(inner), fields.clone())),
                    _ => return Err("unclosed left paren".into()),
                }
            }
            Token::Text(text) => command.push(Operand::Text(text.clone())),
            Token::Word(word) => command.push(operand(word)?),
        }
        tokens.next();
    }
    all.commands.push(command);
    match all.commands.iter().any(Vec::is_empty) {
        true => Err("missing value for command".into()),
        false => Ok(all),
    }
}

fn operand(word: &str) -> Result<Operand> {
    let fields = |text: &str| -> Vec<String> { text.split('.').filter(|f| !f.is_empty()).map(String::from).collect() };
    if let Some(name) = word.strip_prefix('$') {
        let (name, rest) = name.split_once('.').unwrap_or((name, ""));
        return Ok(Operand::Variable(name.into(), fields(rest)));
    }
    if word.starts_with('.') {
        return Ok(Operand::Field(fields(word)));
    }
    if let Ok(number) = word.parse::<f64>() {
        return Ok(Operand::Number(number));
    }
    match word {
        "true" | "false" => Ok(Operand::Truth(word == "true")),
        "nil" => Ok(Operand::Nothing),
        _ => Ok(Operand::Function(word.into())),
    }
}

fn tokens(text: &str) -> Result<Vec<Token>> {
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let used = match first {
            '|' => {
                tokens.push(Token::Bar);
                1
            }
            '(' => {
                tokens.push(Token::Open);
                1
            }
            ')' => {
                let after = &rest[1..];
                let length = after
                    .find(|c: char| !(c.is_alphanumeric() || c == '.' || c == '_'))
                    .unwrap_or(after.len());
                let fields = if after.starts_with('.') { &after[..length] } else { "" };
                tokens.push(Token::Close(
                    fields.split('.').filter(|f| !f.is_empty()).map(String::from).collect(),
                ));
                1 + fields.len()
            }
            ':' if rest.starts_with(":=") => {
                tokens.push(Token::Set);
                2
            }
            '`' => {
                let end = rest[1..].find('`').ok_or("unterminated raw quoted string")?;
                tokens.push(Token::Text(rest[1..=end].to_owned()));
                end + 2
            }
            '"' => {
                let (string, used) = quoted(rest)?;
                tokens.push(Token::Text(string));
                used
            }
            _ => {
                let end = rest
                    .find(|c: char| c.is_whitespace() || "|()\"`".contains(c) || c == ':')
                    .unwrap_or(rest.len());
                if end == 0 {
                    return Err(format!("unexpected {first:?} in command"));
                }
                tokens.push(Token::Word(rest[..end].to_owned()));
                end
            }
        };
        rest = rest[used..].trim_start();
    }
    Ok(tokens)
}

fn quoted(text: &str) -> Result<(String, usize)> {
    let (mut string, mut escaped) = (String::new(), false);
    for (index, c) in text.char_indices().skip(1) {
        match (escaped, c) {
            (true, 'n') => string.push('\n'),
            (true, 't') => string.push('\t'),
            (true, c) => string.push(c),
            (false, '\\') => {
                escaped = true;
                continue;
            }
            (false, '"') => return Ok((string, index + 1)),
            (false, c) => string.push(c),
        }
        escaped = false;
    }
    Err("unterminated quoted string".into())
}
