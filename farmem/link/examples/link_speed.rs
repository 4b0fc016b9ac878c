//! How fast a link fetches: `link_speed URI PAGES DEPTH SECONDS`, for `redis-bench/link-speed`.
//!
//! Keeps DEPTH runs of PAGES neighbouring pages in flight, each at a random place of the far memory, and
//! prints runs a second and CPU time a page of this process in microseconds. Refuses to look at the pages.

use farmem::{FrameNo, Link, PAGE_SIZE, PageNo, Transfer, TransferKind};
use farmem_link::{Arena, FarUri, LinkSet, monotonic_now};
use std::error::Error;
use std::time::{Duration, Instant};

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [uri, pages, depth, seconds] = words.as_slice() else {
        return Err("usage: link_speed URI PAGES DEPTH SECONDS".into());
    };
    let (pages, depth): (u32, u32) = (pages.parse()?, depth.parse()?);
    let mut link = LinkSet::open(&[uri.parse::<FarUri>()?], 1)?;
    let frames = Arena::reserve((pages * depth) as usize * PAGE_SIZE)?.frames();
    let (length, begun, cpu) = (Duration::from_secs(seconds.parse()?), Instant::now(), cpu_us());
    let (mut random, mut landed_pages) = (1_u64, 0_u64);
    // Each run has its own frames; those of a run that has landed wholly take the next.
    let mut left = vec![pages; depth as usize];
    let mut idle: Vec<u32> = (0..depth).collect();
    let (mut batch, mut landed) = (Vec::new(), Vec::new());
    while begun.elapsed() < length {
        for run in idle.drain(..) {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let first = (random >> 33) as u32 % (link.capacity_pages() / pages) * pages;
            left[run as usize] = pages;
            batch.extend((0..pages).map(|number| Transfer {
                kind: TransferKind::FetchNeeded,
                page: PageNo(first + number),
                count: 1,
                frame: FrameNo(run * pages + number),
            }));
        }
        link.submit(&batch, frames, monotonic_now());
        batch.clear();
        link.wait_landed(frames, &mut landed);
        for end in landed.drain(..) {
            end.result.map_err(|error| format!("{:?}: {error:?}", end.transfer))?;
            let run = end.transfer.frame.0 / pages;
            left[run as usize] -= 1;
            landed_pages += 1;
            if left[run as usize] == 0 {
                idle.push(run);
            }
        }
    }
    let runs_per_s = landed_pages as f64 / f64::from(pages) / begun.elapsed().as_secs_f64();
    println!("{runs_per_s:.0} {:.3}", (cpu_us() - cpu) / landed_pages as f64);
    Ok(())
}

/// CPU time of this process so far. Units: microseconds.
fn cpu_us() -> f64 {
    let spent = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    spent.tv_sec as f64 * 1e6 + spent.tv_nsec as f64 / 1e3
}
