//! Requests one after the other, and the judgement of their replies.
//!
//! `Fill` populates, `Trim` deletes (for `sg`), `Traffic` measures. Each says with the request what reply
//! is right: its kind and its number of bytes are held against every reply, its bytes against a sample.

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::{Dataset, Holds, Kind, Range, Sizes, Workload, ZIPF_GET_PERCENT, push_order};
use crate::keys::{KeyChoice, Keys, below};
use crate::resp::{self, Reply, push_keyed, push_len, push_number};
use crate::values::{self, mix};

/// What was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// `SET key value`
    Set,
    /// `GET key`
    Get,
    /// `DEL key`
    Del,
    /// `RPUSH key element` or `LPUSH key element`
    Push,
    /// `RPOP key`
    Pop,
    /// `LRANGE key start stop`
    Lrange,
}

/// Stands for "as many bytes as the value says".
const ANY_BYTES: u64 = u64::MAX;

/// The right reply to one request.
#[derive(Clone, Copy, Debug)]
pub struct Expect {
    op: Op,
    key: u64,
    /// Index of the first element of a range.
    first: u32,
    /// Elements of a range.
    count: u32,
    /// Bytes of payload of the right reply.
    payload_bytes: u64,
}

/// What a reply was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// As expected, as far as looked at.
    Right,
    /// An error reply.
    Error,
    /// Another kind, number of elements or number of bytes.
    Wrong,
}

impl Expect {
    fn new(op: Op, key: u64, payload_bytes: u64) -> Self {
        Expect { op, key, first: 0, count: 0, payload_bytes }
    }

    /// Holds the measure of a reply against what is right.
    #[inline]
    pub fn judge(&self, reply: &Reply) -> Verdict {
        let right = match (self.op, reply.kind) {
            (_, resp::Kind::Error) => return Verdict::Error,
            (Op::Set, kind) => kind == resp::Kind::Simple,
            (Op::Get, kind) => {
                kind == resp::Kind::Bulk
                    && (self.payload_bytes == ANY_BYTES || reply.payload_bytes == self.payload_bytes)
            }
            (Op::Del, kind) => kind == resp::Kind::Integer && reply.integer == 1,
            (Op::Push, kind) => kind == resp::Kind::Integer && reply.integer >= 1,
            (Op::Pop, resp::Kind::Nil) => true,
            (Op::Pop, kind) => kind == resp::Kind::Bulk && reply.payload_bytes == self.payload_bytes,
            (Op::Lrange, kind) => {
                kind == resp::Kind::Array
                    && reply.elements == u64::from(self.count)
                    && reply.payload_bytes == self.payload_bytes
            }
        };
        if right { Verdict::Right } else { Verdict::Wrong }
    }

    /// True if the reply carries bytes that can be checked.
    #[inline]
    pub fn has_bytes(&self) -> bool {
        matches!(self.op, Op::Get | Op::Pop | Op::Lrange)
    }

    /// Holds every byte of the reply `raw` against the data set.
    ///
    /// # Errors
    /// A sentence that names the request and the difference.
    pub fn verify(&self, data: &Dataset, raw: &[u8]) -> Result<(), String> {
        if raw.starts_with(b"$-1") {
            return Ok(());
        }
        for (count, bulk) in (0..).zip(resp::bulks(raw)) {
            let body = bulk.map_err(|_| format!("{self}: the reply is not framed as RESP2 says"))?;
            let serial = values::check(data.seed, self.key, body)
                .ok_or_else(|| format!("{self}: value {count} of the reply is not of this key"))?;
            let right = match (self.op, &data.holds) {
                (Op::Lrange, _) => serial == u64::from(self.first) + count,
                (_, Holds::Strings(sizes)) => body.len() == sizes.of(self.key, serial),
                _ => true,
            };
            if !right {
                return Err(format!(
                    "{self}: value {count} of the reply is of this key but another one (serial {serial})"
                ));
            }
        }
        Ok(())
    }
}

impl std::fmt::Display for Expect {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} key:{:012}", self.op, self.key)?;
        if self.op == Op::Lrange {
            write!(f, " {} {}", self.first, self.first + self.count.saturating_sub(1))?;
        }
        Ok(())
    }
}

/// Requests one after the other.
pub trait Source {
    /// Appends the next request and says what reply is right; None at the end.
    fn next(&mut self, out: &mut Vec<u8>) -> Option<Expect>;
}

fn push_set(out: &mut Vec<u8>, data: &Dataset, key: u64, serial: u64, bytes: usize) -> Expect {
    push_keyed(out, b"*3\r\n$3\r\nSET\r\n$16\r\nkey:", key);
    push_len(out, bytes);
    values::append(data.seed, key, serial, bytes, out);
    out.extend_from_slice(b"\r\n");
    Expect::new(Op::Set, key, 0)
}

fn push_get(out: &mut Vec<u8>, key: u64, payload_bytes: u64) -> Expect {
    push_keyed(out, b"*2\r\n$3\r\nGET\r\n$16\r\nkey:", key);
    Expect::new(Op::Get, key, payload_bytes)
}

fn push_element(
    out: &mut Vec<u8>,
    front: &[u8],
    data: &Dataset,
    key: u64,
    serial: u64,
    bytes: usize,
) -> Expect {
    push_keyed(out, front, key);
    push_len(out, bytes);
    values::append(data.seed, key, serial, bytes, out);
    out.extend_from_slice(b"\r\n");
    Expect::new(Op::Push, key, 0)
}

/// Populates: every SET, or every RPUSH, in order.
pub struct Fill<'a> {
    data: &'a Dataset,
    next: u64,
    requests: u64,
    rng: SmallRng,
    pushed: Vec<u32>,
}

impl<'a> Fill<'a> {
    /// From the first request on.
    pub fn new(data: &'a Dataset) -> Self {
        let lists = if let Holds::Lists { lengths, .. } = &data.holds { lengths.len() } else { 0 };
        Fill {
            data,
            next: 0,
            requests: data.load_requests().0,
            rng: push_order(data.seed),
            pushed: vec![0; lists],
        }
    }
}

impl Source for Fill<'_> {
    fn next(&mut self, out: &mut Vec<u8>) -> Option<Expect> {
        if self.next == self.requests {
            return None;
        }
        let key = self.next;
        self.next += 1;
        Some(match &self.data.holds {
            Holds::Strings(sizes) => push_set(out, self.data, key, 0, sizes.of(key, 0)),
            Holds::Culled { .. } => push_set(out, self.data, key, 0, 128),
            Holds::Lists { lengths, element_bytes } => {
                let list = below(&mut self.rng, lengths.len() as u64);
                let pushed = &mut self.pushed[list as usize];
                let serial = u64::from(*pushed);
                *pushed += 1;
                push_element(
                    out,
                    b"*3\r\n$5\r\nRPUSH\r\n$16\r\nkey:",
                    self.data,
                    list,
                    serial,
                    *element_bytes,
                )
            }
        })
    }
}

/// Deletes what `sg` deletes, in its random order.
pub struct Trim<'a>(std::slice::Iter<'a, u32>);

impl<'a> Trim<'a> {
    /// From the first key on; empty for a data set that keeps all.
    pub fn new(data: &'a Dataset) -> Self {
        let doomed = match &data.holds {
            Holds::Culled { order, deleted } => &order[..*deleted],
            _ => &[],
        };
        Trim(doomed.iter())
    }
}

impl Source for Trim<'_> {
    fn next(&mut self, out: &mut Vec<u8>) -> Option<Expect> {
        let key = u64::from(*self.0.next()?);
        push_keyed(out, b"*2\r\n$3\r\nDEL\r\n$16\r\nkey:", key);
        Some(Expect::new(Op::Del, key, 0))
    }
}

/// The measured requests: endless.
pub struct Traffic<'a> {
    kind: Kind,
    data: &'a Dataset,
    keys: Keys,
    rng: SmallRng,
    serial: u64,
}

impl<'a> Traffic<'a> {
    /// The stream of one client thread: streams of different `salt` differ, and so do their new values.
    pub fn new(workload: &Workload, data: &'a Dataset, choice: KeyChoice, salt: u64) -> Self {
        let count = match &data.holds {
            Holds::Culled { order, deleted } => (order.len() - deleted) as u64,
            _ => data.keys,
        };
        Traffic {
            kind: workload.kind,
            data,
            keys: Keys::new(choice, count),
            rng: SmallRng::seed_from_u64(mix(data.seed ^ mix(salt))),
            // New values are told apart from populated ones, and from those of other threads.
            serial: (salt + 1) << 40,
        }
    }

    #[inline]
    fn fresh_serial(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }

    fn lrange(&mut self, out: &mut Vec<u8>, key: u64, range: Range) -> Expect {
        let Holds::Lists { lengths, element_bytes } = &self.data.holds else {
            unreachable!("LRANGE is of lists")
        };
        let length = lengths[key as usize];
        let (first, stop) = match range {
            Range::Front { stop } => (0, stop),
            Range::Middle => {
                let first = below(&mut self.rng, u64::from(length.saturating_sub(49).max(1))) as u32;
                (first, first + 49)
            }
        };
        push_keyed(out, b"*4\r\n$6\r\nLRANGE\r\n$16\r\nkey:", key);
        push_number(out, u64::from(first));
        push_number(out, u64::from(stop));
        let count = length.min(stop + 1) - first.min(length);
        Expect { op: Op::Lrange, key, first, count, payload_bytes: u64::from(count) * *element_bytes as u64 }
    }
}

impl Source for Traffic<'_> {
    #[inline]
    fn next(&mut self, out: &mut Vec<u8>) -> Option<Expect> {
        let key = self.keys.next(&mut self.rng);
        Some(match self.kind {
            Kind::Get(sizes) => push_get(out, key, sizes.of(key, 0) as u64),
            Kind::Set(bytes) => {
                let serial = self.fresh_serial();
                push_set(out, self.data, key, serial, bytes)
            }
            Kind::Lrange(range, _) => self.lrange(out, key, range),
            Kind::PushPop(bytes) if self.rng.next_u64() & 1 == 0 => {
                let serial = self.fresh_serial();
                push_element(out, b"*3\r\n$5\r\nLPUSH\r\n$16\r\nkey:", self.data, key, serial, bytes)
            }
            Kind::PushPop(bytes) => {
                push_keyed(out, b"*2\r\n$4\r\nRPOP\r\n$16\r\nkey:", key);
                Expect::new(Op::Pop, key, bytes as u64)
            }
            Kind::Survivors => {
                let Holds::Culled { order, deleted } = &self.data.holds else { unreachable!("sg culls") };
                push_get(out, u64::from(order[deleted + key as usize]), 128)
            }
            Kind::ZipfSmall if below(&mut self.rng, 100) < ZIPF_GET_PERCENT => push_get(out, key, ANY_BYTES),
            Kind::ZipfSmall => {
                let serial = self.fresh_serial();
                push_set(out, self.data, key, serial, Sizes::Small.of(key, serial))
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::{Scanner, bulks};

    fn dataset(name: &str) -> (Workload, Dataset) {
        let workload: Workload = name.parse().expect("a workload");
        let data = Dataset::new(&workload, "1mb".parse().expect("a size"), 5).expect("a data set");
        (workload, data)
    }

    fn judged(expect: &Expect, raw: &[u8]) -> Verdict {
        let (used, reply) = Scanner::default().advance(raw).expect("RESP2");
        assert_eq!(used, raw.len());
        expect.judge(&reply.expect("a whole reply"))
    }

    fn bulk(body: &[u8]) -> Vec<u8> {
        [format!("${}\r\n", body.len()).as_bytes(), body, b"\r\n"].concat()
    }

    #[test]
    fn the_same_seed_asks_the_same_and_another_thread_does_not() {
        let (workload, data) = dataset("zipf_small");
        let stream = |salt| {
            let mut traffic = Traffic::new(&workload, &data, KeyChoice::Zipf(0.99), salt);
            let mut out = Vec::new();
            (0..100).for_each(|_| assert!(traffic.next(&mut out).is_some()));
            out
        };
        assert_eq!(stream(0), stream(0));
        assert_ne!(stream(0), stream(1));
    }

    #[test]
    fn what_fill_sets_is_what_traffic_expects() {
        let (workload, data) = dataset("get:100");
        let mut fill = Fill::new(&data);
        let mut out = Vec::new();
        let mut bodies = Vec::new();
        while fill.next(&mut out).is_some() {
            bodies.push(bulks(&out).nth(2).expect("SET has a value").expect("RESP2").to_vec());
            out.clear();
        }
        assert_eq!(bodies.len() as u64, data.keys);
        let mut traffic = Traffic::new(&workload, &data, KeyChoice::Uniform, 0);
        for _ in 0..100 {
            let expect = traffic.next(&mut out).expect("endless");
            let raw = bulk(&bodies[expect.key as usize]);
            assert_eq!(judged(&expect, &raw), Verdict::Right);
            assert_eq!(expect.verify(&data, &raw), Ok(()));
            let other = bulk(&bodies[(expect.key as usize + 1) % bodies.len()]);
            assert_eq!(judged(&expect, &other), Verdict::Right, "the same size");
            assert!(expect.verify(&data, &other).is_err(), "but not the same bytes");
            assert_eq!(judged(&expect, b"$3\r\nabc\r\n"), Verdict::Wrong);
            assert_eq!(judged(&expect, b"$-1\r\n"), Verdict::Wrong);
            assert_eq!(judged(&expect, b"-LOADING x\r\n"), Verdict::Error);
        }
    }

    #[test]
    fn a_range_in_the_wrong_order_is_seen() {
        let (workload, data) = dataset("lrange_mid");
        let mut traffic = Traffic::new(&workload, &data, KeyChoice::Uniform, 0);
        let expect = traffic.next(&mut Vec::new()).expect("endless");
        let reply = |serials: &mut dyn Iterator<Item = u64>| {
            let mut raw = format!("*{}\r\n", expect.count).into_bytes();
            for serial in serials {
                let mut body = Vec::new();
                values::append(data.seed, expect.key, serial, 1024, &mut body);
                raw.extend(bulk(&body));
            }
            raw
        };
        let (first, end) = (u64::from(expect.first), u64::from(expect.first + expect.count));
        let right = reply(&mut (first..end));
        assert_eq!((judged(&expect, &right), expect.verify(&data, &right)), (Verdict::Right, Ok(())));
        let turned = reply(&mut (first..end).rev());
        assert_eq!(judged(&expect, &turned), Verdict::Right);
        assert!(expect.verify(&data, &turned).is_err());
        assert_eq!(judged(&expect, b"*0\r\n"), Verdict::Wrong);
    }
}
