//! Fuzz target: both halves of the RDMA handshake, against a peer that says whatever the input says.
//!
//! The first byte says which half is fuzzed; the rest is all that the peer ever sends. Whoever accepts has
//! been sent exactly what an honest peer would send: a proof is good for one connection, and every bit is
//! under it. Refuses to know sockets.

use super::{Dice, Target};
use farmem_link::nbd::proto::Generation;
use farmem_link::rdma::handshake::{ask, hear};
use farmem_link::rdma::proto::{Lane, Nonce, Secret, Side};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Cursor, Read, Write};

const LINK_NONCE: Nonce = [2; 32];
const NODE_NONCE: Nonce = [1; 32];
const EXPORT: &str = "far";

/// A stream of which one half is the input, and the other is kept.
struct Peer<'i> {
    says: Cursor<&'i [u8]>,
    hears: Vec<u8>,
}

impl Read for Peer<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.says.read(into)
    }
}

impl Write for Peer<'_> {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        self.hears.extend_from_slice(from);
        Ok(from.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What honest peers say.
pub struct RdmaHandshake {
    secret: Secret,
    /// What a node says to [`ask`], and a link to [`hear`].
    node_says: Vec<u8>,
    link_says: Vec<u8>,
}

fn side() -> Side {
    let lane = |n: u32| Lane { number: n.into(), psn: (n * 7).into() };
    Side { gid: [9; 16], lid: 3.into(), mtu: 3, reads: 16, lanes: [lane(17), lane(18)] }
}

impl RdmaHandshake {
    /// Lets two honest peers speak, and keeps what they say.
    ///
    /// # Panics
    /// If they do not understand each other.
    #[expect(clippy::new_without_default, reason = "two peers speak")]
    pub fn new() -> RdmaHandshake {
        let secret = Secret::of(b"0123456789abcdef").expect("it is long enough");
        // The node's first words depend on nothing; the link's on those, the node's last on both.
        let greeting = {
            let mut peer = Peer { says: Cursor::new(&[]), hears: Vec::new() };
            hear(&mut peer, &secret, NODE_NONCE).err().expect("nobody answers");
            peer.hears
        };
        let mut peer = Peer { says: Cursor::new(&greeting), hears: Vec::new() };
        ask(&mut peer, &secret, LINK_NONCE, side(), EXPORT).expect_err("the node says no more");
        let link_says = peer.hears;
        let mut peer = Peer { says: Cursor::new(&link_says), hears: Vec::new() };
        let asked = hear(&mut peer, &secret, NODE_NONCE).expect("an honest link is heard");
        let lent = (4096, 1 << 20, 77);
        asked.accept(&mut peer, &secret, side(), lent, Generation(5)).expect("a buffer takes it");
        let node_says = peer.hears;
        RdmaHandshake { secret, node_says, link_says }
    }

    /// The inputs of two honest peers: the start of a corpus.
    pub fn honest(&self) -> [Vec<u8>; 2] {
        [[&[0], &self.node_says[..]].concat(), [&[1], &self.link_says[..]].concat()]
    }
}

impl Target for RdmaHandshake {
    fn run(&mut self, input: &[u8]) -> u64 {
        let mut dice = Dice::new(input);
        let is_link = dice.byte().is_multiple_of(2);
        let says = input.get(1..).unwrap_or(&[]);
        let mut peer = Peer { says: Cursor::new(says), hears: Vec::new() };
        let (result, honest) = if is_link {
            let answer = ask(&mut peer, &self.secret, LINK_NONCE, side(), EXPORT);
            (answer.map(|answer| answer.len.get()), &self.node_says)
        } else {
            let asked = hear(&mut peer, &self.secret, NODE_NONCE);
            (asked.map(|asked| asked.export.len() as u64), &self.link_says)
        };
        assert!(
            result.is_err() || says.starts_with(honest),
            "a peer was accepted that does not say what an honest one does"
        );
        assert!(result.is_ok() || !says.starts_with(honest), "an honest peer was refused: {result:?}");
        let mut hasher = DefaultHasher::new();
        let words = result.map_err(|error| (error.kind(), error.to_string().split(' ').next().map(str::len)));
        (is_link, words, peer.hears.len()).hash(&mut hasher);
        hasher.finish()
    }

    fn inputs_max(&self) -> usize {
        usize::MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sources::root;

    #[test]
    fn the_corpus_has_what_honest_peers_say() {
        let folder = root().join("tests/fuzz/corpus/rdma-handshake");
        for (name, wanted) in ["honest-node", "honest-link"].into_iter().zip(RdmaHandshake::new().honest()) {
            if std::env::var_os("WRITE_CORPUS").is_some() {
                std::fs::create_dir_all(&folder).expect("a folder can be made");
                std::fs::write(folder.join(name), &wanted).expect("a file can be written");
            }
            let kept = std::fs::read(folder.join(name)).expect("WRITE_CORPUS=1 writes it");
            assert!(kept == wanted, "{name} is of another version: WRITE_CORPUS=1 writes it");
        }
    }
}
