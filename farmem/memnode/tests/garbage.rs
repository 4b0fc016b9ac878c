//! Garbage: whatever bytes come, the node ends the connection or answers, and its other clients notice nothing.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use farmem_link::nbd::proto::*;
use memnode::{Export, Exports, Memory, TlsOffer, greet, negotiate};
use proptest::prelude::*;
use std::cell::RefCell;
use std::io::{self, Cursor, Read, Write};
use std::net::Shutdown;
use support::{Daemon, MIB, go, pattern};
use zerocopy::IntoBytes;

/// A client whose words are all there already, and who hears nothing.
struct Script(Cursor<Vec<u8>>);

impl Read for Script {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.0.read(into)
    }
}

impl Write for Script {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// An option, whose length may be a lie.
fn options() -> impl Strategy<Value = Vec<u8>> {
    let data = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..64),
        "[a-z]{0,20}".prop_map(|name| go(&name, &[InfoKind::NAME, InfoKind::BLOCK_SIZE])),
    ];
    (0..13u32, data, proptest::option::weighted(0.2, any::<u32>())).prop_map(|(option, data, lie)| {
        let len = lie.unwrap_or(data.len() as u32);
        [OptionHeader::new(Opt(option.into()), len).as_bytes(), &data].concat()
    })
}

/// A request that is right, nearly right, or nothing of the kind.
fn requests() -> impl Strategy<Value = Vec<u8>> {
    let offset = prop_oneof![4 => 0..2 * MIB, 1 => any::<u64>()];
    let len = prop_oneof![4 => 0..100_000u32, 1 => any::<u32>()];
    let request = (0..9u16, any::<u64>(), offset, len, prop_oneof![3 => Just(0), 1 => 0..32u16]);
    let right = request.prop_map(|(command, cookie, offset, len, flags)| {
        let mut request = Request::new(Command(command.into()), cookie, offset, len);
        request.flags = flags.into();
        let data = if request.command == Command::WRITE { len.min(100_000) as usize } else { 0 };
        [request.as_bytes(), &pattern(data, len)].concat()
    });
    prop_oneof![9 => right, 1 => proptest::collection::vec(any::<u8>(), 0..100)]
}

proptest! {
    #[test]
    fn a_negotiation_with_anybody_comes_to_an_end(
        flags in any::<u32>(),
        sane in any::<bool>(),
        words in proptest::collection::vec(options(), 0..20),
        rest in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        let exports = Exports::new(vec![Export::new("", Memory::ram(MIB).unwrap(), Generation(1))]);
        let flags = if sane { 3 } else { flags };
        let script = [flags.to_be_bytes().to_vec(), words.concat(), rest].concat();
        for tls in [TlsOffer::Off, TlsOffer::Offered, TlsOffer::Required, TlsOffer::Running] {
            let mut client = Script(Cursor::new(script.clone()));
            // Either is an end; that it is reached, without a panic and without reading on for ever, is the test.
            if let Ok(flags) = greet(&mut client) {
                let _ = negotiate(&mut client, &exports, flags, tls);
            }
        }
    }
}

#[test]
fn random_requests_leave_every_other_client_alone() {
    let node = Daemon::start(&["--size", "1mb", "--export", "other=1mb"]);
    let good = RefCell::new(node.client("other", false));
    let bytes = pattern(65_536, 11);
    assert_eq!(good.borrow_mut().write(4000, &bytes), Errno::NONE);
    let config = ProptestConfig::with_cases(200);
    proptest!(config, |(batch in proptest::collection::vec(requests(), 1..20), structured in any::<bool>())| {
        let mut bad = node.client("", structured);
        let mut hears = bad.stream.try_clone().unwrap();
        let heard = std::thread::spawn(move || hears.read_to_end(&mut Vec::new()));
        // The node may end the connection before all is said.
        let _ = bad.stream.write_all(&batch.concat());
        let _ = bad.stream.shutdown(Shutdown::Write);
        let _ = heard.join().unwrap();
        prop_assert!(good.borrow_mut().bytes(4000, 65_536) == bytes);
    });
}
