//! What a registry has under a name, without pulling it.

use std::io::Read;

use errdefs::{Error, Kind, Result, Step};
use oci_spec::image::Descriptor;
use serde_json::{Value, json};

use super::{Reference, registry};
use crate::Engine;

/// More bytes of a configuration are not looked at.
const LIMIT: u64 = 4 << 20;

impl Engine {
    /// The descriptor of a name, and the platforms it is for, in Docker's form.
    pub fn distribution(&self, reference: &Reference, registry: &registry::Client) -> Result<Value> {
        let top = registry.manifest(reference)?;
        let document: Value = serde_json::from_slice(&top.bytes)
            .step_with(|| format!("read the manifest of {}", reference.familiar()))
            .map_err(|e| e.kind_is(Kind::Invalid))?;
        let platforms = match document["manifests"].as_array() {
            Some(list) => list.iter().map(|m| platform(&m["platform"])).collect(),
            None => vec![self.platform_of(reference, registry, &document)?],
        };
        let platforms: Vec<Value> = platforms.into_iter().filter(|p| p["os"] != "unknown").collect();
        Ok(json!({
            "Descriptor": {
                "mediaType": top.descriptor.media_type().to_string(), "digest": top.descriptor.digest().to_string(),
                "size": top.descriptor.size()
            },
            "Platforms": platforms
        }))
    }

    /// What the registry has that refers to what it has under a name: signatures, bills of materials. `kind`: of this type.
    pub fn referrers(
        &self,
        reference: &Reference,
        kind: Option<&str>,
        registry: &registry::Client,
    ) -> Result<Vec<Descriptor>> {
        let digest = match &reference.digest {
            Some(digest) => digest.clone(),
            None => registry.manifest(reference)?.descriptor.digest().clone(),
        };
        registry.referrers(reference, &digest, kind)
    }

    /// One manifest says it in its configuration.
    fn platform_of(&self, reference: &Reference, registry: &registry::Client, manifest: &Value) -> Result<Value> {
        let config = serde_json::from_value(manifest["config"].clone()).step("read the manifest");
        let config = config.map_err(|e: Error| e.kind_is(Kind::Invalid))?;
        let mut bytes = Vec::new();
        registry
            .blob(reference, &config)?
            .take(LIMIT)
            .read_to_end(&mut bytes)
            .step("fetch the image's configuration")?;
        let config: Value = serde_json::from_slice(&bytes).step("read the image's configuration")?;
        Ok(platform(&config))
    }
}

pub(super) fn platform(from: &Value) -> Value {
    let mut platform = json!({"architecture": from["architecture"], "os": from["os"]});
    for name in ["variant", "os.version"] {
        if from[name].is_string() {
            platform[name] = from[name].clone();
        }
    }
    platform
}
