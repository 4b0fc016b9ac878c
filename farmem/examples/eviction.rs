//! Compares eviction policies on traces: miss ratio, and what an access costs.
//!
//! `cargo run --release -p farmem --example eviction` prints the table of farmem/EVICTION.md. The traces are
//! drawn from a fixed seed. Compares policies only: no frame is moved and no pager runs.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Instant;

const PAGES: usize = 16_384;
const ACCESSES: usize = 1_000_000;
const NOWHERE: u32 = u32::MAX;

/// What a policy does with one access. Returns whether it was a hit.
trait Policy {
    fn access(&mut self, page: u32) -> bool;
}

struct Slot {
    page: u32,
    is_referenced: bool,
}

/// CLOCK over the frames; `on_insert` is the reference bit of a page that has just come.
struct Clock {
    slots: Vec<Slot>,
    frame_of: Vec<u32>,
    hand: usize,
    frames: usize,
    on_insert: bool,
}

impl Clock {
    fn new(frames: usize, on_insert: bool) -> Clock {
        Clock { slots: Vec::new(), frame_of: vec![NOWHERE; PAGES], hand: 0, frames, on_insert }
    }
}

impl Policy for Clock {
    fn access(&mut self, page: u32) -> bool {
        let frame = self.frame_of[page as usize];
        if frame != NOWHERE {
            self.slots[frame as usize].is_referenced = true;
            return true;
        }
        let slot = Slot { page, is_referenced: self.on_insert };
        if self.slots.len() < self.frames {
            self.frame_of[page as usize] = self.slots.len() as u32;
            self.slots.push(slot);
            return false;
        }
        loop {
            self.hand = (self.hand + 1) % self.frames;
            let victim = &mut self.slots[self.hand];
            if !victim.is_referenced {
                self.frame_of[victim.page as usize] = NOWHERE;
                *victim = slot;
                self.frame_of[page as usize] = self.hand as u32;
                return false;
            }
            victim.is_referenced = false;
        }
    }
}

/// SIEVE: new pages at the head, a hand that moves from tail to head and keeps survivors in place.
struct Sieve {
    slots: Vec<Slot>,
    towards_head: Vec<u32>,
    towards_tail: Vec<u32>,
    frame_of: Vec<u32>,
    head: u32,
    tail: u32,
    hand: u32,
    frames: usize,
}

impl Sieve {
    fn new(frames: usize) -> Sieve {
        Sieve {
            slots: Vec::new(),
            towards_head: Vec::new(),
            towards_tail: Vec::new(),
            frame_of: vec![NOWHERE; PAGES],
            head: NOWHERE,
            tail: NOWHERE,
            hand: NOWHERE,
            frames,
        }
    }

    fn evict(&mut self) -> u32 {
        let mut frame = if self.hand == NOWHERE { self.tail } else { self.hand };
        while self.slots[frame as usize].is_referenced {
            self.slots[frame as usize].is_referenced = false;
            frame = self.towards_head[frame as usize];
            if frame == NOWHERE {
                frame = self.tail;
            }
        }
        let (head_side, tail_side) = (self.towards_head[frame as usize], self.towards_tail[frame as usize]);
        self.hand = head_side;
        if head_side == NOWHERE {
            self.head = tail_side
        } else {
            self.towards_tail[head_side as usize] = tail_side
        }
        if tail_side == NOWHERE {
            self.tail = head_side
        } else {
            self.towards_head[tail_side as usize] = head_side
        }
        self.frame_of[self.slots[frame as usize].page as usize] = NOWHERE;
        frame
    }
}

impl Policy for Sieve {
    fn access(&mut self, page: u32) -> bool {
        let frame = self.frame_of[page as usize];
        if frame != NOWHERE {
            self.slots[frame as usize].is_referenced = true;
            return true;
        }
        let frame = if self.slots.len() < self.frames {
            self.slots.push(Slot { page, is_referenced: false });
            self.towards_head.push(NOWHERE);
            self.towards_tail.push(NOWHERE);
            (self.slots.len() - 1) as u32
        } else {
            self.evict()
        };
        self.slots[frame as usize] = Slot { page, is_referenced: false };
        self.frame_of[page as usize] = frame;
        self.towards_head[frame as usize] = NOWHERE;
        self.towards_tail[frame as usize] = self.head;
        if self.head == NOWHERE {
            self.tail = frame
        } else {
            self.towards_head[self.head as usize] = frame
        }
        self.head = frame;
        false
    }
}

/// S3-FIFO: a small queue of a tenth, a main queue with reinsertion, a ghost queue of page numbers.
struct S3Fifo {
    small: VecDeque<u32>,
    main: VecDeque<u32>,
    ghost: VecDeque<u32>,
    ghosts: HashSet<u32>,
    /// Touches since it came, at most 3; `None` if it is not here.
    touches: Vec<Option<u8>>,
    frames: usize,
}

impl S3Fifo {
    fn new(frames: usize) -> S3Fifo {
        S3Fifo {
            small: VecDeque::new(),
            main: VecDeque::new(),
            ghost: VecDeque::new(),
            ghosts: HashSet::new(),
            touches: vec![None; PAGES],
            frames,
        }
    }

    fn evict(&mut self) {
        if self.small.len() >= self.frames / 10 {
            while let Some(page) = self.small.pop_front() {
                if self.touches[page as usize] > Some(1) {
                    self.touches[page as usize] = Some(0);
                    self.main.push_back(page);
                    continue;
                }
                self.touches[page as usize] = None;
                self.ghost.push_back(page);
                self.ghosts.insert(page);
                if self.ghost.len() > self.frames
                    && let Some(oldest) = self.ghost.pop_front()
                {
                    self.ghosts.remove(&oldest);
                }
                return;
            }
        }
        while let Some(page) = self.main.pop_front() {
            match self.touches[page as usize] {
                Some(touches) if touches > 0 => {
                    self.touches[page as usize] = Some(touches - 1);
                    self.main.push_back(page);
                }
                _ => {
                    self.touches[page as usize] = None;
                    return;
                }
            }
        }
    }
}

impl Policy for S3Fifo {
    fn access(&mut self, page: u32) -> bool {
        if let Some(touches) = self.touches[page as usize] {
            self.touches[page as usize] = Some((touches + 1).min(3));
            return true;
        }
        while self.small.len() + self.main.len() >= self.frames {
            self.evict();
        }
        self.touches[page as usize] = Some(0);
        if self.ghosts.contains(&page) {
            self.main.push_back(page)
        } else {
            self.small.push_back(page)
        }
        false
    }
}

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// Ranks are scattered over the pages, so that hot pages are no neighbours.
fn scatter(rank: usize) -> u32 {
    (rank.wrapping_mul(40_503) % PAGES) as u32
}

fn zipf(random: &mut Random) -> Vec<u32> {
    let mut sum = 0.0;
    let mut cumulative = Vec::with_capacity(PAGES);
    for rank in 1..=PAGES {
        sum += (rank as f64).powf(-0.99);
        cumulative.push(sum);
    }
    let draw = |_| {
        let point = random.unit() * sum;
        scatter(cumulative.partition_point(|&upto| upto < point).min(PAGES - 1))
    };
    (0..ACCESSES).map(draw).collect()
}

fn hotspot(random: &mut Random) -> Vec<u32> {
    let draw = |_| {
        let hot = PAGES / 10;
        let rank = if random.below(10) > 0 { random.below(hot) } else { hot + random.below(PAGES - hot) };
        scatter(rank)
    };
    (0..ACCESSES).map(draw).collect()
}

/// Half of the accesses scan everything in runs of 64 pages, half go to a hot tenth.
fn scan_and_hot(random: &mut Random) -> Vec<u32> {
    let mut trace = Vec::with_capacity(ACCESSES);
    let mut cursor = 0;
    while trace.len() < ACCESSES {
        for _ in 0..64 {
            trace.push(cursor as u32);
            cursor = (cursor + 1) % PAGES;
        }
        trace.extend((0..64).map(|_| scatter(random.below(PAGES / 10))));
    }
    trace
}

fn main() {
    let mut random = Random(1);
    let traces: [(&str, Vec<u32>); 4] = [
        ("uniform", (0..ACCESSES).map(|_| random.below(PAGES) as u32).collect()),
        ("zipf 0.99", zipf(&mut random)),
        ("hotspot 10/90", hotspot(&mut random)),
        ("scan + hot set", scan_and_hot(&mut random)),
    ];
    let mut costs_ns: HashMap<&str, Vec<f64>> = HashMap::new();
    println!("| trace | local | CLOCK | CLOCK, unreferenced at first | SIEVE | S3-FIFO |");
    println!("|---|---|---|---|---|---|");
    for (name, trace) in &traces {
        for (percent, divisor) in [("50 %", 2), ("25 %", 4), ("12.5 %", 8)] {
            let frames = PAGES / divisor;
            let policies: [(&str, Box<dyn Policy>); 4] = [
                ("CLOCK", Box::new(Clock::new(frames, true))),
                ("CLOCK, unreferenced at first", Box::new(Clock::new(frames, false))),
                ("SIEVE", Box::new(Sieve::new(frames))),
                ("S3-FIFO", Box::new(S3Fifo::new(frames))),
            ];
            print!("| {name} | {percent} |");
            for (label, mut policy) in policies {
                // The first half warms up.
                let (warm, measured) = trace.split_at(ACCESSES / 2);
                for &page in warm {
                    policy.access(page);
                }
                let start = Instant::now();
                let misses = measured.iter().filter(|&&page| !policy.access(page)).count();
                let cost_ns = start.elapsed().as_nanos() as f64 / measured.len() as f64;
                costs_ns.entry(label).or_default().push(cost_ns);
                print!(" {:.2} % |", 100.0 * misses as f64 / measured.len() as f64);
            }
            println!();
        }
    }
    print!("| ns an access, mean | |");
    for label in ["CLOCK", "CLOCK, unreferenced at first", "SIEVE", "S3-FIFO"] {
        let costs = &costs_ns[label];
        print!(" {:.0} |", costs.iter().sum::<f64>() / costs.len() as f64);
    }
    println!();
}
