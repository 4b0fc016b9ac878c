//! Swap for the baseline: a zram device, a file or a given device, in use as long as its owner.
//!
//! Refuses to touch swap that was there before: what it turned on is all it turns off.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, bail};

/// Above all other swap, so that a sweep's pages go here.
const PRIORITY: &str = "32000";
/// The device node of a new zram appears this late at most.
const NODE_TRIES_MAX: u32 = 100;
const NODE_PAUSE: Duration = Duration::from_millis(10);

/// What stands behind the swap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SwapKind {
    /// Compressed memory; the algorithm, if not the kernel's own choice.
    Zram(Option<String>),
    /// A file, made for the purpose and removed after.
    File(PathBuf),
    /// A block device, whose contents are lost.
    Device(PathBuf),
}

impl SwapKind {
    /// Reads `zram`, `zram:lz4`, `file:PATH`, `device:PATH`.
    ///
    /// # Errors
    /// A sentence.
    pub fn parse(text: &str) -> Result<Self> {
        Ok(match text.split_once(':') {
            None if text == "zram" => SwapKind::Zram(None),
            Some(("zram", algorithm)) if !algorithm.is_empty() => SwapKind::Zram(Some(algorithm.to_owned())),
            Some(("file", path)) if path.starts_with('/') => SwapKind::File(path.into()),
            Some(("device", path)) if path.starts_with("/dev/") => SwapKind::Device(path.into()),
            _ => bail!("swap = \"{text}\": write zram, zram:lz4, file:/PATH or device:/dev/NAME"),
        })
    }
}

/// Swap that is on.
#[derive(Debug)]
pub struct Swap {
    path: PathBuf,
    /// Number of the zram device that was added.
    zram: Option<String>,
    /// True if the path is a file of ours.
    file: bool,
    on: bool,
}

impl Swap {
    /// Makes `kind` ready for `bytes` of pages and turns it on.
    ///
    /// # Errors
    /// A sentence that says which step failed; what the steps before it made is gone again.
    pub fn on(kind: &SwapKind, bytes: u64) -> Result<Self> {
        let mut swap = match kind {
            SwapKind::Zram(algorithm) => Self::zram(algorithm.as_deref(), bytes)?,
            SwapKind::File(path) => Self::file(path, bytes)?,
            SwapKind::Device(path) => Swap { path: path.clone(), zram: None, file: false, on: false },
        };
        tool("mkswap", &[swap.path.as_os_str()])?;
        tool("swapon", &["--priority".as_ref(), PRIORITY.as_ref(), swap.path.as_os_str()])?;
        swap.on = true;
        Ok(swap)
    }

    fn zram(algorithm: Option<&str>, bytes: u64) -> Result<Self> {
        let number = fs::read_to_string("/sys/class/zram-control/hot_add")
            .context("no zram device can be added (is the zram module there, and are you root?)")?;
        let number = number.trim().to_owned();
        let path = PathBuf::from(format!("/dev/zram{number}"));
        let swap = Swap { path, zram: Some(number.clone()), file: false, on: false };
        if let Some(algorithm) = algorithm {
            write(&zram_file(&number, "comp_algorithm"), algorithm)?;
        }
        write(&zram_file(&number, "disksize"), &bytes.to_string())?;
        for _ in 0..NODE_TRIES_MAX {
            if swap.path.exists() {
                return Ok(swap);
            }
            sleep(NODE_PAUSE);
        }
        bail!("{} does not appear", swap.path.display())
    }

    fn file(path: &Path, bytes: u64) -> Result<Self> {
        let wrong = || format!("cannot make the swap file {}", path.display());
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).with_context(wrong)?;
        let swap = Swap { path: path.to_owned(), zram: None, file: true, on: false };
        // Written, not truncated to size: the kernel takes no swap file with holes.
        let block = vec![0; 1 << 20];
        for _ in 0..bytes.div_ceil(1 << 20) {
            file.write_all(&block).with_context(wrong)?;
        }
        file.sync_all().with_context(wrong)?;
        Ok(swap)
    }

    /// Turns it off and removes what was made for it.
    fn off(&mut self) -> Result<()> {
        if std::mem::take(&mut self.on) {
            tool("swapoff", &[self.path.as_os_str()])?;
        }
        if let Some(number) = self.zram.take() {
            write(&zram_file(&number, "reset"), "1")?;
            write(Path::new("/sys/class/zram-control/hot_remove"), &number)?;
        }
        if std::mem::take(&mut self.file) {
            fs::remove_file(&self.path).with_context(|| format!("cannot remove {}", self.path.display()))?;
        }
        Ok(())
    }
}

impl Drop for Swap {
    fn drop(&mut self) {
        if let Err(error) = self.off() {
            eprintln!("remora-bench: {error:#}");
        }
    }
}

fn zram_file(number: &str, name: &str) -> PathBuf {
    PathBuf::from(format!("/sys/block/zram{number}/{name}"))
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write {text} to {}", path.display()))
}

/// Runs a program of util-linux, which may stand where only root looks.
fn tool(name: &str, arguments: &[&std::ffi::OsStr]) -> Result<()> {
    let path = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"]
        .iter()
        .map(|dir| Path::new(dir).join(name))
        .find(|path| path.exists());
    let path = path.with_context(|| format!("{name} is not installed (package util-linux or mount)"))?;
    let output =
        Command::new(path).args(arguments).output().with_context(|| format!("cannot start {name}"))?;
    if !output.status.success() {
        bail!("{name} failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_of_swap_are_read() {
        assert!(matches!(SwapKind::parse("zram"), Ok(SwapKind::Zram(None))));
        assert!(matches!(SwapKind::parse("zram:lz4"), Ok(SwapKind::Zram(Some(_)))));
        assert!(matches!(SwapKind::parse("file:/var/tmp/swap"), Ok(SwapKind::File(_))));
        for text in ["", "zram:", "file:relative", "device:/etc/passwd", "disk"] {
            assert!(SwapKind::parse(text).is_err(), "{text}");
        }
    }
}
