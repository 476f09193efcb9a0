//! Images that come and go: pull, push, import, load, save.

use std::io::{Read, Write};

use base64::Engine as _;
use base64::alphabet::{STANDARD, URL_SAFE};
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use engine::image::{Platform, Progress, Reference, registry};
use errdefs::{Error, Result, Step};
use hyper::HeaderMap;
use serde::Deserialize;
use serde_json::json;

use super::images::{name_and_tag, platforms};
use crate::call::{Call, not_yet};
use crate::reply::Reply;
use crate::stream::{Late, Pipe, Upload, error_line, written};

/// How much of a header with credentials is looked at.
const AUTH_LIMIT: usize = 16 << 10;

/// `X-Registry-Auth`.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Auth {
    username: String,
    password: String,
    auth: String,
    identitytoken: String,
    registrytoken: String,
}

/// `docker pull` and `docker import`.
pub async fn create(mut call: Call) -> Result<Reply> {
    let platform = call.query.text("platform").map(Platform::parse).transpose()?;
    let tag = call.query.text("tag").map(String::from);
    if let Some(source) = call.query.text("fromSrc").map(String::from) {
        let body = call.incoming.take().map(Upload::new);
        return import(&call, &source, body, tag, platform).await;
    }
    let Some(name) = call.query.text("fromImage") else {
        return Err(Error::invalid("invalid reference format"));
    };
    let name = name_and_tag(name, tag.as_deref());
    let reference = Reference::parse(&name)?;
    let client = client(&call, &reference)?;
    written(&call.server, "application/json", Late::Say, move |engine, pipe| {
        let lines = Lines::new(pipe);
        engine.pull(&name, platform.as_ref(), &client, &|progress| lines.say(&progress))?;
        // What will not run here is known by now, and there is no other place to say it.
        for word in engine.foretold(&name).unwrap_or_default() {
            lines.say_json(&json!({"status": format!("WARNING: {word}")}));
        }
        lines.end()
    })
    .await
}

async fn import(
    call: &Call,
    source: &str,
    body: Option<Upload>,
    tag: Option<String>,
    platform: Option<Platform>,
) -> Result<Reply> {
    let url = (source != "-").then(|| source.to_owned());
    if url.is_none() && body.is_none() {
        return Err(Error::invalid("there is nothing to import"));
    }
    let client = registry::Client::new(call.server.registry.clone())?;
    let name = call.query.text("repo").map(|repo| name_and_tag(repo, tag.as_deref()));
    let mut message = call.query.text("message").unwrap_or_default().to_owned();
    if message.is_empty() {
        message = format!("Imported from {source}");
    }
    let changes = call.query.all("changes");
    written(&call.server, "application/json", Late::Say, move |engine, pipe| {
        let tar: Box<dyn Read + Send> = match (url, body) {
            (Some(url), _) => client.download(&url)?,
            (None, Some(body)) => Box::new(body),
            (None, None) => Box::new(std::io::empty()),
        };
        let id = engine.import(tar, name.as_deref(), &message, &changes, platform.as_ref())?;
        line(pipe, &json!({"status": id}))
    })
    .await
}

/// `docker push`.
pub async fn push(call: Call) -> Result<Reply> {
    let name = name_and_tag(call.name(), call.query.text("tag"));
    let reference = Reference::parse(&name)?;
    let client = client(&call, &reference)?;
    let platform = platforms(&call, "platform")?.pop();
    written(&call.server, "application/json", Late::Say, move |engine, pipe| {
        let lines = Lines::new(pipe);
        let pushed = engine.push(&name, platform.as_ref(), &client, &|progress| lines.say(&progress))?;
        lines.say_json(&json!({"progressDetail": {}, "aux": {
            "Tag": reference.tag.clone().unwrap_or_default(), "Digest": pushed.digest, "Size": 0
        }}));
        lines.end()
    })
    .await
}

/// `docker load`.
pub async fn load(mut call: Call) -> Result<Reply> {
    let platforms = platforms(&call, "platform")?;
    let body = call.incoming.take().map(Upload::new);
    let mut body = body.ok_or_else(|| Error::invalid("there is nothing to load"))?;
    written(&call.server, "application/json", Late::Say, move |engine, pipe| {
        // As dockerd: the answer has begun, whatever comes of it.
        let loaded = engine.load(&mut body, &platforms);
        // The rest of an archive: a client that cannot send it would take that for a failure.
        let _ = std::io::copy(&mut body.by_ref().take(1 << 30), &mut std::io::sink());
        match loaded {
            Ok(names) => names.iter().try_for_each(|name| line(pipe, &loaded_line(name))),
            Err(error) => write_all(pipe, &error_line(&error)),
        }
    })
    .await
}

fn loaded_line(name: &str) -> serde_json::Value {
    let kind = if name.starts_with("sha256:") {
        "Loaded image ID"
    } else {
        "Loaded image"
    };
    json!({"stream": format!("{kind}: {name}\n")})
}

/// `docker save`.
pub async fn save(call: Call) -> Result<Reply> {
    let mut names = call.query.all("names");
    names.extend(call.params.first().cloned());
    if names.is_empty() {
        return Err(Error::invalid("no image is named"));
    }
    let platforms = platforms(&call, "platform")?;
    written(&call.server, "application/x-tar", Late::Break, move |engine, pipe| {
        engine.save(&names, &platforms, pipe)
    })
    .await
}

/// `docker export`.
pub async fn export(call: Call) -> Result<Reply> {
    let name = call.name().to_owned();
    written(&call.server, "application/x-tar", Late::Break, move |engine, pipe| {
        engine.export(&name, pipe)
    })
    .await
}

/// A client that has the credentials of this request, for the registry that it names, and no others.
pub fn client(call: &Call, reference: &Reference) -> Result<registry::Client> {
    let mut options = call.server.registry.clone();
    options.credentials = auth(&call.headers)?.map(|(user, secret)| registry::Credentials {
        registry: reference.registry.clone(),
        user,
        secret,
    });
    registry::Client::new(options)
}

/// Name and password, or `<token>` and an identity token.
fn auth(headers: &HeaderMap) -> Result<Option<(String, String)>> {
    let bad = |why: &str| Error::invalid(format!("invalid X-Registry-Auth header: {why}"));
    let Some(header) = headers.get("x-registry-auth") else {
        return Ok(None);
    };
    let text = header
        .to_str()
        .ok()
        .filter(|h| h.len() <= AUTH_LIMIT)
        .ok_or_else(|| bad("no text"))?;
    if text.is_empty() {
        return Ok(None);
    }
    let config = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let decoded = GeneralPurpose::new(&URL_SAFE, config).decode(text);
    let decoded = decoded.or_else(|_| GeneralPurpose::new(&STANDARD, config).decode(text));
    let auth: Auth = decoded
        .ok()
        .and_then(|bytes| serde_json::from_slice(&bytes).ok())
        .ok_or_else(|| bad("it is no JSON in base64"))?;
    if !auth.registrytoken.is_empty() {
        return Err(not_yet("registry tokens of the client's own"));
    }
    if !auth.identitytoken.is_empty() {
        return Ok(Some(("<token>".into(), auth.identitytoken)));
    }
    if auth.username.is_empty() && !auth.auth.is_empty() {
        let pair = GeneralPurpose::new(&STANDARD, config).decode(&auth.auth).ok();
        let pair = pair
            .and_then(|p| String::from_utf8(p).ok())
            .ok_or_else(|| bad("auth is no base64"))?;
        return Ok(pair.split_once(':').map(|(user, secret)| (user.into(), secret.into())));
    }
    Ok(Some((auth.username, auth.password)).filter(|(user, _)| !user.is_empty()))
}

fn line(pipe: &mut Pipe, value: &serde_json::Value) -> Result<()> {
    write_all(pipe, format!("{value}\r\n").as_bytes())
}

fn write_all(pipe: &mut Pipe, bytes: &[u8]) -> Result<()> {
    pipe.write_all(bytes)
        .and_then(|()| pipe.flush())
        .step("answer the client")
}

/// Docker's JSON lines, written from several threads.
struct Lines<'a> {
    pipe: std::sync::Mutex<&'a mut Pipe>,
}

impl<'a> Lines<'a> {
    fn new(pipe: &'a mut Pipe) -> Self {
        Lines { pipe: pipe.into() }
    }

    fn say_json(&self, value: &serde_json::Value) {
        let mut pipe = self.pipe.lock().unwrap_or_else(|e| e.into_inner());
        // A client that is gone ends nothing: what was begun for it is of use to the next.
        let _ = line(&mut pipe, value);
    }

    fn say(&self, progress: &Progress) {
        self.say_json(&match progress {
            Progress::Message(words) => match words.split_once(": ") {
                Some((id, rest)) if rest.starts_with("Pulling from") => json!({"status": rest, "id": id}),
                _ => json!({"status": words}),
            },
            Progress::Layer {
                id,
                status,
                current,
                total,
            } => match total {
                0 => json!({"status": status, "progressDetail": {}, "id": id}),
                total => json!({
                    "status": status, "progressDetail": {"current": current, "total": total},
                    "progress": bar(*current, *total), "id": id
                }),
            },
        });
    }

    fn end(self) -> Result<()> {
        Ok(())
    }
}

/// Docker's own drawing of it: fifty characters and the sizes.
fn bar(current: u64, total: u64) -> String {
    let done = (current.min(total) * 50).checked_div(total).unwrap_or(0) as usize;
    let arrow = if done < 50 { ">" } else { "" };
    let rest = 50usize.saturating_sub(done + arrow.len());
    format!(
        "[{}{arrow}{}]  {}/{}",
        "=".repeat(done),
        " ".repeat(rest),
        size(current),
        size(total)
    )
}

/// `1.5kB`: four digits at most.
fn size(bytes: u64) -> String {
    let (mut number, mut units) = (bytes as f64, ["B", "kB", "MB", "GB", "TB"].into_iter());
    let mut unit = units.next().unwrap_or_default();
    while number >= 1000.0
        && let Some(larger) = units.next()
    {
        (number, unit) = (number / 1000.0, larger);
    }
    let digits = match number {
        n if n >= 100.0 => 1,
        n if n >= 10.0 => 2,
        _ => 3,
    };
    let text = format!("{number:.digits$}");
    format!("{}{unit}", text.trim_end_matches('0').trim_end_matches('.'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE};

    #[test]
    fn credentials_are_read_in_all_their_forms() {
        let read = |text: String| {
            let mut headers = HeaderMap::new();
            headers.insert("x-registry-auth", text.parse().unwrap());
            auth(&headers)
        };
        let expected = Some(("me".to_owned(), "s?>ecret".to_owned()));
        let body = r#"{"username":"me","password":"s?>ecret","serveraddress":"x"}"#;
        assert_eq!(read(BASE64_URL_SAFE.encode(body)).unwrap(), expected);
        assert_eq!(read(BASE64_STANDARD.encode(body)).unwrap(), expected);
        let packed = format!(r#"{{"auth":"{}"}}"#, BASE64_STANDARD.encode("me:s?>ecret"));
        assert_eq!(read(BASE64_URL_SAFE.encode(packed)).unwrap(), expected);
        assert_eq!(read(BASE64_URL_SAFE.encode("{}")).unwrap(), None);
        assert_eq!(read(String::new()).unwrap(), None);
        let error = read("!!".into()).unwrap_err().to_string();
        assert!(!error.contains("!!"), "{error}");
    }

    #[test]
    fn bars_are_dockers() {
        assert!(bar(0, 100).starts_with("[>                                                 ]"));
        assert!(bar(1_500, 20_000_000).ends_with("1.5kB/20MB"));
        assert!(bar(100, 100).starts_with(&format!("[{}]", "=".repeat(50))));
    }
}
