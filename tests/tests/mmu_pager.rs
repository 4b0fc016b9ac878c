//! The pager over a mapping with an MMU, under the contract of every pager. The MMU is a fake that uses stale
//! translations wherever it may.

use farmem::{Frame, PAGE_SIZE, Pager, Prefetch};
use tests::fake_mmu;
use tests::scripted_link::ScriptedLink;

fn mmu(frames: u32, policy: Prefetch, link: ScriptedLink) -> Box<dyn Pager> {
    let arena: Vec<Frame> = (0..frames).map(|_| Frame([0xAA; PAGE_SIZE])).collect();
    Box::new(fake_mmu::pager(arena.leak(), frames, 1 << 20, policy, Some(Box::new(link))))
}

tests::pager_contract!(mmu);
