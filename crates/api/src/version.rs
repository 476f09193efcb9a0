//! Versions of the API: which are spoken, and what a client's path asks for.

use errdefs::{Error, Result};

/// Major and minor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u32, pub u32);

/// The newest; what a path without a version speaks.
pub const NEWEST: Version = Version(1, 51);
/// The oldest.
pub const OLDEST: Version = Version(1, 24);

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}

/// Takes `/v1.NN` off a path. A path that starts otherwise is the newest version's.
pub fn split(path: &str) -> Result<(Version, &str)> {
    let asked = path.strip_prefix("/v").and_then(|rest| {
        let end = rest.find('/')?;
        let (major, minor) = rest[..end].split_once('.')?;
        Some((Version(major.parse().ok()?, minor.parse().ok()?), &rest[end..]))
    });
    let Some((version, rest)) = asked else {
        return Ok((NEWEST, path));
    };
    if version > NEWEST {
        return Err(Error::invalid(format!(
            "client version {version} is too new. Maximum supported API version is {NEWEST}"
        )));
    }
    if version < OLDEST {
        return Err(Error::invalid(format!(
            "client version {version} is too old. Minimum supported API version is {OLDEST}, please upgrade your client \
             to a newer version"
        )));
    }
    Ok((version, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_taken_off_and_have_limits() {
        assert_eq!(split("/v1.24/info").unwrap(), (OLDEST, "/info"));
        assert_eq!(split("/info").unwrap(), (NEWEST, "/info"));
        assert_eq!(split("/volumes").unwrap(), (NEWEST, "/volumes"));
        assert_eq!(split("/v1.x/info").unwrap(), (NEWEST, "/v1.x/info"));
        assert!(split("/v1.52/info").unwrap_err().to_string().contains("too new"));
        assert!(split("/v1.9/info").unwrap_err().to_string().contains("too old"));
        assert!(split("/v99999999999.1/info").unwrap().1.starts_with("/v9"));
    }
}
