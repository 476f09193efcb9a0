//! The ids that there are: all of the host's; or, in the user namespace of somebody who is not root, those that are his
//! (user_namespaces(7)).

use errdefs::{Error, Result, Step};

use crate::state::IdRange;

/// Of which kind.
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(missing_docs)]
pub enum Ids {
    Users,
    Groups,
}

/// Those that are mapped here, by their first one and how many, in order.
pub fn mapped(kind: Ids) -> Result<Vec<(u32, u32)>> {
    let file = match kind {
        Ids::Users => "/proc/self/uid_map",
        Ids::Groups => "/proc/self/gid_map",
    };
    let text = std::fs::read_to_string(file).step_with(|| format!("read {file}"))?;
    parse(&text).ok_or_else(|| Error::system(format!("{file} is not as it should be: {text:?}")))
}

fn parse(text: &str) -> Option<Vec<(u32, u32)>> {
    let line = |line: &str| {
        let mut words = line.split_whitespace();
        let first = words.next()?.parse().ok()?;
        Some((first, words.nth(1)?.parse().ok()?))
    };
    let mut parts = text.lines().map(line).collect::<Option<Vec<_>>>()?;
    parts.sort_unstable();
    Some(parts)
}

/// What a container of a user gets: everything that both kinds have from 0 on. `None` with the host's users.
pub fn of_a_user() -> Result<Option<IdRange>> {
    if sys::process::has_hosts_users() {
        return Ok(None);
    }
    let count = from_zero(&mapped(Ids::Users)?).min(from_zero(&mapped(Ids::Groups)?));
    Ok(Some(IdRange { first: 0, count }))
}

fn from_zero(parts: &[(u32, u32)]) -> u32 {
    parts.iter().fold(0, |end, (first, count)| match *first == end {
        true => end.saturating_add(*count),
        false => end,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seams_are_kept_and_holes_end_the_range() {
        let parts = parse("         1     700000      65536\n         0       4711          1\n").unwrap();
        assert_eq!(parts, [(0, 1), (1, 65_536)]);
        assert_eq!(from_zero(&parts), 65_537);
        assert_eq!(from_zero(&[(0, 1), (5, 10)]), 1);
        assert!(parse("0 x").is_none());
    }
}
