//! The soft pager under the contract of every pager.

use farmem::{Frame, PAGE_SIZE, Pager, Prefetch, SoftPager};
use tests::scripted_link::ScriptedLink;

fn soft(frames: u32, policy: Prefetch, link: ScriptedLink) -> Box<dyn Pager> {
    let arena: Vec<Frame> = (0..frames).map(|_| Frame([0xAA; PAGE_SIZE])).collect();
    Box::new(SoftPager::new(arena.leak(), frames, 1 << 20, policy, Some(Box::new(link))))
}

tests::pager_contract!(soft);
