//! Version numbers of kernels and libraries.

use serde::{Deserialize, Serialize};

/// Up to three numbers: `5.10`, `2.6.32`, `6.18.44-cloud-amd64`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Version(pub u32, pub u32, pub u32);

impl Version {
    /// The numbers that a text begins with.
    pub fn parse(text: &str) -> Option<Version> {
        let mut numbers = [0u32; 3];
        let mut rest = text;
        for (index, number) in numbers.iter_mut().enumerate() {
            let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
            match rest[..digits].parse() {
                Ok(value) => *number = value,
                Err(_) if index == 0 => return None,
                Err(_) => break,
            }
            match rest[digits..].strip_prefix('.') {
                Some(after) => rest = after,
                None => break,
            }
        }
        Some(Version(numbers[0], numbers[1], numbers[2]))
    }
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.2 {
            0 => write!(f, "{}.{}", self.0, self.1),
            patch => write!(f, "{}.{}.{patch}", self.0, self.1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Version;

    #[test]
    fn numbers_are_read_from_the_front() {
        assert_eq!(Version::parse("6.18.44-fc"), Some(Version(6, 18, 44)));
        assert_eq!(Version::parse("5.10"), Some(Version(5, 10, 0)));
        assert_eq!(Version::parse("258~rc1-1"), Some(Version(258, 0, 0)));
        assert_eq!(Version::parse("x"), None);
        assert_eq!(Version::parse("2.36-9+deb12u7").unwrap().to_string(), "2.36");
    }
}
