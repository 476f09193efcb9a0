//! `--device`, limits of single devices, `--gpus`, `--annotation`.

use engine::models::{DeviceMapping, DeviceRequest, ResourcesBlkioWeightDevice, ThrottleDevice};
use errdefs::{Error, Result};

use crate::cli::flag::Given;
use crate::format::parse_bytes;

/// `/dev/a`, `/dev/a:/dev/b`, `/dev/a:r`, `/dev/a:/dev/b:rw`.
pub fn device(text: &str) -> Result<DeviceMapping> {
    let bad = || Error::invalid(format!("invalid device specification: {text}"));
    if !text.starts_with('/') {
        return Err(match text.split_once('=') {
            Some(_) => Error::not_yet("--device of a container device interface (CDI)"),
            None => bad(),
        });
    }
    let letters = |t: &str| !t.is_empty() && t.len() <= 3 && t.bytes().all(|b| b"rwm".contains(&b));
    let (source, target, access) = match text.split(':').collect::<Vec<_>>()[..] {
        [source] => (source, source, "rwm"),
        [source, access] if letters(access) => (source, source, access),
        [source, target] if target.starts_with('/') => (source, target, "rwm"),
        [source, target, access] if letters(access) && target.starts_with('/') => (source, target, access),
        _ => return Err(bad()),
    };
    Ok(DeviceMapping {
        path_on_host: Some(source.into()),
        path_in_container: Some(target.into()),
        cgroup_permissions: Some(access.into()),
    })
}

/// `/dev/sda:200`.
pub fn weight(text: &str) -> Result<ResourcesBlkioWeightDevice> {
    let (path, number) = text
        .rsplit_once(':')
        .ok_or_else(|| Error::invalid(format!("bad format: {text}")))?;
    if !path.starts_with("/dev/") {
        return Err(Error::invalid(format!("bad format for device path: {text}")));
    }
    let weight = number.parse().ok().filter(|w| *w == 0 || (10..=1000).contains(w));
    let weight = weight.ok_or_else(|| Error::invalid(format!("invalid weight for device: {text}")))?;
    Ok(ResourcesBlkioWeightDevice {
        path: Some(path.into()),
        weight: Some(weight),
    })
}

/// `/dev/sda:1mb`, or a number of operations.
pub fn throttles(given: &Given, flag: &str, bytes: bool) -> Result<Vec<ThrottleDevice>> {
    let one = |text: &String| {
        let (path, rate) = text
            .rsplit_once(':')
            .ok_or_else(|| Error::invalid(format!("bad format: {text}")))?;
        if !path.starts_with("/dev/") {
            return Err(Error::invalid(format!("bad format for device path: {text}")));
        }
        let bad = |form: &str| {
            Error::invalid(format!(
                "invalid rate for device: {text}. The correct format is <device-path>:<number>{form}. Number must be a positive integer"
            ))
        };
        let rate = match bytes {
            true => parse_bytes(rate).map_err(|_| bad("[<unit>]"))?,
            false => rate.parse::<u32>().map(i64::from).map_err(|_| bad(""))?,
        };
        Ok(ThrottleDevice {
            path: Some(path.into()),
            rate: Some(rate),
        })
    };
    given.many(flag).iter().map(one).collect()
}

/// `all`, `2`, `device=0`, `count=1,capabilities=utility`.
pub fn gpus(text: &str) -> Result<DeviceRequest> {
    let mut request = DeviceRequest::default();
    let mut capabilities = vec!["gpu".to_owned()];
    let count = |text: &str| {
        match text {
        "all" => Ok(-1),
        text => text.parse::<i64>().map_err(|_| {
            Error::flag(format!(
                "invalid argument {text:?} for \"--gpus\" flag: invalid count ({text}): value must be either \"all\" or an integer"
            ))
        }),
    }
    };
    for field in text.trim_matches('"').split(',') {
        match field.split_once('=') {
            None => request.count = Some(count(field)?),
            Some(("count", value)) => request.count = Some(count(value)?),
            Some(("driver", value)) => request.driver = Some(value.into()),
            Some(("device", value)) => request.device_ids = Some(vec![value.into()]),
            Some(("capabilities", value)) => capabilities.push(value.into()),
            Some((key, _)) => {
                return Err(Error::flag(format!(
                    "invalid argument {text:?} for \"--gpus\" flag: unexpected key '{key}' in '{field}'"
                )));
            }
        }
    }
    request.capabilities = Some(vec![capabilities]);
    Ok(request)
}

/// `key=value`.
pub fn annotation(text: &str) -> Result<(String, String)> {
    let (key, value) = text.split_once('=').unwrap_or((text, ""));
    match key.is_empty() {
        true => Err(Error::invalid(format!("invalid annotation: {text:?}"))),
        false => Ok((key.into(), value.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_follow_dockers_forms() {
        for (text, expected) in [
            ("/dev/a", Some(("/dev/a", "/dev/a", "rwm"))),
            ("/dev/a:/dev/b", Some(("/dev/a", "/dev/b", "rwm"))),
            ("/dev/a:rw", Some(("/dev/a", "/dev/a", "rw"))),
            ("/dev/a:/dev/b:r", Some(("/dev/a", "/dev/b", "r"))),
            ("/dev/a:/dev/b:x", None),
            ("a", None),
            ("vendor.com/gpu=0", None),
        ] {
            let got = device(text).ok();
            let got = got.as_ref().map(|d| {
                let text = |t: &'_ Option<String>| t.clone().unwrap_or_default();
                (
                    text(&d.path_on_host),
                    text(&d.path_in_container),
                    text(&d.cgroup_permissions),
                )
            });
            assert_eq!(got, expected.map(|(a, b, c)| (a.into(), b.into(), c.into())), "{text}");
        }
    }
}
