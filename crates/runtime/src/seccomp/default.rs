//! Docker's default profile (moby `profiles/seccomp/default_linux.go`) as tables, with one difference: a call that the
//! profile does not know gets ENOSYS, so that programs newer than Berth fall back to older calls; a call that is known
//! and not allowed gets EPERM.

use oci_spec::runtime::{
    Arch, Capability, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompArgBuilder, LinuxSeccompOperator,
    LinuxSyscall,
};

use super::{ENOSYS, EPERM};

/// What every container may.
const ALLOWED: &str = "
    accept accept4 access adjtimex alarm bind brk cachestat capget capset chdir chmod chown chown32 clock_adjtime
    clock_adjtime64 clock_getres clock_getres_time64 clock_gettime clock_gettime64 clock_nanosleep clock_nanosleep_time64
    close close_range connect copy_file_range creat dup dup2 dup3 epoll_create epoll_create1 epoll_ctl epoll_ctl_old
    epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old eventfd eventfd2 execve execveat exit exit_group faccessat
    faccessat2 fadvise64 fadvise64_64 fallocate fanotify_mark fchdir fchmod fchmodat fchmodat2 fchown fchown32 fchownat
    fcntl fcntl64 fdatasync fgetxattr flistxattr flock fork fremovexattr fsetxattr fstat fstat64 fstatat64 fstatfs
    fstatfs64 fsync ftruncate ftruncate64 futex futex_requeue futex_time64 futex_wait futex_waitv futex_wake futimesat
    getcpu getcwd getdents getdents64 getegid getegid32 geteuid geteuid32 getgid getgid32 getgroups getgroups32 getitimer
    getpeername getpgid getpgrp getpid getppid getpriority getrandom getresgid getresgid32 getresuid getresuid32 getrlimit
    get_robust_list getrusage getsid getsockname getsockopt get_thread_area gettid gettimeofday getuid getuid32 getxattr
    getxattrat inotify_add_watch inotify_init inotify_init1 inotify_rm_watch io_cancel ioctl io_destroy io_getevents
    io_pgetevents io_pgetevents_time64 ioprio_get ioprio_set io_setup io_submit ipc kill landlock_add_rule
    landlock_create_ruleset landlock_restrict_self lchown lchown32 lgetxattr link linkat listen listmount listxattr
    listxattrat llistxattr _llseek lremovexattr lseek lsetxattr lstat lstat64 madvise map_shadow_stack membarrier
    memfd_create memfd_secret mincore mkdir mkdirat mknod mknodat mlock mlock2 mlockall mmap mmap2 mprotect mq_getsetattr
    mq_notify mq_open mq_timedreceive mq_timedreceive_time64 mq_timedsend mq_timedsend_time64 mq_unlink mremap mseal msgctl
    msgget msgrcv msgsnd msync munlock munlockall munmap name_to_handle_at nanosleep newfstatat _newselect open openat
    openat2 pause pidfd_open pidfd_send_signal pipe pipe2 pkey_alloc pkey_free pkey_mprotect poll ppoll ppoll_time64 prctl
    pread64 preadv preadv2 prlimit64 process_mrelease process_vm_readv process_vm_writev pselect6 pselect6_time64 ptrace
    pwrite64 pwritev pwritev2 read readahead readlink readlinkat readv recv recvfrom recvmmsg recvmmsg_time64 recvmsg
    remap_file_pages removexattr removexattrat rename renameat renameat2 restart_syscall rmdir rseq rt_sigaction
    rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64
    rt_tgsigqueueinfo sched_getaffinity sched_getattr sched_getparam sched_get_priority_max sched_get_priority_min
    sched_getscheduler sched_rr_get_interval sched_rr_get_interval_time64 sched_setaffinity sched_setattr sched_setparam
    sched_setscheduler sched_yield seccomp select semctl semget semop semtimedop semtimedop_time64 send sendfile
    sendfile64 sendmmsg sendmsg sendto setfsgid setfsgid32 setfsuid setfsuid32 setgid setgid32 setgroups setgroups32
    setitimer setpgid setpriority setregid setregid32 setresgid setresgid32 setresuid setresuid32 setreuid setreuid32
    setrlimit set_robust_list setsid setsockopt set_thread_area set_tid_address setuid setuid32 setxattr setxattrat shmat
    shmctl shmdt shmget shutdown sigaltstack signalfd signalfd4 sigprocmask sigreturn socketcall socketpair splice stat
    stat64 statfs statfs64 statmount statx symlink symlinkat sync sync_file_range syncfs sysinfo tee tgkill time
    timer_create timer_delete timer_getoverrun timer_gettime timer_gettime64 timer_settime timer_settime64 timerfd_create
    timerfd_gettime timerfd_gettime64 timerfd_settime timerfd_settime64 times tkill truncate truncate64 ugetrlimit umask
    uname unlink unlinkat uretprobe utime utimensat utimensat_time64 utimes vfork vmsplice wait4 waitid waitpid write
    writev";

/// What only programs of this processor have.
#[cfg(target_arch = "x86_64")]
const OF_THE_PROCESSOR: &str = "arch_prctl modify_ldt";
#[cfg(target_arch = "aarch64")]
const OF_THE_PROCESSOR: &str = "arm_fadvise64_64 arm_sync_file_range sync_file_range2 breakpoint cacheflush set_tls";

/// What a capability opens.
const BY_CAPABILITY: &[(Capability, &str)] = &[
    (Capability::DacReadSearch, "open_by_handle_at"),
    (
        Capability::SysAdmin,
        "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie mount mount_setattr move_mount
         open_tree perf_event_open quotactl quotactl_fd setdomainname sethostname setns syslog umount umount2 unshare",
    ),
    (Capability::SysBoot, "reboot"),
    (Capability::SysChroot, "chroot"),
    (Capability::SysModule, "delete_module init_module finit_module"),
    (Capability::SysPacct, "acct"),
    (Capability::SysPtrace, "kcmp pidfd_getfd process_madvise"),
    (Capability::SysRawio, "iopl ioperm"),
    (Capability::SysTime, "settimeofday stime clock_settime clock_settime64"),
    (Capability::SysTtyConfig, "vhangup"),
    (
        Capability::SysNice,
        "get_mempolicy mbind set_mempolicy set_mempolicy_home_node",
    ),
    (Capability::Syslog, "syslog"),
    (Capability::Bpf, "bpf"),
    (Capability::Perfmon, "perf_event_open"),
];

/// What is known and in no list above: it is refused as forbidden.
const FORBIDDEN: &str = "
    add_key afs_syscall create_module get_kernel_syms getpmsg io_uring_enter io_uring_register io_uring_setup kexec_file_load
    kexec_load keyctl migrate_pages move_pages nfsservctl pivot_root putpmsg query_module request_key security swapoff
    swapon sysfs _sysctl tuxcall uselib userfaultfd ustat vserver lsm_get_self_attr lsm_set_self_attr lsm_list_modules
    bdflush break ftty gtty idle lock mpx nice oldfstat oldlstat oldolduname
    oldstat olduname prof profil readdir sgetmask sigaction signal sigpending sigsuspend ssetmask stty ulimit vm86 vm86old";

/// Execution domains that change nothing dangerous: Linux, 32-bit, uname 2.6, both, and "tell me".
const PERSONALITIES: &[u64] = &[0, 0x0008, 0x2_0000, 0x2_0008, 0xffff_ffff];
/// New namespaces of any kind in the flags of clone(2).
const NAMESPACES: u64 = 0x7e02_0000;
const AF_VSOCK: u64 = 40;

/// The profile for a container with these capabilities.
pub fn default_profile(caps: &[Capability]) -> LinuxSeccomp {
    use LinuxSeccompAction::{ScmpActAllow as Allow, ScmpActErrno as Errno};
    use LinuxSeccompOperator::{ScmpCmpEq as Equal, ScmpCmpMaskedEq as Masked, ScmpCmpNe as Differs};
    let has = |cap: &Capability| caps.contains(cap);
    let mut rules = vec![
        rule(ALLOWED, Allow, None, None),
        rule(OF_THE_PROCESSOR, Allow, None, None),
    ];
    rules.push(rule("socket", Allow, None, argument(Differs, AF_VSOCK, None)));
    for value in PERSONALITIES {
        rules.push(rule("personality", Allow, None, argument(Equal, *value, None)));
    }
    rules.extend(
        BY_CAPABILITY
            .iter()
            .filter(|(cap, _)| has(cap))
            .map(|(_, names)| rule(names, Allow, None, None)),
    );
    if !has(&Capability::SysAdmin) {
        rules.push(rule("clone", Allow, None, argument(Masked, NAMESPACES, Some(0))));
        // Its flags are behind a pointer, which no filter can follow: programs fall back to clone.
        rules.push(rule("clone3", Errno, Some(ENOSYS), None));
    }
    // A rule that comes first wins: these are what is left.
    rules.push(rule("socket personality clone", Errno, Some(EPERM), None));
    rules.extend(
        BY_CAPABILITY
            .iter()
            .filter(|(cap, _)| !has(cap))
            .map(|(_, names)| rule(names, Errno, Some(EPERM), None)),
    );
    rules.push(rule(FORBIDDEN, Errno, Some(EPERM), None));
    let mut profile = LinuxSeccomp::default();
    profile.set_default_action(Errno);
    profile.set_default_errno_ret(Some(ENOSYS));
    profile.set_architectures(Some(architectures()));
    profile.set_syscalls(Some(rules));
    profile
}

/// statx on x86-64 and arm64: the first of the calls that programs try, and have a way without.
const RECENT: u32 = if cfg!(target_arch = "x86_64") { 332 } else { 291 };

/// Calls of ordinary programs that are younger than many profiles: those from Linux 4.11 on. Not those that a profile may
/// well leave out because it forbids them.
pub fn recent_calls() -> Vec<&'static str> {
    let numbers = super::Table::NATIVE.numbers();
    let recent = |name: &&str| name.ends_with("time64") || numbers.get(name).is_some_and(|n| *n >= RECENT);
    ALLOWED.split_whitespace().chain(["clone3"]).filter(recent).collect()
}

/// The capability that opens a call.
pub fn capability_of(call: &str) -> Option<String> {
    let has = |(_, names): &&(Capability, &str)| names.split_whitespace().any(|name| name == call);
    let (capability, _) = BY_CAPABILITY.iter().find(has)?;
    Some(format!("CAP_{}", capability.to_string().trim_start_matches("CAP_")))
}

fn architectures() -> Vec<Arch> {
    match cfg!(target_arch = "x86_64") {
        true => vec![Arch::ScmpArchX86_64, Arch::ScmpArchX86],
        false => vec![Arch::ScmpArchAarch64, Arch::ScmpArchArm],
    }
}

fn argument(op: LinuxSeccompOperator, value: u64, two: Option<u64>) -> Option<LinuxSeccompArg> {
    let mut builder = LinuxSeccompArgBuilder::default().index(0usize).value(value).op(op);
    if let Some(two) = two {
        builder = builder.value_two(two);
    }
    builder.build().ok()
}

fn rule(
    names: &str,
    action: LinuxSeccompAction,
    errno: Option<u32>,
    argument: Option<LinuxSeccompArg>,
) -> LinuxSyscall {
    let mut rule = LinuxSyscall::default();
    rule.set_names(names.split_whitespace().map(String::from).collect());
    rule.set_action(action);
    rule.set_errno_ret(errno);
    rule.set_args(argument.map(|a| vec![a]));
    rule
}
