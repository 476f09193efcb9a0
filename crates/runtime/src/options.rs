//! Mount options: the words of the document to the kernel's flags (mount(8), OCI runtime specification, "Mounts").

use linux_raw_sys::general::{
    MOUNT_ATTR__ATIME, MOUNT_ATTR_NOATIME, MOUNT_ATTR_NODEV, MOUNT_ATTR_NODIRATIME, MOUNT_ATTR_NOEXEC,
    MOUNT_ATTR_NOSUID, MOUNT_ATTR_NOSYMFOLLOW, MOUNT_ATTR_RDONLY, MOUNT_ATTR_STRICTATIME, MS_DIRSYNC, MS_LAZYTIME,
    MS_MANDLOCK, MS_NOATIME, MS_NODEV, MS_NODIRATIME, MS_NOEXEC, MS_NOSUID, MS_PRIVATE, MS_RDONLY, MS_REC, MS_RELATIME,
    MS_SHARED, MS_SLAVE, MS_STRICTATIME, MS_SYNCHRONOUS, MS_UNBINDABLE,
};

/// Options, sorted by who acts on them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Options {
    /// For mount(2) of a new file system.
    pub flags: u64,
    /// For mount_setattr(2) of the one mount.
    pub set: u64,
    /// The same, to clear.
    pub clear: u64,
    /// The same, to clear because it was not said: see [`Options::replace`].
    pub unsaid: u64,
    /// For all mounts of the tree.
    pub set_recursive: u64,
    /// The same, to clear.
    pub clear_recursive: u64,
    /// Some option was said that a mount can have.
    pub said: bool,
    /// The file system's own.
    pub data: String,
    /// A bind mount.
    pub bind: bool,
    /// With everything below.
    pub recursive: bool,
    /// A tmpfs that begins with what is at its place.
    pub copy_up: bool,
    /// `MS_SHARED` and the like; and whether for the whole tree.
    pub propagation: Option<(u64, bool)>,
    /// Idmapped for the container's user namespace; and whether the whole tree.
    pub idmap: Option<bool>,
}

const ATIME: u64 = (MOUNT_ATTR_NOATIME | MOUNT_ATTR_STRICTATIME) as u64;

/// word, flag of mount(2), attribute of mount_setattr(2), whether the word clears it
type Row = (&'static str, u32, u32, bool);

const TABLE: &[Row] = &[
    ("ro", MS_RDONLY, MOUNT_ATTR_RDONLY, false),
    ("rw", MS_RDONLY, MOUNT_ATTR_RDONLY, true),
    ("nosuid", MS_NOSUID, MOUNT_ATTR_NOSUID, false),
    ("suid", MS_NOSUID, MOUNT_ATTR_NOSUID, true),
    ("nodev", MS_NODEV, MOUNT_ATTR_NODEV, false),
    ("dev", MS_NODEV, MOUNT_ATTR_NODEV, true),
    ("noexec", MS_NOEXEC, MOUNT_ATTR_NOEXEC, false),
    ("exec", MS_NOEXEC, MOUNT_ATTR_NOEXEC, true),
    ("nodiratime", MS_NODIRATIME, MOUNT_ATTR_NODIRATIME, false),
    ("diratime", MS_NODIRATIME, MOUNT_ATTR_NODIRATIME, true),
    ("noatime", MS_NOATIME, MOUNT_ATTR_NOATIME, false),
    ("atime", MS_NOATIME, 0, true),
    ("relatime", MS_RELATIME, 0, false),
    ("norelatime", MS_RELATIME, 0, true),
    ("strictatime", MS_STRICTATIME, MOUNT_ATTR_STRICTATIME, false),
    ("nostrictatime", MS_STRICTATIME, 0, true),
    ("nosymfollow", 256, MOUNT_ATTR_NOSYMFOLLOW, false),
    ("symfollow", 256, MOUNT_ATTR_NOSYMFOLLOW, true),
    ("sync", MS_SYNCHRONOUS, 0, false),
    ("async", MS_SYNCHRONOUS, 0, true),
    ("dirsync", MS_DIRSYNC, 0, false),
    ("mand", MS_MANDLOCK, 0, false),
    ("nomand", MS_MANDLOCK, 0, true),
    ("lazytime", MS_LAZYTIME, 0, false),
    ("nolazytime", MS_LAZYTIME, 0, true),
    ("defaults", 0, 0, false),
];

/// `linux.rootfsPropagation`: the kernel's flags; `None` if it is no such word.
pub fn propagation(word: &str) -> Option<u64> {
    let mut options = Options::default();
    options.propagate(word);
    let recursive = |tree| if tree { u64::from(MS_REC) } else { 0 };
    options.propagation.map(|(flag, tree)| flag | recursive(tree))
}

const PROPAGATION: &[(&str, u32)] = &[
    ("private", MS_PRIVATE),
    ("shared", MS_SHARED),
    ("slave", MS_SLAVE),
    ("unbindable", MS_UNBINDABLE),
];

/// All words that are acted on here.
pub fn known() -> Vec<&'static str> {
    let mut words: Vec<&'static str> = TABLE.iter().map(|row| row.0).collect();
    words.extend(PROPAGATION.iter().map(|(word, _)| *word));
    words.extend(["bind", "rbind", "idmap", "ridmap", "rro", "tmpcopyup"]);
    words.sort_unstable();
    words
}

impl Options {
    /// Sorts the words; one that nobody here knows is the file system's.
    pub fn parse(words: &[String]) -> Self {
        let mut options = Options::default();
        for word in words {
            if !options.known(word) {
                if !options.data.is_empty() {
                    options.data.push(',');
                }
                options.data.push_str(word);
            }
        }
        // The kernel wants the whole atime field cleared before one of its values is set.
        if options.set & ATIME != 0 {
            options.clear |= u64::from(MOUNT_ATTR__ATIME);
        }
        options
    }

    /// A bind mount for which something is said has what is said, and nothing else of its source's: as with mount(2), with
    /// which other runtimes do it. Times of access stay as they are unless they are spoken of.
    pub fn replace(&mut self) {
        const ALL: u32 =
            MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC | MOUNT_ATTR_NOSYMFOLLOW;
        if !self.said {
            return;
        }
        self.unsaid = u64::from(ALL) & !(self.set | self.clear);
        if self.flags & u64::from(MS_NOATIME | MS_NODIRATIME | MS_RELATIME | MS_STRICTATIME) != 0 {
            self.unsaid |= u64::from(MOUNT_ATTR__ATIME | MOUNT_ATTR_NODIRATIME) & !self.set & !self.clear;
        }
    }

    /// What of a source's attributes (as [`sys::mount::attributes`] has them) these options would change, explicitly, though the
    /// kernel locks it for user namespaces (mount_namespaces(7), "Restrictions on mount namespaces"): its words.
    pub fn against(&self, now: u64) -> Option<String> {
        const WORDS: &[(u32, &str)] = &[
            (MOUNT_ATTR_RDONLY, "ro"),
            (MOUNT_ATTR_NOSUID, "nosuid"),
            (MOUNT_ATTR_NODEV, "nodev"),
            (MOUNT_ATTR_NOEXEC, "noexec"),
            (MOUNT_ATTR_NOATIME, "noatime"),
            (MOUNT_ATTR_NODIRATIME, "nodiratime"),
            (MOUNT_ATTR_STRICTATIME, "strictatime"),
        ];
        const TIMES: u64 = ATIME | MOUNT_ATTR_NODIRATIME as u64;
        let mut changed = now & self.clear & !TIMES;
        if self.flags & u64::from(MS_NOATIME | MS_NODIRATIME | MS_RELATIME | MS_STRICTATIME) != 0 {
            changed |= (now ^ self.set) & TIMES;
        }
        let words = WORDS.iter().filter(|(bit, _)| changed & u64::from(*bit) != 0);
        let list: Vec<String> = words
            .map(|(bit, word)| match now & u64::from(*bit) != 0 {
                true => (*word).to_owned(),
                false => format!("not {word}"),
            })
            .collect();
        (!list.is_empty()).then(|| list.join(","))
    }

    fn known(&mut self, word: &str) -> bool {
        match word {
            "bind" => self.bind = true,
            "rbind" => (self.bind, self.recursive) = (true, true),
            "idmap" => self.idmap = Some(false),
            "ridmap" => self.idmap = Some(true),
            "tmpcopyup" => self.copy_up = true,
            "" => {}
            _ => return self.flag(word) || self.propagate(word),
        }
        true
    }

    fn flag(&mut self, word: &str) -> bool {
        if let Some((_, flag, attribute, clears)) = TABLE.iter().find(|row| row.0 == word) {
            let (flag, attribute) = (u64::from(*flag), u64::from(*attribute));
            self.said |= flag != 0;
            match clears {
                false => {
                    self.flags |= flag;
                    self.set |= attribute;
                    self.clear &= !attribute;
                }
                true => {
                    self.flags &= !flag;
                    self.set &= !attribute;
                    self.clear |= attribute;
                }
            }
            return true;
        }
        let row = word.strip_prefix('r').and_then(|w| {
            TABLE
                .iter()
                .find(|row| row.0 == w && (row.2 != 0 || row.0.ends_with("atime")))
        });
        let Some((name, _, attribute, clears)) = row else {
            return false;
        };
        let attribute = u64::from(*attribute);
        // The atime field has one value, and is cleared as a whole.
        let field = match *name {
            "diratime" | "nodiratime" => attribute,
            name if name.ends_with("atime") => u64::from(MOUNT_ATTR__ATIME),
            _ => attribute,
        };
        self.clear_recursive |= field;
        self.set_recursive &= !field;
        if !clears {
            self.set_recursive |= attribute;
            self.clear_recursive &= !attribute | (field & u64::from(MOUNT_ATTR__ATIME));
        }
        true
    }

    fn propagate(&mut self, word: &str) -> bool {
        let exact = PROPAGATION
            .iter()
            .find(|(w, _)| *w == word)
            .map(|(_, flag)| (*flag, false));
        let tree = || {
            PROPAGATION
                .iter()
                .find(|(w, _)| word.strip_prefix('r') == Some(*w))
                .map(|(_, flag)| (*flag, true))
        };
        if let Some((flag, recursive)) = exact.or_else(tree) {
            self.propagation = Some((flag.into(), recursive));
            return true;
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &str) -> Options {
        Options::parse(&words.split(',').map(String::from).collect::<Vec<_>>())
    }

    #[test]
    fn words_are_sorted() {
        let options = parse("nosuid,noexec,mode=755,size=64k,ro,rw");
        assert_eq!(
            (options.flags, options.data.as_str()),
            (u64::from(MS_NOSUID | MS_NOEXEC), "mode=755,size=64k")
        );
        let bind = parse("rbind,rslave,rro,ridmap");
        assert!(bind.bind && bind.recursive && bind.data.is_empty());
        assert_eq!(
            (bind.propagation, bind.idmap),
            (Some((u64::from(MS_SLAVE), true)), Some(true))
        );
        assert_eq!(
            (bind.set_recursive, bind.clear_recursive),
            (u64::from(MOUNT_ATTR_RDONLY), 0)
        );
        let times = parse("rbind,rnoatime,rnodiratime,rsuid");
        assert_eq!(
            times.set_recursive,
            u64::from(MOUNT_ATTR_NOATIME | MOUNT_ATTR_NODIRATIME)
        );
        assert_eq!(times.clear_recursive, u64::from(MOUNT_ATTR__ATIME | MOUNT_ATTR_NOSUID));
        let relative = parse("rbind,rrelatime");
        assert_eq!(
            (relative.set_recursive, relative.clear_recursive),
            (0, u64::from(MOUNT_ATTR__ATIME))
        );
    }

    #[test]
    fn what_the_kernel_locks_is_not_changed() {
        let against = |now: u32, words: &str| parse(words).against(now.into());
        assert_eq!(against(MOUNT_ATTR_RDONLY, "bind,rw,nosuid").unwrap(), "ro");
        let all = MOUNT_ATTR_NODEV | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOATIME;
        assert_eq!(against(all, "bind,dev,suid,exec,atime").unwrap(), "nosuid,nodev");
        for words in [
            "bind",
            "bind,ro,exec",
            "bind,norelatime",
            "bind,atime",
            "bind,diratime",
            "bind,noatime",
        ] {
            assert_eq!(against(all, words), None, "{words}");
        }
        for (now, words) in [
            (MOUNT_ATTR_NODIRATIME, "strictatime"),
            (0, "strictatime"),
            (MOUNT_ATTR_NOATIME, "strictatime"),
            (MOUNT_ATTR_NODIRATIME, "noatime"),
            (0, "noatime"),
            (0, "nodiratime"),
            (MOUNT_ATTR_STRICTATIME, "relatime"),
            (MOUNT_ATTR_STRICTATIME, "noatime"),
            (MOUNT_ATTR_STRICTATIME, "nodiratime"),
            (MOUNT_ATTR_NOATIME, "relatime"),
        ] {
            assert!(against(now, &format!("bind,{words}")).is_some(), "{now:x} {words}");
        }
    }

    #[test]
    fn what_is_not_said_of_a_bind_mount_is_taken_away() {
        let replaced = |words| {
            let mut options = parse(words);
            options.replace();
            options.unsaid
        };
        assert_eq!(replaced("rbind,rprivate"), 0);
        let all = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC | MOUNT_ATTR_NOSYMFOLLOW;
        assert_eq!(replaced("bind,dev"), u64::from(all & !MOUNT_ATTR_NODEV));
        assert_eq!(
            replaced("bind,ro,nosuid"),
            u64::from(all & !MOUNT_ATTR_RDONLY & !MOUNT_ATTR_NOSUID)
        );
        assert_eq!(
            replaced("bind,noatime") & u64::from(MOUNT_ATTR_NODIRATIME),
            u64::from(MOUNT_ATTR_NODIRATIME)
        );
    }
}
