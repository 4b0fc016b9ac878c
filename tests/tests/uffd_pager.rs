//! The userfaultfd pager under the contract of every pager: moving pages and copying them, as root and as
//! nobody.

use farmem::{Frame, PAGE_SIZE, Pager, Prefetch};
use farmem_link::Arena;
use farmem_uffd::Way;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::process::Command;
use tests::scripted_link::ScriptedLink;

fn pager(frames: u32, policy: Prefetch, link: ScriptedLink, way: Way) -> Box<dyn Pager> {
    let arena: &mut [Frame] = Arena::reserve(frames as usize * PAGE_SIZE).expect("memory is there").frames();
    arena.iter_mut().for_each(|frame| frame.0.fill(0xAA));
    let door: Box<dyn farmem::Link> = Box::new(link);
    let pager = farmem_uffd::pager(arena, frames, 1 << 20, policy, Some(door), way);
    Box::new(pager.unwrap_or_else(|error| panic!("{error}")))
}

mod moving {
    use super::*;

    fn uffd(frames: u32, policy: Prefetch, link: ScriptedLink) -> Box<dyn Pager> {
        pager(frames, policy, link, Way::Best)
    }

    tests::pager_contract!(uffd);
}

mod copying {
    use super::*;

    fn uffd(frames: u32, policy: Prefetch, link: ScriptedLink) -> Box<dyn Pager> {
        pager(frames, policy, link, Way::Copy)
    }

    tests::pager_contract!(uffd);
}

/// Without the device and without privileges: the whole contract once more, in a process of nobody's.
#[test]
fn the_contract_holds_for_nobody_too() {
    let Some(uid) = std::fs::metadata("/proc/self").ok().map(|own| own.uid()) else {
        panic!("/proc is there")
    };
    if uid != 0 {
        return; // Then the tests above were it.
    }
    // Where nobody may look for a program there may be none: a copy is for everybody.
    let dir = tempfile::tempdir().expect("a directory can be made");
    let copy = dir.path().join("contract");
    std::fs::copy(std::env::current_exe().expect("it has a name"), &copy).expect("it can be copied");
    for path in [dir.path(), &copy] {
        std::fs::set_permissions(path, PermissionsExt::from_mode(0o755)).expect("it is ours");
    }
    let mut command = Command::new(&copy);
    command.args(["--skip", "nobody"]).current_dir("/").uid(65_534).gid(65_534);
    let output = command.output().expect("nobody may run it");
    let said = String::from_utf8_lossy(&output.stdout);
    let all = format!(" {} passed", 2 * tests::SENTENCES.len());
    assert!(output.status.success() && said.contains(&all), "{said}");
}
