//! `why`.

use engine::why::Explained;
use errdefs::Result;
use serde_json::json;

use crate::cli::flag::Given;
use crate::{output, settings};

/// Prints the cause of each container's end.
pub fn why(given: &Given) -> Result<u8> {
    let engine = settings::engine()?;
    let mut code = 0;
    for name in &given.words {
        match engine.why(name) {
            Ok(explained) if given.one("format") == Some("json") => {
                output::say(&format!("{}\n", document(name, &explained)))
            }
            Ok(explained) => output::say(&text(name, &explained)),
            Err(error) => {
                output::complain(&error);
                code = 1;
            }
        }
    }
    Ok(code)
}

fn text(name: &str, explained: &Explained) -> String {
    let remedies: String = explained
        .remedies
        .iter()
        .map(|line| format!("remedy: {line}\n"))
        .collect();
    told(name, explained) + &remedies
}

fn told(name: &str, explained: &Explained) -> String {
    let state = &explained.state;
    let Some(cause) = &explained.cause else {
        return match state.starts_with("ended with ") && !state.starts_with("ended with 0") {
            true => format!(
                "{name} {state}: the command said so itself, and its last words tell no more (berth logs {name})\n"
            ),
            false => format!("{name} {state}\n"),
        };
    };
    let likely = if cause.certain { "" } else { "most likely: " };
    let hint = cause
        .hint
        .as_ref()
        .map(|hint| format!("hint: {hint}\n"))
        .unwrap_or_default();
    format!("{name} {state}: {likely}{}\n{hint}", cause.sentence)
}

fn document(name: &str, explained: &Explained) -> serde_json::Value {
    let cause = explained.cause.as_ref();
    json!({
        "Container": name,
        "State": explained.state,
        "Cause": cause.map(|c| &c.sentence),
        "Hint": cause.and_then(|c| c.hint.as_ref()),
        "Remedies": explained.remedies,
        "Certain": cause.is_some_and(|c| c.certain),
    })
}
