//! os/architecture/variant, and which of an index's images fits.

use errdefs::{Error, Result};
use oci_spec::image::{Descriptor, ImageIndex};

/// What an image is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Platform {
    /// `linux`.
    pub os: String,
    /// Go's name: `amd64`, `arm64`, `386`.
    pub architecture: String,
    /// `v7`, `v8`.
    pub variant: Option<String>,
}

const ARCHITECTURES: &[&str] = &[
    "386", "amd64", "arm", "arm64", "loong64", "mips64le", "ppc64le", "riscv64", "s390x", "mips", "mips64", "mipsle",
    "ppc64",
];

impl Platform {
    /// This machine's.
    pub fn host() -> Self {
        let (architecture, variant) = match std::env::consts::ARCH {
            "x86_64" => ("amd64", None),
            "aarch64" => ("arm64", Some("v8")),
            "x86" => ("386", None),
            other => (other, None),
        };
        Platform {
            os: "linux".into(),
            architecture: architecture.into(),
            variant: variant.map(String::from),
        }
    }

    /// `linux/arm64/v8`, `arm64`, `amd64`, ...
    pub fn parse(text: &str) -> Result<Self> {
        let invalid = || {
            Error::invalid(format!(
                "{text:?}: unknown operating system or architecture: invalid argument"
            ))
        };
        let parts: Vec<&str> = text.split('/').collect();
        if parts
            .iter()
            .any(|p| p.is_empty() || !p.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b)))
        {
            return Err(invalid());
        }
        let (os, architecture, variant) = match parts[..] {
            ["linux"] => return Ok(Platform::host()),
            [architecture] => ("linux", architecture, None),
            [os, architecture] => (os, architecture, None),
            [os, architecture, variant] => (os, architecture, Some(variant)),
            _ => return Err(invalid()),
        };
        let architecture = match architecture {
            "x86_64" | "x86-64" => "amd64",
            "aarch64" => "arm64",
            "i386" | "i686" | "x86" => "386",
            "armhf" | "armel" => "arm",
            other => other,
        };
        if !ARCHITECTURES.contains(&architecture) {
            return Err(invalid());
        }
        Ok(Platform {
            os: os.to_ascii_lowercase(),
            architecture: architecture.into(),
            variant: variant.map(String::from),
        })
    }

    /// Whether an image of that os, architecture and variant runs here.
    pub fn fits(&self, os: &str, architecture: &str, variant: Option<&str>) -> bool {
        self.os == os
            && self.architecture == architecture
            && (self.variant.is_none() || variant.is_none() || self.variant.as_deref() == variant)
    }

    /// The images of an index: not what is said about them (`unknown/unknown`: attestations).
    pub fn images(index: &ImageIndex) -> impl Iterator<Item = &Descriptor> {
        let image = |d: &&Descriptor| {
            let kind = d.media_type().to_string();
            let said = d.platform().as_ref().map(|p| p.architecture().to_string());
            (kind.ends_with("manifest.v1+json") || kind.ends_with("manifest.v2+json"))
                && said.as_deref() != Some("unknown")
        };
        index.manifests().iter().filter(image)
    }

    /// The first image of an index that fits.
    pub fn select<'a>(&self, index: &'a ImageIndex, name: &str) -> Result<&'a Descriptor> {
        let fits = |descriptor: &&Descriptor| match descriptor.platform() {
            Some(p) => self.fits(
                &p.os().to_string(),
                &p.architecture().to_string(),
                p.variant().as_deref(),
            ),
            None => index.manifests().len() == 1,
        };
        Platform::images(index).find(fits).ok_or_else(|| {
            let there = index.manifests().iter().filter_map(|d| d.platform().as_ref());
            let there: Vec<String> = there
                .map(|p| format!("{}/{}", p.os(), p.architecture()))
                .filter(|p| !p.contains("unknown"))
                .collect();
            Error::not_found(format!(
                "no matching manifest for {self} in the manifest list entries of {name}"
            ))
            .hint(format!("it has: {}", there.join(", ")))
        })
    }
}

impl std::fmt::Display for Platform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant.as_ref().map_or(Ok(()), |v| write!(f, "/{v}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn platforms_have_other_names() {
        for (text, full) in [
            ("amd64", "linux/amd64"),
            ("linux/aarch64", "linux/arm64"),
            ("linux/arm/v7", "linux/arm/v7"),
        ] {
            assert_eq!(Platform::parse(text).unwrap().to_string(), full);
        }
        for text in ["", "linux/", "linux/x/y/z", "linux/nosuch", "a b"] {
            assert!(Platform::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_image_that_fits_is_found() {
        let entry = |architecture: &str, n: char| {
            format!(
                r#"{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:{}","size":1,
                "platform":{{"os":"linux","architecture":"{architecture}"}}}}"#,
                n.to_string().repeat(64)
            )
        };
        let json = format!(
            r#"{{"schemaVersion":2,"manifests":[{},{}]}}"#,
            entry("arm64", 'a'),
            entry("amd64", 'b')
        );
        let index: ImageIndex = serde_json::from_str(&json).unwrap();
        let found = Platform::parse("amd64").unwrap().select(&index, "x").unwrap();
        assert!(found.digest().to_string().starts_with("sha256:bbb"));
        let error = Platform::parse("s390x").unwrap().select(&index, "x").unwrap_err();
        assert!(error.to_string().starts_with("no matching manifest for linux/s390x"));
        assert_eq!(error.find_hint(), Some("it has: linux/arm64, linux/amd64"));
    }
}
