//! The protocol from a client's side: what is agreed on, what is answered, and what a broken client costs others.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use farmem_link::nbd::proto::*;
use std::io::Read;
use support::{Daemon, MIB, go, pattern};
use zerocopy::{FromBytes, IntoBytes};

#[test]
fn the_negotiation_tells_everything_about_an_export() {
    let node = Daemon::start(&["--size", "8mb", "--export", "small=1mb"]);
    let mut client = node.stranger();
    let flags = HandshakeFlags::from_bits(client.greet().flags.get());
    assert_eq!(flags, Some(HandshakeFlags::FIXED_NEWSTYLE | HandshakeFlags::NO_ZEROES));

    let listed = client.option(Opt::LIST, &[]);
    let names: Vec<_> = listed[..2].iter().map(|(_, data)| decode_string(data).unwrap().0).collect();
    assert_eq!((names, listed.len()), (vec!["", "small"], 3));

    let wanted = [InfoKind::NAME, InfoKind::DESCRIPTION, InfoKind::BLOCK_SIZE, InfoKind(999.into())];
    let infos = client.option(Opt::INFO, &go("small", &wanted));
    let info = |kind: InfoKind| {
        let found = infos.iter().find(|(_, data)| data.starts_with(kind.as_bytes())).unwrap();
        assert_eq!(found.0, OptReply::INFO);
        found.1[2..].to_vec()
    };
    let export = ExportInfo::read_from_bytes(&info(InfoKind::EXPORT)).unwrap();
    assert_eq!(export.size.get(), MIB);
    let can = ExportFlags::from_bits_retain(export.flags.get());
    assert!(can.contains(ExportFlags::SEND_TRIM | ExportFlags::SEND_FUA | ExportFlags::CAN_MULTI_CONN));
    assert_eq!(info(InfoKind::NAME), b"small");
    let sizes = BlockSizeInfo::read_from_bytes(&info(InfoKind::BLOCK_SIZE)).unwrap();
    assert_eq!((sizes.minimum.get(), sizes.maximum.get()), (1, 32 << 20));
    let description = String::from_utf8(info(InfoKind::DESCRIPTION)).unwrap();
    assert!(Generation::of_description(&description).is_some(), "{description}");
    assert_eq!(infos.len(), 5, "one answer each and the ACK");
}

#[test]
fn two_exports_have_two_generations_and_a_restart_has_others() {
    let mut seen = Vec::new();
    for _ in 0..2 {
        let node = Daemon::start(&["--size", "1mb", "--export", "b=1mb"]);
        let mut client = node.stranger();
        client.greet();
        for (_, entry) in &client.option(Opt::LIST, &[])[..2] {
            let (_, words) = decode_string(entry).unwrap();
            seen.push(Generation::of_description(std::str::from_utf8(words).unwrap()).unwrap().0);
        }
    }
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), 4);
}

#[test]
fn an_option_that_makes_no_sense_is_refused_and_the_next_one_is_answered() {
    let node = Daemon::start(&["--size", "1mb"]);
    let mut client = node.stranger();
    client.greet();
    let too_long = vec![b'x'; OPTION_BYTES_MAX as usize + 1];
    let refused = [
        (Opt(4242.into()), &[][..], OptReply::ERR_UNSUP),
        (Opt::SET_META_CONTEXT, &[0; 12], OptReply::ERR_UNSUP),
        (Opt::GO, &[0, 0], OptReply::ERR_INVALID),
        (Opt::INFO, &go("nowhere", &[]), OptReply::ERR_UNKNOWN),
        (Opt::GO, &too_long, OptReply::ERR_TOO_BIG),
        (Opt::LIST, b"x", OptReply::ERR_INVALID),
        (Opt::STRUCTURED_REPLY, b"x", OptReply::ERR_INVALID),
        (Opt::STARTTLS, &[], OptReply::ERR_POLICY),
    ];
    for (option, data, error) in refused {
        assert_eq!(client.option(option, data)[0].0, error, "{option:?}");
    }
    assert_eq!(client.option(Opt::ABORT, &[]), vec![(OptReply::ACK, vec![])]);
    assert!(client.is_ended());
}

#[test]
fn the_oldest_way_to_start_still_works() {
    let node = Daemon::start(&["--export", "old=1mb"]);
    for (flags, zeroes) in [(0u32, EXPORT_NAME_ZEROES), (3, 0)] {
        let mut client = node.stranger();
        client.read_bytes(Greeting::LEN);
        client.send(&flags.to_be_bytes());
        client.send(OptionHeader::new(Opt::EXPORT_NAME, 3).as_bytes());
        client.send(b"old");
        let answer = client.read_bytes(ExportInfo::LEN + zeroes);
        assert_eq!(answer[..8], MIB.to_be_bytes());
        assert_eq!(client.bytes(0, 512), [0; 512]);
    }
    let mut client = node.stranger();
    client.greet();
    client.send(OptionHeader::new(Opt::EXPORT_NAME, 3).as_bytes());
    client.send(b"new");
    assert!(client.is_ended(), "there is no other way to say no");
}

#[test]
fn what_is_written_is_read_by_everybody_at_every_size_and_offset() {
    let node = Daemon::start(&["--size", "80mb"]);
    let (mut one, mut other) = (node.client("", false), node.client("", true));
    for (n, len) in [1usize, 511, 4096, 5000, 65_536, 300_001, 32 << 20].into_iter().enumerate() {
        let (offset, bytes) = (n as u64 * 4099, pattern(len, n as u32));
        assert_eq!(one.write(offset, &bytes), Errno::NONE);
        assert!(one.bytes(offset, len as u32) == bytes, "{len} bytes at {offset}");
        other.request(Command::READ, 5, offset, len as u32);
        let (cookie, kind, data) = other.chunk();
        assert_eq!((cookie, kind, &data[..8]), (5, ChunkKind::OFFSET_DATA, &offset.to_be_bytes()[..]));
        assert!(data[8..] == bytes, "{len} bytes at {offset}, structured");
    }
}

#[test]
fn requests_that_cannot_be_done_are_refused_and_the_next_one_is_answered() {
    let node = Daemon::start(&["--size", "1mb"]);
    let mut client = node.client("", false);
    let refused = [
        (Command::READ, MIB - 1, 2, Errno::EINVAL),
        (Command::READ, u64::MAX, 4096, Errno::EINVAL),
        (Command::READ, 0, PAYLOAD_BYTES_MAX + 1, Errno::EINVAL),
        (Command::TRIM, MIB, 1, Errno::EINVAL),
        (Command::CACHE, 1, MIB as u32, Errno::EINVAL),
        (Command::WRITE_ZEROES, MIB, 1, Errno::ENOSPC),
        (Command::FLUSH, 1, 0, Errno::EINVAL),
        (Command::BLOCK_STATUS, 0, 4096, Errno::EINVAL),
        (Command(77.into()), 0, 0, Errno::EINVAL),
    ];
    for (command, offset, len, error) in refused {
        assert_eq!(client.ask(command, offset, len), error, "{command:?} {len} at {offset}");
    }
    assert_eq!(client.write(MIB - 1, &[1, 2]), Errno::ENOSPC);
    let mut odd = Request::new(Command::READ, 7, 0, 512);
    odd.flags = CommandFlags::DF.bits().into();
    client.send(odd.as_bytes());
    assert_eq!(client.reply(), (7, Errno::EINVAL), "DF is for structured replies");
    assert_eq!(client.bytes(MIB - 4, 4), [0; 4], "nothing of a refused write is kept");

    let mut client = node.client("", true);
    client.request(Command::READ, 9, MIB, 1);
    let (cookie, kind, data) = client.chunk();
    assert_eq!((cookie, kind, &data[..]), (9, ChunkKind::ERROR, &[0, 0, 0, 22, 0, 0][..]));
}

#[test]
fn a_trim_gives_memory_back_and_so_do_zeroes_unless_told_to_keep_it() {
    let node = Daemon::start(&["--size", "64mb"]);
    let mut client = node.client("", false);
    let before = node.resident_bytes();
    assert!(client.bytes(0, 32 << 20).iter().all(|&byte| byte == 0));
    assert!(node.resident_bytes() < before + 4 * MIB, "reading what nobody wrote takes no memory");
    for release in [Command::TRIM, Command::WRITE_ZEROES] {
        assert_eq!(client.write(0, &pattern(32 << 20, 1)), Errno::NONE);
        assert!(node.resident_bytes() > before + 32 * MIB);
        assert_eq!(client.ask(release, 0, 32 << 20), Errno::NONE);
        assert!(node.resident_bytes() < before + 4 * MIB, "{release:?}");
        assert!(client.bytes(0, 32 << 20).iter().all(|&byte| byte == 0));
    }
    let mut keep = Request::new(Command::WRITE_ZEROES, 7, 0, 16 << 20);
    keep.flags = (CommandFlags::NO_HOLE | CommandFlags::FUA).bits().into();
    client.send(keep.as_bytes());
    assert_eq!(client.reply(), (7, Errno::NONE));
    assert!(node.resident_bytes() > before + 16 * MIB);
}

#[test]
fn a_read_overtakes_a_long_trim() {
    let node = Daemon::start(&["--size", "512mb"]);
    let mut client = node.client("", false);
    for at in 0..16 {
        assert_eq!(client.write(at * 32 * MIB, &pattern(32 << 20, at as u32)), Errno::NONE);
    }
    let both =
        [Request::new(Command::TRIM, 1, 4096, (512 << 20) - 4096), Request::new(Command::READ, 2, 0, 4)];
    client.send(&[both[0].as_bytes(), both[1].as_bytes()].concat());
    assert_eq!(client.reply(), (2, Errno::NONE));
    assert_eq!(client.read_bytes(4), pattern(4, 0));
    assert_eq!(client.reply(), (1, Errno::NONE));
}

#[test]
fn many_requests_in_one_send_are_all_answered() {
    let node = Daemon::start(&["--size", "16mb"]);
    let mut client = node.client("", false);
    let mut batch = Vec::new();
    for n in 0..1000u64 {
        batch.extend_from_slice(Request::new(Command::WRITE, n, n * 4096, 4096).as_bytes());
        batch.extend_from_slice(&pattern(4096, n as u32));
        batch.extend_from_slice(Request::new(Command::TRIM, 10_000 + n, 12 * MIB + n, 4096).as_bytes());
    }
    let mut reading = ReadHalf(client.stream.try_clone().unwrap());
    let replies = std::thread::spawn(move || reading.simple_replies(2000));
    client.send(&batch);
    let mut cookies = replies.join().unwrap();
    cookies.sort_unstable();
    assert_eq!(cookies, (0..1000).chain(10_000..11_000).collect::<Vec<_>>());
    for n in [0, 500, 999] {
        assert_eq!(client.bytes(n * 4096, 4096), pattern(4096, n as u32));
    }
}

/// The reading half of a client.
struct ReadHalf(std::os::unix::net::UnixStream);

impl ReadHalf {
    fn simple_replies(&mut self, count: usize) -> Vec<u64> {
        let one = |_| {
            let mut reply = [0; SimpleReply::LEN];
            self.0.read_exact(&mut reply).unwrap();
            let reply = SimpleReply::read_from_bytes(&reply).unwrap();
            assert_eq!(reply.error, Errno::NONE);
            reply.cookie.get()
        };
        (0..count).map(one).collect()
    }
}

#[test]
fn a_client_that_breaks_the_protocol_loses_its_connection_and_nobody_else_does() {
    let node = Daemon::start(&["--size", "1mb"]);
    let mut good = node.client("", false);
    assert_eq!(good.write(0, b"still here"), Errno::NONE);

    let mut no_nbd = node.stranger();
    no_nbd.send(b"GET / HTTP/1.1\r\nHost: node\r\n\r\n");
    assert!(no_nbd.is_ended());
    let mut no_option = node.stranger();
    no_option.greet();
    no_option.send(&[0xff; 64]);
    assert!(no_option.is_ended());
    let mut long_option = node.stranger();
    long_option.greet();
    long_option.send(OptionHeader::new(Opt::GO, u32::MAX).as_bytes());
    assert!(long_option.is_ended());
    let mut no_request = node.client("", false);
    no_request.send(&[0x55; 1000]);
    assert!(no_request.is_ended());
    let mut long_write = node.client("", false);
    long_write.request(Command::WRITE, 1, 0, PAYLOAD_BYTES_MAX + 1);
    assert!(long_write.is_ended());
    let mut cut = node.client("", false);
    cut.request(Command::WRITE, 1, 4096, 1000);
    cut.send(b"half of it");
    cut.stream.shutdown(std::net::Shutdown::Write).unwrap();
    assert!(cut.is_ended());

    assert_eq!(good.bytes(0, 10), b"still here");
}

#[test]
fn a_client_that_stops_reading_holds_little_memory_and_nobody_up() {
    let node = Daemon::start(&["--size", "64mb"]);
    let mut good = node.client("", false);
    assert_eq!(good.write(0, &pattern(32 << 20, 3)), Errno::NONE);
    let before = node.resident_bytes();
    let mut deaf = node.client("", false);
    // 64 MiB of requests for 75 TB of replies; the node stops taking them long before.
    deaf.stream.set_write_timeout(Some(std::time::Duration::from_millis(300))).unwrap();
    let request = Request::new(Command::READ, 1, 0, 32 << 20);
    let many = request.as_bytes().repeat(64 << 10);
    let all = (0..36).try_for_each(|_| std::io::Write::write_all(&mut deaf.stream, &many));
    assert!(all.is_err(), "the node has taken everything");
    assert!(node.resident_bytes() < before + 4 * MIB);
    assert_eq!(good.bytes(4096, 4096), pattern(8192, 3)[4096..]);
}

#[test]
fn what_was_asked_before_a_goodbye_is_still_answered() {
    let node = Daemon::start(&["--size", "64mb"]);
    let mut client = node.client("", false);
    let last = [
        Request::new(Command::TRIM, 1, 0, 64 << 20),
        Request::new(Command::READ, 2, 0, 0),
        Request::new(Command::DISC, 3, 0, 0),
    ];
    client.send(&last.map(|request| request.as_bytes().to_vec()).concat());
    assert_eq!([client.reply(), client.reply()], [(2, Errno::NONE), (1, Errno::NONE)]);
    assert!(client.is_ended());
}
