//! A memory cgroup, version 1 or 2, that exists as long as its owner.
//!
//! Refuses to touch a cgroup that it did not make.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

/// How often, and how far apart, a removal is tried: the kernel lets go of the last page a little late.
const REMOVE_TRIES_MAX: u32 = 50;
const REMOVE_PAUSE: Duration = Duration::from_millis(20);

/// Which files the kernel has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    V1,
    V2,
}

/// Where memory cgroups can be made.
#[derive(Clone, Debug)]
pub struct Hierarchy {
    root: PathBuf,
    version: Version,
}

/// A cgroup of ours.
#[derive(Debug)]
pub struct Cgroup {
    path: PathBuf,
    version: Version,
}

impl Hierarchy {
    /// The memory hierarchy of this machine, whichever version has the controller.
    ///
    /// # Errors
    /// A sentence, if there is none.
    pub fn find() -> Result<Self> {
        let mounts = fs::read_to_string("/proc/mounts").context("cannot read /proc/mounts")?;
        Self::among(&mounts, |root| fs::read_to_string(root.join("cgroup.controllers")).unwrap_or_default())
            .context("no memory cgroup, version 1 or 2, is mounted here: redis-swap cannot be capped")
    }

    fn among(mounts: &str, controllers: impl Fn(&Path) -> String) -> Option<Self> {
        mounts.lines().find_map(|line| {
            let mut fields = line.split_whitespace().skip(1);
            let (root, kind, options) = (PathBuf::from(fields.next()?), fields.next()?, fields.next()?);
            let version = match kind {
                "cgroup" if options.split(',').any(|option| option == "memory") => Version::V1,
                "cgroup2" if controllers(&root).split_whitespace().any(|name| name == "memory") => {
                    Version::V2
                }
                _ => return None,
            };
            Some(Hierarchy { root, version })
        })
    }

    /// Makes a cgroup whose members may have `limit_bytes` of memory, and swap without limit.
    ///
    /// # Errors
    /// If this user may not.
    pub fn create(&self, name: &str, limit_bytes: u64) -> Result<Cgroup> {
        if self.version == Version::V2 {
            let switch = self.root.join("cgroup.subtree_control");
            fs::write(&switch, "+memory").with_context(|| format!("cannot write {}", switch.display()))?;
        }
        let path = self.root.join(name);
        fs::create_dir(&path)
            .with_context(|| format!("cannot make the cgroup {} (are you root?)", path.display()))?;
        let cgroup = Cgroup { path, version: self.version };
        let limit = match self.version {
            Version::V1 => "memory.limit_in_bytes",
            Version::V2 => "memory.max",
        };
        cgroup.write(limit, &limit_bytes.to_string())?;
        Ok(cgroup)
    }
}

impl Cgroup {
    fn write(&self, file: &str, text: &str) -> Result<()> {
        let path = self.path.join(file);
        fs::write(&path, text).with_context(|| format!("cannot write {text} to {}", path.display()))
    }

    /// A process that writes its number here is a member.
    pub fn members(&self) -> PathBuf {
        self.path.join("cgroup.procs")
    }

    /// True if the kernel has ended a member for want of memory.
    pub fn starved(&self) -> bool {
        let file = match self.version {
            Version::V1 => "memory.oom_control",
            Version::V2 => "memory.events",
        };
        let text = fs::read_to_string(self.path.join(file)).unwrap_or_default();
        text.lines().any(|line| line.strip_prefix("oom_kill ").is_some_and(|kills| kills != "0"))
    }

    /// What its members have in memory.
    pub fn used_bytes(&self) -> Option<u64> {
        let file = match self.version {
            Version::V1 => "memory.usage_in_bytes",
            Version::V2 => "memory.current",
        };
        fs::read_to_string(self.path.join(file)).ok()?.trim().parse().ok()
    }

    /// The kernel may hold it a little longer than its last member lives.
    fn try_remove(&self) -> io::Result<()> {
        let mut last = Ok(());
        for _ in 0..REMOVE_TRIES_MAX {
            last = fs::remove_dir(&self.path);
            if last.is_ok() {
                break;
            }
            std::thread::sleep(REMOVE_PAUSE);
        }
        last
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        if let Err(error) = self.try_remove() {
            eprintln!("remora-bench: cannot remove the cgroup {}: {error}", self.path.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hierarchy_that_has_the_memory_controller_is_found() {
        let v1 = "cgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\ncgroup /sys/fs/cgroup/memory cgroup rw,relatime,memory 0 0\ncgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n";
        let found = Hierarchy::among(v1, |_| String::new()).expect("v1");
        assert_eq!((found.root.to_str(), found.version), (Some("/sys/fs/cgroup/memory"), Version::V1));
        let v2 = "cgroup2 /sys/fs/cgroup cgroup2 rw,nosuid 0 0\n";
        let found = Hierarchy::among(v2, |_| "cpuset cpu io memory pids\n".to_owned()).expect("v2");
        assert_eq!((found.root.to_str(), found.version), (Some("/sys/fs/cgroup"), Version::V2));
        assert!(Hierarchy::among(v2, |_| "cpu\n".to_owned()).is_none());
    }
}
