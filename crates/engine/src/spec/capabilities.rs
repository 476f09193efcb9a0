//! `--cap-add`, `--cap-drop`, `--privileged` to a set of capabilities (capabilities(7), moby `oci/caps`).

use bollard_stubs::models::HostConfig;
use errdefs::{Error, Result};
use runtime::oci::Capability;
use serde::Deserialize;
use serde::de::value::{Error as ValueError, StrDeserializer};

use super::privileged;

/// Docker's fourteen.
const DEFAULT: &[Capability] = {
    use Capability::*;
    &[
        Chown,
        DacOverride,
        Fsetid,
        Fowner,
        Mknod,
        NetRaw,
        Setgid,
        Setuid,
        Setfcap,
        Setpcap,
        NetBindService,
        SysChroot,
        Kill,
        AuditWrite,
    ]
};

/// Every capability of Linux 6.
const ALL: &[Capability] = {
    use Capability::*;
    &[
        AuditControl,
        AuditRead,
        AuditWrite,
        BlockSuspend,
        Bpf,
        CheckpointRestore,
        Chown,
        DacOverride,
        DacReadSearch,
        Fowner,
        Fsetid,
        IpcLock,
        IpcOwner,
        Kill,
        Lease,
        LinuxImmutable,
        MacAdmin,
        MacOverride,
        Mknod,
        NetAdmin,
        NetBindService,
        NetBroadcast,
        NetRaw,
        Perfmon,
        Setgid,
        Setfcap,
        Setpcap,
        Setuid,
        SysAdmin,
        SysBoot,
        SysChroot,
        SysModule,
        SysNice,
        SysPacct,
        SysPtrace,
        SysRawio,
        SysResource,
        SysTime,
        SysTtyConfig,
        Syslog,
        WakeAlarm,
    ]
};

/// The capabilities of a container's root.
pub fn capabilities(host: &HostConfig) -> Result<Vec<Capability>> {
    let (add, drop) = check(host)?;
    if privileged(host) {
        return Ok(ALL.to_vec());
    }
    let mut set = match (add.contains(&None), drop.contains(&None)) {
        (true, _) => ALL.to_vec(),
        (false, true) => Vec::new(),
        (false, false) => DEFAULT.to_vec(),
    };
    set.retain(|c| !drop.contains(&Some(*c)));
    // Packets under another's address would be held to another's policy.
    if crate::network::egress::of_container(host)?.is_some() {
        set.retain(|c| *c != Capability::NetRaw || add.contains(&None));
    }
    for capability in add.into_iter().flatten() {
        if !set.contains(&capability) {
            set.push(capability);
        }
    }
    Ok(set)
}

/// One capability, or `None` for all.
type Named = Option<Capability>;

/// Both lists, read; fails with Docker's words for a name that is none.
pub fn check(host: &HostConfig) -> Result<(Vec<Named>, Vec<Named>)> {
    let read = |list: &Option<Vec<String>>, field: &str| -> Result<Vec<Named>> {
        list.iter().flatten().map(|name| parse(name, field)).collect()
    };
    Ok((read(&host.cap_add, "CapAdd")?, read(&host.cap_drop, "CapDrop")?))
}

fn parse(name: &str, field: &str) -> Result<Named> {
    let upper = name.to_ascii_uppercase();
    if upper == "ALL" {
        return Ok(None);
    }
    let full = if upper.starts_with("CAP_") {
        upper
    } else {
        format!("CAP_{upper}")
    };
    Capability::deserialize(StrDeserializer::<ValueError>::new(&full))
        .map(Some)
        .map_err(|_| Error::invalid(format!("invalid {field}: unknown capability: {full:?}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adding_and_dropping_follow_dockers_table() {
        let set = |add: &[&str], drop: &[&str]| {
            let list = |l: &[&str]| Some(l.iter().map(|s| (*s).to_owned()).collect());
            capabilities(&HostConfig {
                cap_add: list(add),
                cap_drop: list(drop),
                ..Default::default()
            })
        };
        assert_eq!(set(&[], &[]).unwrap().len(), 14);
        assert_eq!(set(&["net_admin"], &["ALL"]).unwrap(), [Capability::NetAdmin]);
        assert_eq!(set(&["ALL"], &["CAP_SYS_ADMIN"]).unwrap().len(), 40);
        assert!(!set(&[], &["chown"]).unwrap().contains(&Capability::Chown));
        let error = set(&["nosuch"], &[]).unwrap_err().to_string();
        assert_eq!(error, "invalid CapAdd: unknown capability: \"CAP_NOSUCH\"");
    }
}
