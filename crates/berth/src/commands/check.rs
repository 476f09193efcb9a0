//! `system check`.

use engine::image::Outcome;
use errdefs::Result;

use crate::cli::flag::Given;
use crate::output::say;
use crate::settings;

/// Looks for damage; 1 if there is some left.
pub fn check(given: &Given) -> Result<u8> {
    let engine = settings::engine()?;
    let registry = given.on("repair").then(settings::registry).transpose()?;
    let findings = engine.check(registry.as_ref(), &|_| {})?;
    let mut code = 0;
    for finding in &findings {
        let outcome = match &finding.outcome {
            Outcome::Found => "damaged".to_owned(),
            Outcome::Repaired => "repaired".to_owned(),
            Outcome::Failed(why) => format!("not repaired ({why})"),
        };
        if finding.outcome != Outcome::Repaired {
            code = 1;
        }
        say(&format!(
            "{} of {}: {}: {outcome}\n",
            finding.what,
            finding.images.join(", "),
            finding.problem
        ));
    }
    if findings.is_empty() {
        say("Everything is as it came.\n");
    }
    Ok(code)
}
