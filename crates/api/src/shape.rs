//! What bodies look like in each version of the API, a row a difference: fields that a version has and the engine's own
//! types have not, or the other way round. (Docker's history of its API, and the answers of a dockerd 28 in all versions.)

use engine::models::ContainerCreateBody;
use errdefs::{Error, Result};
use serde_json::{Map, Value};

use crate::reply::{Content, Reply};
use crate::version::{NEWEST, Version};

type Fields = Map<String, Value>;

/// What is done to an object of an answer.
enum What {
    /// Fields that are always there, as a JSON object of what they say when there is nothing to say.
    Fill(&'static str),
    /// Fields that are not there.
    Drop(&'static [&'static str]),
    /// Something else.
    Edit(fn(&mut Fields)),
}

/// One difference.
struct Row {
    /// The operation's name in the table of routes.
    operation: &'static str,
    /// Where in its answer: names, `[]` for each item of a list, `*` for each value of an object.
    place: &'static str,
    /// The minor versions that have it so: from the first one up to the second one, without that.
    versions: (u32, u32),
    what: What,
}

/// The end of `versions` for what is so up to the newest version.
const NOW: u32 = NEWEST.1 + 1;

const fn fill(operation: &'static str, place: &'static str, versions: (u32, u32), fields: &'static str) -> Row {
    let what = What::Fill(fields);
    Row {
        operation,
        place,
        versions,
        what,
    }
}

const fn edit(operation: &'static str, place: &'static str, versions: (u32, u32), edit: fn(&mut Fields)) -> Row {
    let what = What::Edit(edit);
    Row {
        operation,
        place,
        versions,
        what,
    }
}

const fn drop(
    operation: &'static str,
    place: &'static str,
    versions: (u32, u32),
    names: &'static [&'static str],
) -> Row {
    let what = What::Drop(names);
    Row {
        operation,
        place,
        versions,
        what,
    }
}

/// Answers: all differences.
#[rustfmt::skip]
const ROWS: &[Row] = &[
    fill("containers.list", "[].NetworkSettings.Networks.*", (24, NOW), ENDPOINT),
    drop("containers.list", "[].HostConfig", (24, 46), &["Annotations"]),
    drop("containers.list", "[]", (24, 48), &["ImageManifestDescriptor"]),

    fill("containers.inspect", "", (24, NOW), r#"{"ExecIDs":null}"#),
    fill("containers.inspect", "Config", (24, NOW), r#"{"Entrypoint":null,"Env":null,"OnBuild":null,"Volumes":null}"#),
    fill("containers.inspect", "HostConfig", (24, NOW), r#"{"Binds":null,"CapAdd":null,"CapDrop":null,
        "DeviceCgroupRules":null,"DeviceRequests":null,"ExtraHosts":null,"GroupAdd":null,"Links":null,"MaskedPaths":null,
        "MemorySwappiness":null,"OomKillDisable":null,"PidsLimit":null,"ReadonlyPaths":null,"SecurityOpt":null,
        "VolumesFrom":null}"#),
    edit("containers.inspect", "HostConfig", (24, NOW), usual_settings),
    fill("containers.inspect", "HostConfig.RestartPolicy", (24, NOW), r#"{"Name":"no","MaximumRetryCount":0}"#),
    fill("containers.inspect", "NetworkSettings.Networks.*", (24, NOW), ENDPOINT),
    edit("containers.inspect", "NetworkSettings", (24, NOW), own_network_settings),
    edit("containers.inspect", "", (24, 45), short_ids_are_aliases),
    drop("containers.inspect", "", (24, 48), &["ImageManifestDescriptor"]),
    edit("containers.inspect", "", (24, 44), own_mac_address),

    fill("containers.stats", "", (24, NOW), r#"{"cpu_stats":{},"precpu_stats":{},"blkio_stats":{}}"#),
    fill("containers.stats", "cpu_stats", (24, NOW), CPU),
    fill("containers.stats", "precpu_stats", (24, NOW), CPU),
    fill("containers.stats", "blkio_stats", (24, NOW), r#"{"io_service_bytes_recursive":null,"io_serviced_recursive":null,
        "io_queue_recursive":null,"io_service_time_recursive":null,"io_wait_time_recursive":null,"io_merged_recursive":null,
        "io_time_recursive":null,"sectors_recursive":null}"#),

    fill("exec.inspect", "", (24, NOW), r#"{"ExitCode":null}"#),

    edit("images.list", "[]", (24, 43), none_is_a_name),
    edit("images.list", "[]", (24, 51), nobody_is_counted),
    edit("images.list", "[]", (24, 44), virtual_size),
    edit("system.df", "Images.[]", (24, 44), virtual_size),
    drop("images.list", "[]", (24, 48), &["Descriptor"]),

    fill("images.inspect", "", (24, NOW), r#"{"DockerVersion":"","Parent":"","GraphDriver":{"Data":null,"Name":"overlay"},
        "Metadata":{"LastTagTime":"0001-01-01T00:00:00Z"},"Config":{}}"#),
    fill("images.inspect", "", (24, 44), r#"{"Created":"0001-01-01T00:00:00Z"}"#),
    fill("images.inspect", "Config", (24, NOW), r#"{"Cmd":null,"Entrypoint":null,"Env":null,"Labels":null,"OnBuild":null,
        "User":"","Volumes":null,"WorkingDir":""}"#),
    fill("images.inspect", "Config", (24, 50), r#"{"AttachStderr":false,"AttachStdin":false,"AttachStdout":false,
        "Domainname":"","Hostname":"","Image":"","OpenStdin":false,"StdinOnce":false,"Tty":false}"#),
    edit("images.inspect", "", (24, 44), virtual_size),
    edit("images.inspect", "", (24, 45), has_a_container),
    fill("images.inspect", "ContainerConfig", (24, 45), r#"{"AttachStderr":false,"AttachStdin":false,"AttachStdout":false,
        "Cmd":null,"Domainname":"","Entrypoint":null,"Env":null,"Hostname":"","Image":"","Labels":null,"OnBuild":null,
        "OpenStdin":false,"StdinOnce":false,"Tty":false,"User":"","Volumes":null,"WorkingDir":""}"#),
    drop("images.inspect", "", (45, NOW), &["Container", "ContainerConfig"]),
    drop("images.inspect", "", (24, 48), &["Descriptor"]),

    fill("system.info", "", (24, NOW), r#"{"Isolation":"","ContainerdCommit":{"ID":"N/A"},"InitCommit":{"ID":"N/A"},
        "RuncCommit":{"ID":"N/A"},"GenericResources":null,"CDISpecDirs":[],"DriverStatus":null}"#),
    fill("system.info", "Plugins", (24, NOW), r#"{"Authorization":null}"#),
    fill("system.info", "Swarm", (24, NOW), r#"{"NodeID":"","NodeAddr":"","ControlAvailable":false,"Error":"",
        "RemoteManagers":null}"#),
    fill("system.info", "RegistryConfig", (24, 47), r#"{"AllowNondistributableArtifactsCIDRs":null,
        "AllowNondistributableArtifactsHostnames":null}"#),
    fill("system.info", "RuncCommit", (24, 49), r#"{"Expected":"N/A"}"#),
    fill("system.info", "", (24, 50), r#"{"BridgeNfIp6tables":true,"BridgeNfIptables":true}"#),
    fill("system.info", "", (49, NOW), r#"{"FirewallBackend":{"Driver":"nftables"}}"#),
    edit("system.info", "", (24, 25), options_without_names),
    drop("system.info", "Runtimes.*", (24, 44), &["status"]),

    fill("networks.list", "[].ConfigFrom", (24, NOW), r#"{"Network":""}"#),
    fill("networks.inspect", "ConfigFrom", (24, NOW), r#"{"Network":""}"#),
];

/// What is there of a container on a network though nobody said anything about it.
const ENDPOINT: &str = r#"{"Aliases":null,"DNSNames":null,"DriverOpts":null,"IPAMConfig":null,"Links":null}"#;

/// Of a processor before there was anything to count.
const CPU: &str = r#"{"cpu_usage":{"total_usage":0,"usage_in_kernelmode":0,"usage_in_usermode":0},
    "throttling_data":{"periods":0,"throttled_periods":0,"throttled_time":0}}"#;

/// What a container has though nobody said anything about it.
fn usual_settings(host: &mut Fields) {
    let privileged = host.get("Privileged") == Some(&Value::Bool(true));
    for name in ["IpcMode", "CgroupnsMode"] {
        if host.get(name).is_none_or(|mode| mode == "") {
            host.insert(name.into(), "private".into());
        }
    }
    if host.get("ShmSize").is_none_or(|size| size == 0) {
        host.insert("ShmSize".into(), (64 << 20).into());
    }
    for (name, paths) in [
        ("MaskedPaths", engine::spec::masked_paths()),
        ("ReadonlyPaths", engine::spec::readonly_paths()),
    ] {
        if !privileged && host.get(name).is_none_or(Value::is_null) {
            host.insert(name.into(), paths.into());
        }
    }
}

/// Before 1.51 it was not told how many containers an image has.
fn nobody_is_counted(image: &mut Fields) {
    image.insert("Containers".into(), (-1).into());
}

/// Before 1.45 an image had the settings of the container that it was made in, if only empty ones.
fn has_a_container(image: &mut Fields) {
    if image.get("ContainerConfig").is_none_or(Value::is_null) {
        image.insert("ContainerConfig".into(), Value::Object(Fields::new()));
    }
}

/// Before 1.25 a security option was a word.
fn options_without_names(info: &mut Fields) {
    for option in info
        .get_mut("SecurityOptions")
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
    {
        let text = option.as_str().unwrap_or_default();
        let word = text.strip_prefix("name=").unwrap_or(text);
        *option = word.split(',').next().unwrap_or_default().into();
    }
}

/// Before 1.52 the default network's endpoint stands beside the networks, too.
fn own_network_settings(settings: &mut Fields) {
    let networks = settings.get("Networks").cloned().unwrap_or_default();
    let bridge = &networks["bridge"];
    for (name, empty) in [
        ("EndpointID", Value::from("")),
        ("Gateway", "".into()),
        ("GlobalIPv6Address", "".into()),
        ("GlobalIPv6PrefixLen", 0.into()),
        ("IPAddress", "".into()),
        ("IPPrefixLen", 0.into()),
        ("IPv6Gateway", "".into()),
        ("MacAddress", "".into()),
    ] {
        let value = bridge.get(name).cloned().unwrap_or(empty);
        settings.insert(name.into(), value);
    }
    for (name, value) in [
        ("Bridge", Value::from("")),
        ("HairpinMode", false.into()),
        ("LinkLocalIPv6Address", "".into()),
        ("LinkLocalIPv6PrefixLen", 0.into()),
        ("SecondaryIPAddresses", Value::Null),
        ("SecondaryIPv6Addresses", Value::Null),
    ] {
        settings.insert(name.into(), value);
    }
}

/// Before 1.45 a container's short id is one of its aliases on networks of the user's.
fn short_ids_are_aliases(container: &mut Fields) {
    let id: String = container
        .get("Id")
        .and_then(Value::as_str)
        .unwrap_or_default()
        .chars()
        .take(12)
        .collect();
    let host = container
        .get("Config")
        .and_then(|c| c["Hostname"].as_str())
        .unwrap_or_default()
        .to_owned();
    let networks = container
        .get_mut("NetworkSettings")
        .and_then(|s| s["Networks"].as_object_mut());
    for (name, endpoint) in networks.into_iter().flatten() {
        if ["bridge", "host", "none"].contains(&name.as_str()) {
            continue;
        }
        if !endpoint["Aliases"].is_array() {
            endpoint["Aliases"] = Value::Array(Vec::new());
        }
        let Some(aliases) = endpoint["Aliases"].as_array_mut() else {
            continue;
        };
        for alias in [&id, &host] {
            if !alias.is_empty() && !aliases.iter().any(|a| a.as_str() == Some(alias)) {
                aliases.push(alias.as_str().into());
            }
        }
    }
}

/// Before 1.44 the address that was asked for was a setting of the container's own.
fn own_mac_address(container: &mut Fields) {
    let mode = container
        .get("HostConfig")
        .and_then(|h| h["NetworkMode"].as_str())
        .unwrap_or_default();
    let name = if mode == "default" { "bridge" } else { mode }.to_owned();
    let networks = container
        .get("NetworkSettings")
        .map(|s| s["Networks"][&name]["MacAddress"].clone());
    if let (Some(address), Some(config)) = (
        networks.filter(|a| !a.is_null() && a != ""),
        container.get_mut("Config"),
    ) {
        config["MacAddress"] = address;
    }
}

fn none_is_a_name(image: &mut Fields) {
    for (field, none) in [("RepoTags", "<none>:<none>"), ("RepoDigests", "<none>@<none>")] {
        if image.get(field).and_then(Value::as_array).is_none_or(Vec::is_empty) {
            image.insert(field.into(), Value::from(vec![none]));
        }
    }
}

fn virtual_size(image: &mut Fields) {
    let size = image.get("Size").cloned().unwrap_or_default();
    image.insert("VirtualSize".into(), size);
}

fn rows(operation: &str, version: Version) -> impl Iterator<Item = &'static Row> {
    ROWS.iter().filter(move |row| {
        let (from, until) = row.versions;
        row.operation == operation && (from..until).contains(&version.1)
    })
}

/// Gives one document of a stream the form of a version.
pub fn document(operation: &str, version: Version, document: &mut Value) {
    rows(operation, version).for_each(|row| each(document, row.place, &mut |fields| row.apply(fields)));
}

/// Gives an answer the form of a version.
pub fn answer(operation: &str, version: Version, mut reply: Reply) -> Reply {
    let mut rows = rows(operation, version).peekable();
    if let Content::Whole(bytes) = &reply.content
        && rows.peek().is_some()
        && reply.status < 300
        && let Ok(mut body) = serde_json::from_slice(bytes)
    {
        rows.for_each(|row| each(&mut body, row.place, &mut |fields| row.apply(fields)));
        reply.content = Reply::json(reply.status, &body).content;
    }
    reply
}

impl Row {
    fn apply(&self, fields: &mut Fields) {
        match self.what {
            What::Fill(text) => {
                let Ok(Value::Object(defaults)) = serde_json::from_str(text) else {
                    return;
                };
                defaults
                    .into_iter()
                    .for_each(|(name, value)| _ = fields.entry(name).or_insert(value));
            }
            What::Drop(names) => names.iter().for_each(|name| _ = fields.remove(*name)),
            What::Edit(edit) => edit(fields),
        }
    }
}

/// Calls for every object at a place.
fn each(value: &mut Value, place: &str, call: &mut dyn FnMut(&mut Fields)) {
    let (first, rest) = place.split_once('.').unwrap_or((place, ""));
    match (first, value) {
        ("", Value::Object(fields)) => call(fields),
        ("[]", Value::Array(items)) => items.iter_mut().for_each(|item| each(item, rest, call)),
        ("*", Value::Object(fields)) => fields.values_mut().for_each(|value| each(value, rest, call)),
        (name, Value::Object(fields)) => fields
            .get_mut(name)
            .into_iter()
            .for_each(|value| each(value, rest, call)),
        _ => {}
    }
}

/// What a container's settings mean in a version: a client does not know of what came later.
pub fn container(version: Version, body: &mut ContainerCreateBody) -> Result<()> {
    let before = |minor: u32| version < Version(1, minor);
    let host = body.host_config.get_or_insert_default();
    if before(25) {
        // The client removes it.
        host.auto_remove = None;
    }
    if before(40) && host.ipc_mode.as_deref().is_none_or(str::is_empty) {
        host.ipc_mode = Some("shareable".into());
    }
    if before(43) {
        host.annotations = None;
    }
    let subpath = |mount: &engine::models::Mount| {
        let options = mount.volume_options.as_ref();
        options
            .and_then(|o| o.subpath.as_deref())
            .is_some_and(|s| !s.is_empty())
    };
    if before(45) && host.mounts.iter().flatten().any(subpath) {
        return Err(Error::invalid("VolumeOptions.Subpath needs API v1.45 or newer"));
    }
    if before(44)
        && let Some(check) = &mut body.healthcheck
    {
        check.start_interval = None;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn shaped(operation: &str, minor: u32, body: Value) -> Value {
        match answer(operation, Version(1, minor), Reply::json(200, &body)).content {
            Content::Whole(bytes) => serde_json::from_slice(&bytes).unwrap(),
            _ => panic!("no body"),
        }
    }

    #[test]
    fn rows_are_json_and_name_operations() {
        for row in ROWS {
            assert!(
                crate::routes::ROUTES.iter().any(|r| r.name == row.operation),
                "{}",
                row.operation
            );
            if let What::Fill(text) = row.what {
                assert!(serde_json::from_str::<Fields>(text).is_ok(), "{text}");
            }
        }
    }

    #[test]
    fn images_have_what_their_version_has() {
        let image = json!({"Size": 5, "RepoTags": [], "Descriptor": {}, "Container": "x", "Config": {"User": "me"}});
        let old = shaped("images.inspect", 43, image.clone());
        assert_eq!(
            (&old["VirtualSize"], &old["Container"], &old["Config"]["Tty"]),
            (&json!(5), &json!("x"), &json!(false))
        );
        assert_eq!(old.get("Descriptor"), None);
        let new = shaped("images.inspect", 51, image.clone());
        assert_eq!(
            (new.get("VirtualSize"), new.get("Container"), new["Config"].get("Tty")),
            (None, None, None)
        );
        assert_eq!(
            (&new["Config"]["User"], &new["Config"]["Cmd"]),
            (&json!("me"), &Value::Null)
        );
        let list = shaped("images.list", 42, json!([image]));
        assert_eq!(
            (&list[0]["RepoTags"], &list[0]["VirtualSize"]),
            (&json!(["<none>:<none>"]), &json!(5))
        );
        assert_eq!(
            shaped("images.list", 44, json!([{"RepoTags": []}]))[0]["RepoTags"],
            json!([])
        );
    }

    #[test]
    fn containers_have_what_their_version_has() {
        let endpoint = json!({"IPAddress": "172.17.0.2", "MacAddress": "02:42:ac:11:00:02"});
        let body = json!({"Id": "0123456789abcdef", "HostConfig": {"NetworkMode": "bridge", "CapAdd": ["X"]},
            "Config": {"Hostname": "web"}, "NetworkSettings": {"Networks": {"bridge": endpoint, "own": {"Aliases": ["a"]}}}});
        let old = shaped("containers.inspect", 43, body.clone());
        assert_eq!(
            old["NetworkSettings"]["Networks"]["own"]["Aliases"],
            json!(["a", "0123456789ab", "web"])
        );
        assert_eq!(old["Config"]["MacAddress"], "02:42:ac:11:00:02");
        let new = shaped("containers.inspect", 51, body);
        assert_eq!(new["NetworkSettings"]["IPAddress"], "172.17.0.2");
        assert_eq!(new["NetworkSettings"]["Networks"]["own"]["Aliases"], json!(["a"]));
        assert_eq!(
            (&new["HostConfig"]["CapAdd"], &new["HostConfig"]["Binds"]),
            (&json!(["X"]), &Value::Null)
        );
        assert_eq!(new["Config"].get("MacAddress"), None);
    }

    #[test]
    fn requests_mean_what_their_version_means() {
        let read = |minor: u32, body: Value| {
            let mut body: ContainerCreateBody = serde_json::from_value(body).unwrap();
            container(Version(1, minor), &mut body).map(|()| body)
        };
        let body = json!({"HostConfig": {"AutoRemove": true, "Annotations": {"a": "b"}}});
        let old = read(24, body.clone()).unwrap().host_config.unwrap();
        assert_eq!(
            (old.auto_remove, old.annotations, old.ipc_mode.as_deref()),
            (None, None, Some("shareable"))
        );
        let new = read(51, body).unwrap().host_config.unwrap();
        assert_eq!(
            (new.auto_remove, new.annotations.is_some(), new.ipc_mode),
            (Some(true), true, None)
        );
        let subpath =
            json!({"HostConfig": {"Mounts": [{"Type": "volume", "Target": "/x", "VolumeOptions": {"Subpath": "y"}}]}});
        assert!(read(44, subpath.clone()).is_err() && read(45, subpath).is_ok());
    }

    /// As dockerd 28.5 tells them, version by version.
    #[test]
    fn what_nobody_said_anything_about_is_told_as_docker_does() {
        let body = json!({"HostConfig": {"RestartPolicy": {"Name": "always"}, "ShmSize": 5}, "Config": {}});
        let host = &shaped("containers.inspect", 51, body.clone())["HostConfig"];
        assert_eq!((&host["IpcMode"], &host["ShmSize"]), (&json!("private"), &json!(5)));
        assert_eq!(host["RestartPolicy"], json!({"Name": "always", "MaximumRetryCount": 0}));
        assert!(
            host["MaskedPaths"]
                .as_array()
                .is_some_and(|p| p.contains(&json!("/proc/kcore")))
        );
        let mut privileged = body;
        privileged["HostConfig"]["Privileged"] = true.into();
        let host = &shaped("containers.inspect", 51, privileged)["HostConfig"];
        assert_eq!(host["MaskedPaths"], Value::Null);
        let count = |minor| shaped("images.list", minor, json!([{"Containers": 2}]))[0]["Containers"].clone();
        assert_eq!((count(50), count(51)), (json!(-1), json!(2)));
        let old = shaped("images.inspect", 44, json!({"ContainerConfig": null, "Config": {}}));
        assert_eq!(old["ContainerConfig"]["Cmd"], Value::Null);
        assert_eq!(old["ContainerConfig"]["User"], "");
        let options = |minor| {
            shaped(
                "system.info",
                minor,
                json!({"SecurityOptions": ["name=seccomp,profile=builtin"]}),
            )
        };
        assert_eq!(options(24)["SecurityOptions"], json!(["seccomp"]));
        assert_eq!(options(25)["SecurityOptions"], json!(["name=seccomp,profile=builtin"]));
    }

    #[test]
    fn documents_of_streams_have_the_form_of_their_version() {
        let mut stats = json!({"cpu_stats": {"cpu_usage": {"total_usage": 7}}});
        document("containers.stats", Version(1, 51), &mut stats);
        assert_eq!(stats["cpu_stats"]["cpu_usage"]["total_usage"], 7);
        assert_eq!(stats["precpu_stats"]["cpu_usage"]["total_usage"], 0);
        assert_eq!(stats["blkio_stats"]["sectors_recursive"], Value::Null);
    }
}
