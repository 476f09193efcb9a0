//! What the types of a document cannot say is wrong: everything is checked before anything is made, and told by its place.

use std::path::{Component, Path};

use errdefs::{Error, Result, Step};
use runtime::oci::{self, LinuxIdMapping, LinuxNamespaceType};

fn wrong(place: impl std::fmt::Display, why: impl std::fmt::Display) -> Result<()> {
    Err(Error::invalid(format!("{place}: {why}")))
}

/// Refuses if `bad`.
fn refuse_if(bad: bool, place: impl std::fmt::Display, why: impl std::fmt::Display) -> Result<()> {
    if bad { wrong(place, why) } else { Ok(()) }
}

/// Of a container.
pub fn spec(spec: &oci::Spec, bundle: &Path) -> Result<()> {
    version(spec.version())?;
    root(spec, bundle)?;
    match spec.process() {
        Some(of) => process(of, "process.")?,
        None => return wrong("process", "a container needs one"),
    }
    namespaces(spec)?;
    mounts(spec)?;
    hooks(spec)?;
    linux(spec)?;
    super::listener::check(spec)?;
    refuse_unsupported(spec)
}

fn version(version: &str) -> Result<()> {
    let core = version.split(['-', '+']).next().unwrap_or_default();
    let numbers: Vec<_> = core.split('.').map(str::parse::<u32>).collect();
    let good = numbers.len() == 3 && numbers.iter().all(std::result::Result::is_ok) && core.starts_with("1.");
    refuse_if(
        !good,
        "ociVersion",
        format_args!("{version:?} is not supported: 1.x is"),
    )
}

/// No link on the way: whoever may change one would choose the root (runc refuses them, too).
fn root(spec: &oci::Spec, bundle: &Path) -> Result<()> {
    let Some(root) = spec.root() else {
        return wrong("root", "a container needs a root file system");
    };
    let path = bundle.join(root.path());
    let shown = path.display();
    let found = std::fs::metadata(&path).is_ok_and(|m| m.is_dir());
    if root.path().as_os_str().is_empty() || !found {
        return Err(Error::not_found(format!("root.path: no such directory: {shown}")));
    }
    let real = path.canonicalize().step_with(|| format!("root.path: {shown}"))?;
    let expected = match root.path().is_absolute() {
        true => path.clone(),
        false => bundle.canonicalize().step("find the bundle")?.join(root.path()),
    };
    refuse_if(
        real != cleaned(&expected),
        "root.path",
        format_args!("{shown} is a symbolic link, or behind one"),
    )
}

/// Without `.` and `..`, by words alone.
fn cleaned(path: &Path) -> std::path::PathBuf {
    let mut clean = std::path::PathBuf::from("/");
    for part in path.components() {
        match part {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => drop(clean.pop()),
            _ => {}
        }
    }
    clean
}

/// What this kernel cannot label is refused before anything is made.
fn labels(process: &oci::Process, at: &str) -> Result<()> {
    let said = |text: &Option<String>| text.as_deref().is_some_and(|text| !text.is_empty());
    refuse_if(
        said(process.apparmor_profile()) && !runtime::labels::has_apparmor(),
        format_args!("{at}apparmorProfile"),
        "AppArmor is not enabled on this host",
    )?;
    refuse_if(
        said(process.selinux_label()) && !runtime::labels::has_selinux(),
        format_args!("{at}selinuxLabel"),
        "SELinux is not enabled on this host",
    )
}

/// Of a container or for `exec`; `at` stands before its fields' names.
pub fn process(process: &oci::Process, at: &str) -> Result<()> {
    labels(process, at)?;
    let cwd = process.cwd();
    refuse_if(
        !cwd.is_absolute(),
        format_args!("{at}cwd"),
        format_args!("{cwd:?} is not an absolute path"),
    )?;
    refuse_if(
        process.args().as_ref().is_none_or(Vec::is_empty),
        format_args!("{at}args"),
        "no command is specified",
    )?;
    for (index, entry) in process.env().iter().flatten().enumerate() {
        let bad = !entry.contains('=') || entry.starts_with('=') || entry.contains('\0');
        refuse_if(
            bad,
            format_args!("{at}env[{index}]"),
            format_args!("{entry:?} is not NAME=VALUE"),
        )?;
    }
    let limits = process.rlimits().as_deref().unwrap_or_default();
    for (index, limit) in limits.iter().enumerate() {
        let place = format!("{at}rlimits[{index}]");
        let again = limits[..index].iter().any(|l| l.typ() == limit.typ());
        refuse_if(again, &place, format_args!("{:?} is there twice", limit.typ()))?;
        refuse_if(
            limit.soft() > limit.hard(),
            &place,
            "the soft limit is above the hard one",
        )?;
    }
    let score = process.oom_score_adj().unwrap_or(0);
    refuse_if(
        !(-1000..=1000).contains(&score),
        format_args!("{at}oomScoreAdj"),
        format_args!("{score} is not in -1000 to 1000"),
    )
}

fn has(spec: &oci::Spec, kind: LinuxNamespaceType) -> bool {
    let list = spec.linux().iter().flat_map(|l| l.namespaces().iter().flatten());
    list.into_iter().any(|n| n.typ() == kind)
}

fn is_new(spec: &oci::Spec, kind: LinuxNamespaceType) -> bool {
    let list = spec.linux().iter().flat_map(|l| l.namespaces().iter().flatten());
    let own = |n: &&oci::LinuxNamespace| n.path().as_ref().is_none_or(|path| path.as_os_str().is_empty());
    list.into_iter().filter(own).any(|n| n.typ() == kind)
}

fn namespaces(spec: &oci::Spec) -> Result<()> {
    let list = spec.linux().iter().flat_map(|l| l.namespaces().iter().flatten());
    let list: Vec<_> = list.collect();
    for (index, namespace) in list.iter().enumerate() {
        let place = format!("linux.namespaces[{index}]");
        let again = list[..index].iter().any(|n| n.typ() == namespace.typ());
        refuse_if(
            again,
            format_args!("{place}.type"),
            format_args!("{} is there twice", namespace.typ()),
        )?;
        if let Some(path) = namespace.path().as_ref().filter(|path| !path.as_os_str().is_empty()) {
            let place = format_args!("{place}.path").to_string();
            refuse_if(
                !path.is_absolute(),
                &place,
                format_args!("{path:?} is not an absolute path"),
            )?;
            refuse_if(
                !path.exists(),
                &place,
                format_args!("{} does not exist", path.display()),
            )?;
        }
    }
    use LinuxNamespaceType::{Time, User, Uts};
    let none = |name: &Option<String>| name.as_deref().is_none_or(str::is_empty);
    let named = !none(spec.hostname()) || !none(spec.domainname());
    refuse_if(
        named && !has(spec, Uts),
        "hostname",
        "unable to set hostname without a private UTS namespace",
    )?;
    let linux = spec.linux().clone().unwrap_or_default();
    let offsets = linux.time_offsets().clone().unwrap_or_default();
    refuse_if(
        !offsets.is_empty() && !is_new(spec, Time),
        "linux.timeOffsets",
        "there is no time namespace of the container's own",
    )?;
    if let Some(clock) = offsets
        .keys()
        .find(|clock| !["monotonic", "boottime"].contains(&clock.as_str()))
    {
        return wrong(format_args!("linux.timeOffsets.{clock}"), "there is no such clock");
    }
    for (place, list) in [
        ("linux.uidMappings", linux.uid_mappings()),
        ("linux.gidMappings", linux.gid_mappings()),
    ] {
        let list = list.as_deref().unwrap_or_default();
        refuse_if(
            !list.is_empty() && !has(spec, User),
            place,
            "user namespace mappings specified, but no user namespace",
        )?;
        refuse_if(
            list.is_empty() && is_new(spec, User),
            place,
            "a new user namespace needs them",
        )?;
        runtime::check_mappings(place, list)?;
    }
    if is_new(spec, User)
        && let Some(process) = spec.process()
    {
        let (uids, gids) = (linux.uid_mappings(), linux.gid_mappings());
        mapped("process.user.uid", process.user().uid(), uids)?;
        mapped("process.user.gid", process.user().gid(), gids)?;
    }
    Ok(())
}

fn mapped(place: &str, id: u32, list: &Option<Vec<LinuxIdMapping>>) -> Result<()> {
    let holds = |m: &LinuxIdMapping| id.checked_sub(m.container_id()).is_some_and(|n| n < m.size());
    let found = list.iter().flatten().any(holds);
    refuse_if(
        !found,
        place,
        format_args!("{id} is not mapped in the container's user namespace"),
    )
}

fn mounts(spec: &oci::Spec) -> Result<()> {
    let list = spec.mounts().as_deref().unwrap_or_default();
    for (index, mount) in list.iter().enumerate() {
        let place = format!("mounts[{index}]");
        let destination = mount.destination();
        refuse_if(
            destination.as_os_str().is_empty(),
            format_args!("{place}.destination"),
            "it is empty",
        )?;
        let own = cleaned(destination);
        let again = list[..index].iter().position(|m| cleaned(m.destination()) == own);
        if let Some(first) = again {
            return wrong(
                format_args!("{place}.destination"),
                format_args!("{} is that of mounts[{first}], too", destination.display()),
            );
        }
        let kind = mount.typ().as_deref().unwrap_or_default();
        let words = mount.options().as_deref().unwrap_or_default();
        let bind = kind == "bind" || words.iter().any(|w| w == "bind" || w == "rbind");
        refuse_if(
            !bind && kind.is_empty(),
            format_args!("{place}.type"),
            "a mount that is no bind mount needs one",
        )?;
        let named = mount
            .source()
            .as_ref()
            .is_some_and(|source| !source.as_os_str().is_empty());
        refuse_if(bind && !named, format_args!("{place}.source"), "a bind mount needs one")?;
        for (field, list) in [
            ("uidMappings", mount.uid_mappings()),
            ("gidMappings", mount.gid_mappings()),
        ] {
            let list = list.as_deref().unwrap_or_default();
            let place = format!("{place}.{field}");
            refuse_if(!bind && !list.is_empty(), &place, "only bind mounts can be idmapped")?;
            runtime::check_mappings(&place, list)?;
        }
    }
    Ok(())
}

fn hooks(spec: &oci::Spec) -> Result<()> {
    let Some(hooks) = spec.hooks() else { return Ok(()) };
    let kinds = [
        ("prestart", hooks.prestart()),
        ("createRuntime", hooks.create_runtime()),
        ("createContainer", hooks.create_container()),
        ("startContainer", hooks.start_container()),
        ("poststart", hooks.poststart()),
        ("poststop", hooks.poststop()),
    ];
    for (kind, list) in kinds {
        for (index, hook) in list.iter().flatten().enumerate() {
            let place = format!("hooks.{kind}[{index}]");
            refuse_if(
                !hook.path().is_absolute(),
                format_args!("{place}.path"),
                format_args!("{:?} is not an absolute path", hook.path()),
            )?;
            refuse_if(
                hook.timeout().is_some_and(|seconds| seconds <= 0),
                format_args!("{place}.timeout"),
                "it must be greater than zero",
            )?;
        }
    }
    Ok(())
}

fn linux(spec: &oci::Spec) -> Result<()> {
    let Some(linux) = spec.linux() else { return Ok(()) };
    let own_mounts = has(spec, LinuxNamespaceType::Mount);
    for (field, list) in [
        ("maskedPaths", linux.masked_paths()),
        ("readonlyPaths", linux.readonly_paths()),
    ] {
        refuse_if(
            !own_mounts && list.as_ref().is_some_and(|list| !list.is_empty()),
            format_args!("linux.{field}"),
            "unable to restrict sys entries without a private MNT namespace",
        )?;
        for (index, path) in list.iter().flatten().enumerate() {
            refuse_if(
                !path.starts_with('/'),
                format_args!("linux.{field}[{index}]"),
                format_args!("{path:?} is not an absolute path"),
            )?;
        }
    }
    let devices = linux.devices().as_deref().unwrap_or_default();
    for (index, device) in devices.iter().enumerate() {
        let place = format!("linux.devices[{index}]");
        let path = device.path();
        refuse_if(
            !path.is_absolute() || path.file_name().is_none(),
            format_args!("{place}.path"),
            format_args!("{path:?} is no absolute path of a file"),
        )?;
        let number = |n: i64| (0..=i64::from(u32::MAX)).contains(&n);
        let fifo = device.typ() == oci::LinuxDeviceType::P;
        refuse_if(
            !fifo && !number(device.major()),
            format_args!("{place}.major"),
            "it is out of range",
        )?;
        refuse_if(
            !fifo && !number(device.minor()),
            format_args!("{place}.minor"),
            "it is out of range",
        )?;
    }
    let pages = linux
        .resources()
        .iter()
        .flat_map(|r| r.hugepage_limits().iter().flatten());
    for (index, limit) in pages.enumerate() {
        refuse_if(
            limit.page_size().is_empty(),
            format_args!("linux.resources.hugepageLimits[{index}].pageSize"),
            "it is empty",
        )?;
    }
    if let Some(path) = linux.cgroups_path() {
        let up = path.components().any(|part| part == Component::ParentDir);
        refuse_if(up, "linux.cgroupsPath", format_args!("{path:?} leads up"))?;
    }
    if let Some(word) = linux.rootfs_propagation().as_deref().filter(|word| !word.is_empty()) {
        refuse_if(
            !runtime::is_propagation(word),
            "linux.rootfsPropagation",
            format_args!("{word:?} is no kind of propagation"),
        )?;
    }
    let mut settings = linux.sysctl().iter().flatten();
    match settings.find(|(name, _)| !runtime::is_namespaced(name)) {
        Some((name, _)) => wrong(
            format_args!("linux.sysctl.{name}"),
            format_args!("sysctl {name:?} is not in a separate kernel namespace"),
        ),
        None => Ok(()),
    }
}

/// What would be ignored is refused, by its place in the document.
fn refuse_unsupported(spec: &oci::Spec) -> Result<()> {
    let linux = spec.linux().clone().unwrap_or_default();
    let labelled = linux.mount_label().as_deref().is_some_and(|text| !text.is_empty());
    refuse_if(
        labelled && !runtime::labels::has_selinux(),
        "linux.mountLabel",
        "SELinux is not enabled on this host",
    )?;
    let asked = [
        ("linux.intelRdt", linux.intel_rdt().is_some()),
        (
            "linux.netDevices",
            linux.net_devices().as_ref().is_some_and(|d| !d.is_empty()),
        ),
        ("linux.memoryPolicy", linux.memory_policy().is_some()),
    ];
    match asked.iter().find(|(_, asked)| *asked) {
        Some((what, _)) => Err(Error::not_yet(what)),
        None => Ok(()),
    }
}
