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
        let digits = |b: u8| b.is_ascii_digit() || b == b'.';
        (end > 0 && rest[..end].bytes().all(digits)).then(|| (&rest[..end], &rest[end..]))
    });
    let Some((text, rest)) = asked else {
        return Ok((NEWEST, path));
    };
    let mut parts = text.split('.').map(|part| part.parse().unwrap_or(u32::MAX));
    let version = Version(parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    if version > NEWEST {
        return Err(Error::invalid(format!(
            "client version {text} is too new. Maximum supported API version is {NEWEST}"
        )));
    }
    if version < OLDEST {
        return Err(Error::invalid(format!(
            "client version {text} is too old. Minimum supported API version is {OLDEST}, please upgrade your client to a \
             newer version"
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
        assert_eq!(split("/v01.024/info").unwrap(), (OLDEST, "/info"));
        for (path, words) in [
            ("/v1/info", "client version 1 is too old"),
            ("/v0/info", "client version 0 is too old"),
            ("/v99999999999.1/info", "client version 99999999999.1 is too new"),
        ] {
            assert!(split(path).unwrap_err().to_string().starts_with(words), "{path}");
        }
    }
}
