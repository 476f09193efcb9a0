//! What a registry lists: tags, and what refers to an image.

use errdefs::{Kind, Result, Step};
use oci_spec::image::{Descriptor, ImageIndex};
use serde::Deserialize;

use super::{ACCEPTED, Answer, Client, read_bounded};
use crate::{DOCUMENT_LIMIT, Digest, Reference};

/// Pages of a list, each of which is a request.
const PAGES: usize = 100;

#[derive(Deserialize)]
struct Tags {
    /// Null where a repository has none.
    tags: Option<Vec<String>>,
}

impl Client {
    /// All tags of a repository, in the registry's order.
    pub fn tags(&self, reference: &Reference) -> Result<Vec<String>> {
        let mut all = Vec::new();
        let refusal = self.pages(reference, "tags/list", |text| {
            let page: Tags = serde_json::from_slice(text)
                .step("read the list of tags")
                .map_err(|e| e.kind_is(Kind::Invalid))?;
            all.extend(page.tags.unwrap_or_default());
            Ok(())
        })?;
        refusal.map_or(Ok(all), |answer| Err(self.refused(reference, answer)))
    }

    /// What refers to a manifest: signatures, bills of materials, attestations. From registries without that list, by the tag
    /// that stands for it (OCI distribution specification 1.1, "Referrers Tag Schema"). `kind`: of this type alone.
    pub fn referrers(&self, reference: &Reference, digest: &Digest, kind: Option<&str>) -> Result<Vec<Descriptor>> {
        let mut all = Vec::new();
        let refusal = self.pages(reference, &format!("referrers/{digest}"), |text| {
            all.extend(descriptors(text)?);
            Ok(())
        })?;
        match refusal {
            None => {}
            Some(answer) if matches!(answer.status(), 400 | 404 | 405 | 501) => {
                let tag = format!("{}-{}", digest.algorithm(), digest.digest());
                let listed = Reference {
                    tag: Some(tag),
                    digest: None,
                    ..reference.clone()
                };
                match self.manifest(&listed) {
                    Err(e) if e.kind() == Kind::NotFound => {}
                    index => all = descriptors(&index?.bytes)?,
                }
            }
            Some(answer) => return Err(self.refused(reference, answer)),
        }
        all.retain(|d| kind.is_none_or(|kind| d.artifact_type().as_ref().is_some_and(|t| t.to_string() == kind)));
        Ok(all)
    }

    /// Asks for a list below the repository, page by page; the answer that is no list, if one came.
    fn pages(
        &self,
        reference: &Reference,
        path: &str,
        mut page: impl FnMut(&[u8]) -> Result<()>,
    ) -> Result<Option<Answer>> {
        let mut path = path.to_owned();
        for _ in 0..PAGES {
            let mut answer = self.http.get(reference, &path, &[("Accept", ACCEPTED)], false)?;
            if answer.status() != 200 {
                return Ok(Some(answer));
            }
            page(&read_bounded(answer.body(), DOCUMENT_LIMIT, "the registry's list")?)?;
            match next(&answer, reference) {
                Some(more) => path = more,
                None => return Ok(None),
            }
        }
        Err(errdefs::Error::invalid(format!(
            "{} lists more than {PAGES} pages",
            reference.familiar_name()
        )))
    }
}

/// Where the list goes on (RFC 5988), from the repository: nowhere else.
fn next(answer: &Answer, reference: &Reference) -> Option<String> {
    let link = answer.header("Link")?;
    let target = link
        .strip_prefix('<')?
        .split_once('>')
        .filter(|(_, rest)| rest.contains("next"))?
        .0;
    let (_, rest) = target.split_once(&format!("/v2/{}/", reference.repository))?;
    Some(rest.to_owned())
}

fn descriptors(index: &[u8]) -> Result<Vec<Descriptor>> {
    let index: ImageIndex = serde_json::from_slice(index)
        .step("read what refers to the image")
        .map_err(|e| e.kind_is(Kind::Invalid))?;
    Ok(index.manifests().clone())
}
