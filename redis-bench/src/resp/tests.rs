//! The scanner against the `redis-protocol` crate, in whole and in pieces.

use bytes::Bytes;
use proptest::prelude::*;
use redis_protocol::resp2::decode::decode;
use redis_protocol::resp2::encode::extend_encode;
use redis_protocol::resp2::types::{BytesFrame, OwnedFrame};

use super::*;

fn leaf() -> impl Strategy<Value = BytesFrame> {
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..200).prop_map(|b| BytesFrame::BulkString(Bytes::from(b))),
        "[ -~]{0,30}".prop_map(|s| BytesFrame::SimpleString(Bytes::from(s))),
        "[A-Z]{3} [ -~]{0,90}".prop_map(|s| BytesFrame::Error(s.as_str().into())),
        (-1_000_000_000_000i64..1_000_000_000_000).prop_map(BytesFrame::Integer),
        Just(BytesFrame::Null),
    ]
}

fn frame() -> impl Strategy<Value = BytesFrame> {
    leaf().prop_recursive(4, 40, 6, |inner| prop::collection::vec(inner, 0..6).prop_map(BytesFrame::Array))
}

fn payload(frame: &BytesFrame) -> u64 {
    match frame {
        BytesFrame::BulkString(body) => body.len() as u64,
        BytesFrame::Array(frames) => frames.iter().map(payload).sum(),
        _ => 0,
    }
}

fn measured(frame: &BytesFrame) -> Reply {
    let (kind, integer, elements) = match frame {
        BytesFrame::BulkString(_) => (Kind::Bulk, 0, 0),
        BytesFrame::SimpleString(_) => (Kind::Simple, 0, 0),
        BytesFrame::Error(_) => (Kind::Error, 0, 0),
        BytesFrame::Integer(n) => (Kind::Integer, *n, 0),
        BytesFrame::Null => (Kind::Nil, 0, 0),
        BytesFrame::Array(frames) => (Kind::Array, 0, frames.len() as u64),
    };
    Reply { kind, integer, elements, payload_bytes: payload(frame) }
}

proptest! {
    #[test]
    fn every_reply_is_measured_as_redis_protocol_decodes_it(
        frames in prop::collection::vec(frame(), 1..6),
        cuts in prop::collection::vec(1usize..40, 1..20),
    ) {
        let mut wire = bytes::BytesMut::new();
        for frame in &frames {
            extend_encode(&mut wire, frame, false).expect("the frame can be written");
        }
        let mut scanner = Scanner::default();
        let mut got = Vec::new();
        let (mut at, mut cuts) = (0, cuts.iter().cycle());
        while at < wire.len() {
            let end = wire.len().min(at + cuts.next().expect("endless"));
            let mut piece = &wire[at..end];
            while !piece.is_empty() {
                let (used, reply) = scanner.advance(piece).expect("the wire is RESP2");
                piece = &piece[used..];
                got.extend(reply);
            }
            at = end;
        }
        prop_assert_eq!(got, frames.iter().map(measured).collect::<Vec<_>>());
    }

    #[test]
    fn no_bytes_make_the_scanner_panic(input in prop::collection::vec(any::<u8>(), 0..300)) {
        let mut scanner = Scanner::default();
        let mut rest = &input[..];
        while let Ok((used, _)) = scanner.advance(rest) {
            rest = &rest[used..];
            if rest.is_empty() {
                break;
            }
        }
        prop_assert!(bulks(&input).count() <= input.len());
    }

    #[test]
    fn bulks_of_a_reply_come_out_as_they_went_in(bodies in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..50), 1..6)) {
        let frames = bodies.iter().map(|b| BytesFrame::BulkString(Bytes::copy_from_slice(b))).collect();
        let mut wire = bytes::BytesMut::new();
        extend_encode(&mut wire, &BytesFrame::Array(frames), false).expect("the frame can be written");
        let got: Result<Vec<_>, _> = bulks(&wire).collect();
        prop_assert_eq!(got.expect("the wire is RESP2"), bodies.iter().map(Vec::as_slice).collect::<Vec<_>>());
    }
}

#[test]
fn requests_decode_to_what_was_meant() {
    let mut wire = Vec::new();
    push_keyed(&mut wire, b"*4\r\n$6\r\nLRANGE\r\n$16\r\nkey:", 1_234_567);
    push_number(&mut wire, 0);
    push_number(&mut wire, 599);
    let (frame, used) = decode(&wire).expect("RESP2").expect("whole");
    assert_eq!(used, wire.len());
    let bulk = |text: &str| OwnedFrame::BulkString(text.into());
    let expected = [bulk("LRANGE"), bulk("key:000001234567"), bulk("0"), bulk("599")];
    assert_eq!(frame, OwnedFrame::Array(expected.into()));
}

#[test]
fn what_is_not_resp2_is_refused() {
    for wire in [
        &b"$x\r\n"[..],
        b"GET\r\n",
        b"+OK\n",
        b"$-2\r\n",
        b":\r\n",
        b"%1\r\n",
        b"*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n",
    ] {
        assert_eq!(Scanner::default().advance(wire), Err(Malformed), "{wire:?}");
    }
}

#[test]
fn a_bulk_with_a_wrong_end_is_seen() {
    assert_eq!(bulks(b"$2\r\nab\r\n").collect::<Vec<_>>(), [Ok(&b"ab"[..])]);
    assert_eq!(bulks(b"$2\r\nabc\r\n").collect::<Vec<_>>(), [Err(Malformed)]);
    assert_eq!(bulks(b"*2\r\n$1\r\na\r\n$1\r\nb").collect::<Vec<_>>(), [Ok(&b"a"[..]), Err(Malformed)]);
}
