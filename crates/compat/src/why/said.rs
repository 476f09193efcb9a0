//! What programs and C libraries print when a kernel, a processor or an image does not suit them: a table.

use super::Cause;

/// words that are printed, what they mean, what helps, whether they mean nothing else
type Row = (&'static str, &'static str, &'static str, bool);

const TABLE: &[Row] = &[
    (
        "FATAL: kernel too old",
        "the program's C library refuses this kernel's release",
        "berth run --kernel-release 4.18 shows it another",
        true,
    ),
    (
        "CPU ISA level is lower than required",
        "the program is built for a newer processor than this one",
        "an image for x86-64-v1, or qemu-user (apt-get install qemu-user-static)",
        true,
    ),
    (
        "Fatal glibc error: CPU does not support x86-64-v",
        "the image's C library is built for a newer processor than this one",
        "an image for x86-64-v1, or qemu-user (apt-get install qemu-user-static)",
        true,
    ),
    (
        "Unsupported system page size",
        "the program's memory allocator is built for smaller pages than this kernel has",
        "a kernel with pages of 4 KiB",
        true,
    ),
    (
        "pthread_create: Operation not permitted",
        "clone3 was answered with EPERM, where its C library expects ENOSYS",
        "the seccomp profile is too old for this image: berth's own has no such fault",
        true,
    ),
    (
        "Failed to mount cgroup",
        "this systemd expects version 1 of cgroups, and this host has version 2 alone",
        "berth gives a systemd before 226 what it expects unless --compat=off is given; or an image with a newer one",
        true,
    ),
    (
        "error while loading shared libraries",
        "the dynamic loader could not load a library that the program needs",
        "install the package that has it in the image",
        true,
    ),
    (
        "version `GLIBC_",
        "the program was built against a newer C library than the image has",
        "an image of a newer distribution",
        true,
    ),
    (
        "can't initialize iptables table",
        "the host's kernel has not loaded the modules of iptables-legacy",
        "modprobe iptable_filter iptable_nat on the host",
        true,
    ),
    (
        "RULE_APPEND failed",
        "the host's kernel has not loaded a module that this rule needs",
        "modprobe nft_compat nf_tables on the host",
        true,
    ),
    (
        "cannot execute binary file",
        "a program is for another architecture",
        "an image for this one",
        true,
    ),
    (
        "Exec format error",
        "a program is for another architecture, or has no first line such as #!/bin/sh",
        "an image for this one",
        true,
    ),
    (
        "Function not implemented",
        "a system call was answered with ENOSYS: this kernel does not know it, or the seccomp profile does not",
        "--security-opt seccomp=unconfined tells which of the two it is",
        false,
    ),
    (
        "Read-only file system",
        "it wrote below a path that is mounted read-only",
        "without --read-only, or with a volume or --tmpfs there",
        false,
    ),
    (
        "No space left on device",
        "a file system is full",
        "df inside tells which one; /dev/shm has 64 MiB unless --shm-size says more",
        false,
    ),
    (
        "Operation not permitted",
        "a system call was answered with EPERM: it takes a capability that the container does not have, or the seccomp \
         profile forbids it",
        "--cap-add gives a capability; --security-opt seccomp=unconfined tells which of the two it is",
        false,
    ),
    (
        "Permission denied",
        "a file's mode or owner does not let this user do it",
        "--user, or another owner of the file",
        false,
    ),
];

/// What its last words mean, the most telling ones first.
pub fn cause(words: &str) -> Option<Cause> {
    let (row, line) = TABLE.iter().find_map(|row| {
        let line = words.lines().rev().find(|line| line.contains(row.0))?;
        Some((row, line.trim()))
    })?;
    let shown: String = line.chars().filter(|c| !c.is_control()).take(200).collect();
    Some(Cause {
        sentence: format!("{}: it said {shown:?}", row.1),
        hint: Some(row.2.into()),
        certain: row.3,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_telling_words_count() {
        let words = "sh: can't create /x: Permission denied\nFATAL: kernel too old\nbye\n";
        let cause = cause(words).unwrap();
        assert!(cause.sentence.starts_with("the program's C library refuses") && cause.certain);
        assert!(super::cause("all is well").is_none());
    }
}
