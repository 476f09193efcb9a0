//! Overlays on kernels before 6.8, which want all layers in one option. fsconfig(2) takes 256 bytes of it, mount(2) a page:
//! so it is mount(2), and the layers get names of a digit or two.

use std::ffi::CString;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use errdefs::{ErrnoStep, Error, Result, Step};
use linux_raw_sys::general::MS_NODEV;
use rustix::mount::OpenTreeFlags;

use crate::Writable;

/// Where the names are, in a mount namespace that nobody else sees and that needs nothing of what is there.
const PLACE: &str = "/dev";
/// The kernel's page of options.
const OPTIONS: usize = 4095;

/// One detached overlay of directories (the uppermost first; relative ones from the working directory).
/// Architecture invariant: the caller's thread has a mount namespace of its own, and ends with it.
pub fn overlay(lower: &[String], own: Option<&Writable>) -> Result<OwnedFd> {
    let step = "mount the layers (overlay)";
    let here = std::env::current_dir().step(step)?;
    sys::mount::mount(c"names", c"/dev", c"tmpfs", 0, c"mode=700").errno_step(step)?;
    rustix::process::chdir(PLACE).errno_step(step)?;
    let name = |name: &str, target: PathBuf| symlink(target, name).step(step);
    let mut options = String::from("lowerdir=");
    for (number, dir) in lower.iter().enumerate() {
        let short = format!("{number:x}");
        name(&short, here.join(dir))?;
        options.push_str(if number > 0 { ":" } else { "" });
        options.push_str(&short);
    }
    let mut flags = 0;
    let hosts = sys::process::has_hosts_users();
    if !hosts {
        options.push_str(",userxattr");
    }
    match own {
        None => options.push_str(",index=off"),
        Some(own) => {
            name("upper", own.dir.join("upper"))?;
            name("work", own.dir.join("work"))?;
            options.push_str(",upperdir=upper,workdir=work");
            options.push_str(match (own.metadata, hosts) {
                (true, _) => ",metacopy=on",
                (false, true) => ",redirect_dir=off,metacopy=off",
                (false, false) => "",
            });
            // A mount for a container with ids of its own is given no devices; before Linux 5.12 that can be said now alone.
            if !sys::mount::knows_attributes() {
                flags = MS_NODEV.into();
            }
        }
    }
    std::fs::create_dir("root").step(step)?;
    let volatile = own.is_some_and(|own| !own.lasting);
    let attempt = |options: &str| {
        if options.len() > OPTIONS {
            return Err(Error::invalid(format!(
                "{step}: {} layers are too many for this kernel",
                lower.len()
            )));
        }
        let options = CString::new(Path::new(options).as_os_str().as_bytes()).step(step)?;
        sys::mount::mount(c"overlay", c"root", c"overlay", flags, &options).errno_step(step)
    };
    match volatile {
        // Before Linux 5.10 there is no such word.
        true => attempt(&format!("{options},volatile")).or_else(|_| attempt(&options))?,
        false => attempt(&options)?,
    }
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    rustix::mount::open_tree(rustix::fs::CWD, "root", flags).errno_step(step)
}
