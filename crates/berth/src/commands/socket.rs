//! `socket`: Docker's API for those who may not do everything.

use api::Scope;
use errdefs::Result;

use crate::cli::flag::Given;
use crate::{output, settings};

/// Makes one; prints the directory that its socket is in.
pub fn create(given: &Given) -> Result<u8> {
    let roots = settings::roots()?;
    roots.make().map_err(settings::explain)?;
    let list = |flag: &str| -> Vec<String> {
        let all = given.many(flag);
        let words = all.iter().flat_map(|value| value.split(','));
        words
            .map(str::trim)
            .filter(|w| !w.is_empty())
            .map(String::from)
            .collect()
    };
    let scope = Scope {
        name: given.words[0].clone(),
        read_only: given.on("read-only"),
        labels: given.many("label"),
        allow: list("allow"),
        group: given.one("group").map(super::api::group).transpose()?,
    };
    scope.create(&roots)?;
    output::say(&format!("{}\n", scope.place(&roots).display()));
    Ok(0)
}

/// What there is, one a line.
pub fn list(_: &Given) -> Result<u8> {
    let roots = settings::roots()?;
    let mut text = String::from("NAME\tREAD-ONLY\tLABELS\tALLOWED\tDIRECTORY\n");
    for scope in Scope::list(&roots)? {
        let all = |list: &[String]| if list.is_empty() { "all".into() } else { list.join(",") };
        text.push_str(&format!(
            "{}\t{}\t{}\t{}\t{}\n",
            scope.name,
            scope.read_only,
            all(&scope.labels),
            all(&scope.allow),
            scope.place(&roots).display()
        ));
    }
    output::say(&text);
    Ok(0)
}

/// Takes some away.
pub fn remove(given: &Given) -> Result<u8> {
    for name in &given.words {
        Scope::remove(&settings::roots()?, name)?;
        output::say(&format!("{name}\n"));
    }
    Ok(0)
}
