//! What other engines' default seccomp profiles answer to calls that came after them.
//!
//! Docker's profile, with the libseccomp and runc of its day, answered EPERM to a call that it did not know; C libraries take
//! only ENOSYS for "this kernel does not have it" and fall back. From runc 1.0.0-rc93 on calls with numbers above all of the
//! profile's get ENOSYS, and from Docker 20.10.10 on `clone3` does. Berth answers ENOSYS to all that its profile does not know.

/// An engine's profile.
#[derive(Clone, Copy, Debug)]
pub struct Profile {
    /// As the user calls it.
    pub name: &'static str,
    /// In words.
    pub about: &'static str,
    /// Calls that get EPERM from it though a C library expects ENOSYS.
    pub eperm: &'static [&'static str],
    /// Whether the calls with 64 bit time are among them.
    pub time64: bool,
}

/// All that are known.
pub const PROFILES: &[Profile] = &[
    Profile {
        name: "berth",
        about: "Berth's own",
        eperm: &[],
        time64: false,
    },
    Profile {
        name: "none",
        about: "no profile",
        eperm: &[],
        time64: false,
    },
    Profile {
        name: "docker-17.09",
        about: "Docker 17.09",
        eperm: &[
            "statx",
            "clone3",
            "faccessat2",
            "openat2",
            "close_range",
            "pidfd_open",
            "epoll_pwait2",
            "rseq",
        ],
        time64: true,
    },
    Profile {
        name: "docker-18.09",
        about: "Docker 18.09, libseccomp 2.3",
        eperm: &[
            "statx",
            "clone3",
            "faccessat2",
            "openat2",
            "close_range",
            "pidfd_open",
            "epoll_pwait2",
            "rseq",
        ],
        time64: true,
    },
    Profile {
        name: "docker-19.03",
        about: "Docker 19.03, libseccomp 2.4",
        eperm: &[
            "clone3",
            "faccessat2",
            "openat2",
            "close_range",
            "pidfd_open",
            "epoll_pwait2",
            "rseq",
        ],
        time64: true,
    },
    Profile {
        name: "docker-20.10",
        about: "Docker 20.10.0 to 20.10.9",
        eperm: &["clone3"],
        time64: false,
    },
    Profile {
        name: "docker-23.0",
        about: "Docker 20.10.10 and newer",
        eperm: &[],
        time64: false,
    },
];

/// By name.
pub fn profile(name: &str) -> Option<&'static Profile> {
    PROFILES.iter().find(|p| p.name == name)
}

/// What the user can say.
pub fn names() -> Vec<&'static str> {
    PROFILES.iter().map(|p| p.name).collect()
}
