//! Ids and names.

use errdefs::{ErrnoStep, Error, Result};

/// Sixty-four hexadecimal digits nobody else has.
pub fn new_id() -> Result<String> {
    let mut bytes = [0u8; 32];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty()).errno_step("draw a random id")?;
    Ok(bytes.iter().map(|b| format!("{b:02x}")).collect())
}

/// A name of two words, drawn by `seed` (an id).
pub fn generated(seed: &str, attempt: usize) -> String {
    let number = |range: std::ops::Range<usize>| usize::from_str_radix(&seed[range], 16).unwrap_or(0);
    let (first, second) = (FIRST[number(0..6) % FIRST.len()], SECOND[number(6..12) % SECOND.len()]);
    match attempt {
        0 => format!("{first}_{second}"),
        n => format!("{first}_{second}{n}"),
    }
}

/// Docker's rule for names.
pub fn check(name: &str) -> Result<&str> {
    let name = name.strip_prefix('/').unwrap_or(name);
    let mut bytes = name.bytes();
    let good = bytes.next().is_some_and(|b| b.is_ascii_alphanumeric())
        && name.len() > 1
        && bytes.all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b));
    match good {
        true => Ok(name),
        false => Err(Error::invalid(format!(
            "Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
        ))),
    }
}

const FIRST: &[&str] = &[
    "able", "amber", "bold", "brave", "breezy", "bright", "brisk", "calm", "clear", "clever", "coastal", "crisp",
    "daring", "deep", "eager", "early", "easy", "fair", "fast", "firm", "fleet", "fresh", "gentle", "glad", "golden",
    "grand", "happy", "hardy", "honest", "jolly", "keen", "kind", "light", "lively", "loyal", "lucid", "lucky",
    "mellow", "merry", "mighty", "misty", "modest", "neat", "nimble", "noble", "northern", "patient", "placid",
    "plucky", "proud", "quick", "quiet", "rapid", "ready", "salty", "serene", "sharp", "shiny", "silver", "sleek",
    "smooth", "snug", "solid", "southern", "spry", "stable", "steady", "stout", "sturdy", "sunny", "swift", "tidal",
    "tidy", "trim", "trusty", "upbeat", "vivid", "warm", "wide", "wise", "witty", "zesty",
];

const SECOND: &[&str] = &[
    "anchor",
    "barge",
    "bay",
    "beacon",
    "boom",
    "bosun",
    "bow",
    "breaker",
    "bridge",
    "brig",
    "bulkhead",
    "buoy",
    "cabin",
    "canal",
    "canoe",
    "capstan",
    "captain",
    "cargo",
    "channel",
    "clipper",
    "compass",
    "coral",
    "cove",
    "crane",
    "crew",
    "current",
    "cutter",
    "deck",
    "delta",
    "dinghy",
    "dock",
    "dolphin",
    "dory",
    "ferry",
    "fjord",
    "fleet",
    "foghorn",
    "frigate",
    "galley",
    "gangway",
    "gull",
    "harbor",
    "hatch",
    "helm",
    "heron",
    "hold",
    "horizon",
    "hull",
    "island",
    "jetty",
    "keel",
    "ketch",
    "lagoon",
    "lantern",
    "lighthouse",
    "lock",
    "lugger",
    "marina",
    "mast",
    "mate",
    "mooring",
    "navigator",
    "oar",
    "osprey",
    "pelican",
    "pier",
    "pilot",
    "pontoon",
    "port",
    "porthole",
    "prow",
    "purser",
    "quay",
    "raft",
    "reef",
    "rigging",
    "rudder",
    "sail",
    "schooner",
    "sextant",
    "skiff",
    "sloop",
    "sounding",
    "spar",
    "spinnaker",
    "stern",
    "strait",
    "tide",
    "tiller",
    "trawler",
    "tug",
    "wake",
    "wave",
    "wharf",
    "winch",
    "yawl",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_differ_and_names_follow_dockers_rule() {
        let (a, b) = (new_id().unwrap(), new_id().unwrap());
        assert_ne!(a, b);
        assert_eq!(a.len(), 64);
        assert!(check(&generated(&a, 0)).is_ok());
        assert_eq!(check("/web-1.x_y").unwrap(), "web-1.x_y");
        for bad in ["", "a", "-a", "a b", "ä1", "a/b"] {
            assert!(check(bad).is_err(), "{bad}");
        }
    }
}
