//! From a record to a container that executes its command as soon as it is set up.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::Path;

use engine::Roots;
use engine::container::Record;
use engine::container::record::write_json;
use engine::spec;
use errdefs::{ErrnoStep, Result};
use network::Attachment;
use network::pasta::Carrier;
use runtime::cgroup::Driver;
use runtime::{Create, Created, Life, Newborn, Rootfs, Stdio, create};
use rustix::fs::{Gid, OFlags, Uid};
use snapshot::{Digest, Store, Writable};

use crate::names::Names;
use crate::network::attach;
use crate::output::Streams;
use crate::supervise;

/// A container that waits for `created.start()`.
pub struct BroughtUp {
    pub created: Created,
    pub streams: Streams,
    pub warnings: Vec<String>,
    pub names: Names,
    /// Of its network, without root.
    pub carrier: Option<Carrier>,
    /// What takes the kernel long to take down: to be let go when nobody waits.
    pub kept: Vec<OwnedFd>,
}

/// Sets the container up. On error nothing of it is left but its live directory. `newborn`: see there.
pub fn bring_up(
    roots: &Roots,
    record: &Record,
    networks: &[Attachment],
    newborn: Option<Newborn>,
) -> Result<BroughtUp> {
    let mut layers = Store::open(&roots.layers())?;
    let own = Writable::at(&roots.container(&record.id), !record.auto_remove());
    let digests = digests(record)?;
    // Told when the container was made; another kernel than then may be running.
    let asked = engine::mend::asked(record.host())?;
    engine::mend::mend(&mut layers, &digests, &asked.plan())?;
    let interpreters = engine::emulate::interpreters(&asked.emulate)?;
    // Users are looked up in the container's files.
    let read = |path: &str| {
        let found = layers.read_file(&digests, Some(&own), path, spec::user::FILE_LIMIT)?;
        Ok(found.unwrap_or_default())
    };
    let built = spec::build(roots, record, &read)?;
    let (spec, mut warnings) = (&built.spec, built.warnings.clone());
    engine::container::files::settle(roots, record)?;
    write_json(&roots.document(&record.id), spec)?;
    let owner = spec.process().as_ref().map_or(0, |p| p.user().uid());
    let (streams, stdio) = streams(record, owner)?;
    let (mut view, mut mounts) = (None, None);
    let mut mount = |userns: Option<std::os::fd::BorrowedFd<'_>>| {
        let mounted = layers.mount(&digests, Some(&own), userns.filter(|_| record.is_idmapped()))?;
        view = Some(mounted.view);
        Ok(mounted.root)
    };
    let mut names = Names::default();
    let mut carrier = None;
    let mut attach = |pid: i32| {
        carrier = attach(pid, networks, &roots.live(&record.id))?;
        names = Names::join(roots, record, pid, networks)?;
        Ok(())
    };
    let mut created = create(Create {
        id: &record.id,
        spec,
        bundle: Path::new(&roots.live(&record.id)),
        rootfs: Rootfs::Detached(&mut mount),
        network: if networks.is_empty() { None } else { Some(&mut attach) },
        stdio,
        init: record.host().init.unwrap_or(false),
        life: Life::WithCaller,
        preserved: 0,
        no_pivot: false,
        no_new_keyring: false,
        newborn,
        state: None,
        filters: None,
        cgroups: Driver::AsNeeded,
        interpreters: &interpreters,
        old_systemd: asked.old_systemd,
        born: &mut |pid| {
            mounts = mounts_kept(record, pid);
            supervise::begin_if(&asked, roots, record, pid)
        },
    })?;
    if !roots.is_users() {
        warnings.append(&mut created.warnings);
    }
    let streams = match created.console.take() {
        Some(master) => Streams::terminal(master)?,
        None => streams,
    };
    Ok(BroughtUp {
        created,
        streams,
        warnings,
        names,
        carrier,
        kept: view.into_iter().chain(mounts).collect(),
    })
}

/// The mount namespace of a container that has nothing of the host's mounted. Else the kernel takes it down before it tells of the
/// end. What is of the host must not be busy any more when the end is told.
fn mounts_kept(record: &Record, pid: i32) -> Option<OwnedFd> {
    match record.mounts.is_empty() {
        true => File::open(format!("/proc/{pid}/ns/mnt")).ok().map(OwnedFd::from),
        false => None,
    }
}

fn digests(record: &Record) -> Result<Vec<Digest>> {
    use errdefs::Step;
    record
        .layers
        .iter()
        .map(|l| l.parse::<Digest>().step_with(|| format!("read the layer's digest {l}")))
        .collect()
}

/// Our ends, and the container's. Its ends belong to its user, who may open `/dev/stdout` again.
fn streams(record: &Record, uid: u32) -> Result<(Streams, Stdio)> {
    if record.tty() {
        let size = record.host().console_size.clone().unwrap_or_default();
        let side = |index: usize| size.get(index).copied().unwrap_or(0).min(u16::MAX.into()) as u16;
        return Ok((
            Streams::default(),
            Stdio::Terminal {
                rows: side(0),
                cols: side(1),
                plain: false,
            },
        ));
    }
    let owner = Uid::from_raw(record.ids.map_or(uid, |range| range.first.saturating_add(uid)));
    let pipe = |into: bool| -> Result<(OwnedFd, OwnedFd)> {
        let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).errno_step("make a pipe")?;
        let (ours, theirs) = if into { (write, read) } else { (read, write) };
        rustix::fs::fchown(&theirs, Some(owner), None::<Gid>).errno_step("give the pipe away")?;
        rustix::fs::fcntl_setfl(&ours, OFlags::NONBLOCK).errno_step("make the pipe non-blocking")?;
        Ok((ours, theirs))
    };
    let (input, stdin) = match record.body.open_stdin.unwrap_or(false) {
        true => pipe(true).map(|(ours, theirs)| (Some(ours), theirs))?,
        false => {
            let flags = OFlags::RDWR | OFlags::CLOEXEC;
            (
                None,
                rustix::fs::open("/dev/null", flags, rustix::fs::Mode::empty()).errno_step("open /dev/null")?,
            )
        }
    };
    let ((output, stdout), (error, stderr)) = (pipe(false)?, pipe(false)?);
    let streams = Streams {
        input,
        output: Some(output),
        error: Some(error),
        terminal: None,
    };
    Ok((streams, Stdio::Files { stdin, stdout, stderr }))
}
