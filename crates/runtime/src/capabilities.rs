//! Capability sets of the document as the kernel's bits (capabilities(7)).

use errdefs::{ErrnoStep, Result};
use oci_spec::runtime::{Capability, LinuxCapabilities};
use rustix::thread::{CapabilitySet, CapabilitySets};

/// Names by number.
pub const NUMBERS: &[Capability] = {
    use Capability::*;
    &[
        Chown,
        DacOverride,
        DacReadSearch,
        Fowner,
        Fsetid,
        Kill,
        Setgid,
        Setuid,
        Setpcap,
        LinuxImmutable,
        NetBindService,
        NetBroadcast,
        NetAdmin,
        NetRaw,
        IpcLock,
        IpcOwner,
        SysModule,
        SysRawio,
        SysChroot,
        SysPtrace,
        SysPacct,
        SysAdmin,
        SysBoot,
        SysNice,
        SysResource,
        SysTime,
        SysTtyConfig,
        Mknod,
        Lease,
        AuditWrite,
        AuditControl,
        Setfcap,
        MacOverride,
        MacAdmin,
        Syslog,
        WakeAlarm,
        BlockSuspend,
        AuditRead,
        Perfmon,
        Bpf,
        CheckpointRestore,
    ]
};

/// The document's sets, as bits.
#[derive(Clone, Copy, Debug)]
pub struct Sets {
    bounding: CapabilitySet,
    effective: CapabilitySet,
    permitted: CapabilitySet,
    inheritable: CapabilitySet,
    ambient: CapabilitySet,
}

impl Sets {
    /// Of the document; one that says nothing gives none.
    pub fn of(document: Option<&LinuxCapabilities>) -> Self {
        let bits = |set: &Option<std::collections::HashSet<Capability>>| {
            let numbers = set.iter().flatten().filter_map(|c| NUMBERS.iter().position(|n| n == c));
            CapabilitySet::from_bits_retain(numbers.fold(0, |bits, n| bits | 1 << n))
        };
        let set = |which: fn(&LinuxCapabilities) -> &Option<std::collections::HashSet<Capability>>| {
            document.map_or(CapabilitySet::empty(), |d| bits(which(d)))
        };
        Sets {
            bounding: set(LinuxCapabilities::bounding),
            effective: set(LinuxCapabilities::effective),
            permitted: set(LinuxCapabilities::permitted),
            inheritable: set(LinuxCapabilities::inheritable),
            ambient: set(LinuxCapabilities::ambient),
        }
    }

    /// Those that cannot be ambient, as they are not both permitted and inheritable.
    pub fn not_ambient(&self) -> Vec<Capability> {
        let possible = self.permitted & self.inheritable;
        let left = |number: &usize| {
            let one = CapabilitySet::from_bits_retain(1 << number);
            self.ambient.contains(one) && !possible.contains(one)
        };
        (0..NUMBERS.len()).filter(left).map(|number| NUMBERS[number]).collect()
    }

    /// What no program executed from now on can get. Before the user is changed.
    pub fn limit_bounding(&self) -> Result<()> {
        for number in 0..64 {
            let one = CapabilitySet::from_bits_retain(1 << number);
            if self.bounding.contains(one) {
                continue;
            }
            match rustix::thread::remove_capability_from_bounding_set(one) {
                Ok(()) => {}
                // Beyond the kernel's last one.
                Err(rustix::io::Errno::INVAL) if number >= NUMBERS.len() => break,
                Err(rustix::io::Errno::INVAL) => {}
                Err(e) => return Err(e).errno_step("limit the capabilities"),
            }
        }
        Ok(())
    }

    /// What this process has. After the user is changed; what we do not have ourselves we cannot give.
    pub fn apply(&self) -> Result<()> {
        let own = rustix::thread::capabilities(None)
            .errno_step("read the capabilities")?
            .permitted;
        let sets = CapabilitySets {
            effective: self.effective & self.permitted & own,
            permitted: self.permitted & own,
            inheritable: self.inheritable & own,
        };
        rustix::thread::set_capabilities(None, sets).errno_step("set the capabilities")?;
        let _ = rustix::thread::clear_ambient_capability_set();
        for number in 0..NUMBERS.len() {
            let one = CapabilitySet::from_bits_retain(1 << number);
            if self.ambient.contains(one) {
                // Only what is permitted and inheritable can be ambient; the rest is left out, as runc does.
                let _ = rustix::thread::configure_capability_in_ambient_set(one, true);
            }
        }
        Ok(())
    }
}
