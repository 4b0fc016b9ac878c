//! The RESP codec against the `redis-protocol` crate, against Redis' limits, and against garbage.

use engine::resp::decode::{Decoder, LINE_LEN_MAX, Limits, Parsed, ProtocolError, Span};
use engine::resp::encode;
use proptest::prelude::*;
use redis_protocol::resp2::types::{OwnedFrame as Frame2, Resp2Frame};
use redis_protocol::resp3::types::OwnedFrame as Frame3;

const LIMITS: Limits = Limits { bulk_len_max: 512 << 20, spool_min: u64::MAX, authenticated: true };

/// What one whole input is: its arguments and the bytes it took, or how it ends.
#[derive(Debug, PartialEq, Clone)]
enum Outcome {
    Command(Vec<Vec<u8>>, usize),
    Empty(usize),
    Incomplete,
    Error(ProtocolError),
}

fn finish(decoder: &mut Decoder, buffer: &[u8], limits: &Limits) -> Outcome {
    let mut spans = Vec::new();
    let words = |spans: &[Span], text: &[u8]| spans.iter().map(|span| span.of(text).to_vec()).collect();
    match decoder.parse(buffer, &mut spans, limits) {
        Ok(Parsed::Complete { consumed }) => Outcome::Command(words(&spans, buffer), consumed),
        Ok(Parsed::Unquoted { consumed }) => {
            Outcome::Command(words(&spans, &decoder.take_unquoted()), consumed)
        }
        Ok(Parsed::Empty { consumed }) => Outcome::Empty(consumed),
        Ok(Parsed::Incomplete { .. } | Parsed::BigBulk { .. }) => Outcome::Incomplete,
        Err(error) => Outcome::Error(error),
    }
}

fn parse(buffer: &[u8]) -> Outcome {
    finish(&mut Decoder::default(), buffer, &LIMITS)
}

fn command(words: &[&str], consumed: usize) -> Outcome {
    Outcome::Command(words.iter().map(|word| word.as_bytes().to_vec()).collect(), consumed)
}

fn encode_request(words: &[Vec<u8>]) -> Vec<u8> {
    let frame = Frame2::Array(words.iter().cloned().map(Frame2::BulkString).collect());
    let mut out = vec![0; frame.encode_len(false)];
    let len = redis_protocol::resp2::encode::encode(&mut out, &frame, false)
        .expect("the buffer has encode_len bytes");
    out.truncate(len);
    out
}

fn error_text(error: ProtocolError) -> String {
    let mut out = Vec::new();
    error.encode(&mut out);
    String::from_utf8(out).expect("error texts are UTF-8")
}

#[test]
fn a_command_is_its_arguments() {
    let request = b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$5\r\nva\r\nl\r\n*1\r\n$4\r\nPING\r\n";
    assert_eq!(parse(request), command(&["SET", "k", "va\r\nl"], 31));
    assert_eq!(parse(&request[31..]), command(&["PING"], 14));
}

#[test]
fn nothing_to_run_is_empty() {
    for (request, consumed) in [
        ("*0\r\n", 4),
        ("*-1\r\n", 5),
        ("*-9223372036854775808\r\n", 23),
        ("\r\n", 2),
        ("\n", 1),
        (" \t\r\n", 4),
    ] {
        assert_eq!(parse(request.as_bytes()), Outcome::Empty(consumed), "{request:?}");
    }
}

#[test]
fn a_broken_request_gets_the_words_of_redis() {
    let long = |prefix: &str| prefix.to_string() + &"1".repeat(LINE_LEN_MAX + 1);
    for (request, text) in [
        ("*x\r\n".into(), "invalid multibulk length"),
        ("*\r\n".into(), "invalid multibulk length"),
        ("*03\r\n".into(), "invalid multibulk length"),
        ("*+3\r\n".into(), "invalid multibulk length"),
        ("*2147483648\r\n".into(), "invalid multibulk length"),
        ("*99999999999999999999\r\n".into(), "invalid multibulk length"),
        ("*1\r\n$\r\n".into(), "invalid bulk length"),
        ("*1\r\n$-1\r\n".into(), "invalid bulk length"),
        ("*1\r\n$01\r\n".into(), "invalid bulk length"),
        ("*1\r\n$x\r\n".into(), "invalid bulk length"),
        ("*1\r\n$536870913\r\n".into(), "invalid bulk length"),
        ("*1\r\n$9223372036854775807\r\n".into(), "invalid bulk length"),
        ("*1\r\nPING\r\n".into(), "expected '$', got 'P'"),
        ("*1\r\n\r\n".into(), "expected '$', got ' '"),
        ("*2\r\n$1\r\nabxc\r\n".into(), "expected '$', got 'c'"),
        ("get \"a\r\n".into(), "unbalanced quotes in request"),
        ("get \"a\"b\r\n".into(), "unbalanced quotes in request"),
        ("get 'a'b\r\n".into(), "unbalanced quotes in request"),
        (long("get "), "too big inline request"),
        (long("*"), "too big mbulk count string"),
        (long("*1\r\n$"), "too big bulk count string"),
    ] {
        let Outcome::Error(error) = parse(request.as_bytes()) else { panic!("{request:?} is no error") };
        assert_eq!(error_text(error), format!("-ERR Protocol error: {text}\r\n"));
    }
}

#[test]
fn a_client_that_has_not_authenticated_is_held_short() {
    let limits = Limits { authenticated: false, ..LIMITS };
    let parse = |request: &str| finish(&mut Decoder::default(), request.as_bytes(), &limits);
    assert_eq!(parse("*10\r\n"), Outcome::Incomplete);
    assert_eq!(parse("*11\r\n"), Outcome::Error(ProtocolError::UnauthenticatedMultibulkLength));
    assert_eq!(parse("*1\r\n$16384\r\n"), Outcome::Incomplete);
    assert_eq!(parse("*1\r\n$16385\r\n"), Outcome::Error(ProtocolError::UnauthenticatedBulkLength));
    let text = error_text(ProtocolError::UnauthenticatedBulkLength);
    assert_eq!(text, "-ERR Protocol error: unauthenticated bulk length\r\n");
    let text = error_text(ProtocolError::UnauthenticatedMultibulkLength);
    assert_eq!(text, "-ERR Protocol error: unauthenticated multibulk length\r\n");
}

#[test]
fn inline_commands_split_as_in_redis() {
    for (line, words) in [
        ("PING\r\n", &["PING"][..]),
        ("  set\tk  v \n", &["set", "k", "v"]),
        ("set k \"a b\"\r\n", &["set", "k", "a b"]),
        ("set k 'a b'\r\n", &["set", "k", "a b"]),
        ("set k \"\\x41\\n\\r\\t\\b\\a\\q\\\"\\\\\"\r\n", &["set", "k", "A\n\r\t\x08\x07q\"\\"]),
        ("set k 'it\\'s \\n'\r\n", &["set", "k", "it's \\n"]),
        ("set k foo\"bar\"\r\n", &["set", "k", "foobar"]),
        ("set k \"\"\r\n", &["set", "k", ""]),
        ("set k a\\x41\r\n", &["set", "k", "a\\x41"]),
        ("set k \"\\xZZ\"\r\n", &["set", "k", "xZZ"]),
        ("set \x0bk a\x0bb\r\n", &["set", "k", "a\x0bb"]),
        ("set \"a\"\x0b b\r\n", &["set", "a", "b"]),
    ] {
        assert_eq!(parse(line.as_bytes()), command(words, line.len()), "{line:?}");
    }
}

#[test]
fn a_nul_hides_the_end_of_the_line_as_in_redis() {
    assert_eq!(parse(b"get \0k\r\n"), Outcome::Incomplete);
    assert_eq!(parse(b"*1\0\r\n$4\r\nPING\r\n"), Outcome::Incomplete);
}

#[test]
fn a_big_argument_may_be_taken_out_of_band() {
    let limits = Limits { spool_min: 1000, ..LIMITS };
    let (mut decoder, mut spans) = (Decoder::default(), Vec::new());
    let mut buffer = b"*4\r\n$3\r\nSET\r\n$1\r\nk\r\n$5000\r\n".to_vec();
    let data_start = buffer.len();
    buffer.extend_from_slice(&[b'x'; 700]);
    let big = Parsed::BigBulk { arg: 2, argc: 4, len: 5000, data_start };
    assert_eq!(decoder.parse(&buffer, &mut spans, &limits), Ok(big));
    assert_eq!(
        decoder.pending().iter().map(|span| span.of(&buffer)).collect::<Vec<_>>(),
        [&b"SET"[..], b"k"]
    );
    // The engine takes the 5000 bytes as they come; behind them the command goes on.
    decoder.spooled();
    buffer.truncate(data_start);
    for byte in b"\r\n$2\r\nNX\r" {
        buffer.push(*byte);
        assert!(matches!(decoder.parse(&buffer, &mut spans, &limits), Ok(Parsed::Incomplete { .. })));
    }
    buffer.push(b'\n');
    let consumed = buffer.len();
    assert_eq!(decoder.parse(&buffer, &mut spans, &limits), Ok(Parsed::Complete { consumed }));
    assert_eq!(
        spans.iter().map(|span| span.of(&buffer)).collect::<Vec<_>>(),
        [&b"SET"[..], b"k", b"", b"NX"]
    );
}

#[test]
fn a_big_argument_may_also_be_waited_for() {
    let limits = Limits { spool_min: 10, ..LIMITS };
    let request = encode_request(&[b"ECHO".to_vec(), vec![b'x'; 64]]);
    let (mut decoder, mut spans) = (Decoder::default(), Vec::new());
    for end in 0..request.len() {
        let parsed = decoder.parse(&request[..end], &mut spans, &limits);
        assert!(matches!(parsed, Ok(Parsed::Incomplete { .. } | Parsed::BigBulk { .. })), "{parsed:?}");
    }
    let consumed = request.len();
    assert_eq!(decoder.parse(&request, &mut spans, &limits), Ok(Parsed::Complete { consumed }));
    assert_eq!(decoder.near_bytes(), 0, "nothing is kept for an idle client");
}

#[test]
fn what_is_missing_is_never_overstated() {
    let request = b"*2\r\n$4\r\nECHO\r\n$30\r\nxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\r\n";
    for end in 0..request.len() {
        match Decoder::default().parse(&request[..end], &mut Vec::new(), &LIMITS) {
            Ok(Parsed::Incomplete { missing }) => {
                assert!((1..=request.len() - end).contains(&missing))
            }
            other => panic!("{other:?} of {end} bytes"),
        }
    }
}

#[test]
fn a_long_line_that_dribbles_in_is_read_once() {
    let (mut decoder, mut spans) = (Decoder::default(), Vec::new());
    let line = vec![b'x'; LINE_LEN_MAX];
    for end in (1..line.len()).chain([line.len()]) {
        assert_eq!(decoder.parse(&line[..end], &mut spans, &LIMITS), Ok(Parsed::Incomplete { missing: 1 }));
    }
}

fn encoded(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    write(&mut out);
    out
}

fn decoded2(bytes: &[u8]) -> Frame2 {
    let (frame, len) =
        redis_protocol::resp2::decode::decode(bytes).expect("valid RESP").expect("a whole reply");
    assert_eq!(len, bytes.len());
    frame
}

fn decoded3(bytes: &[u8]) -> Frame3 {
    let (frame, len) =
        redis_protocol::resp3::decode::complete::decode(bytes).expect("valid RESP").expect("a whole reply");
    assert_eq!(len, bytes.len());
    frame
}

#[test]
fn replies_have_the_bytes_of_redis() {
    for (reply, expected) in [
        (encoded(|out| encode::simple(out, b"OK")), "+OK\r\n"),
        (encoded(|out| encode::error(out, b"ERR a\r\nb")), "-ERR a  b\r\n"),
        (encoded(|out| encode::null(out, false)), "$-1\r\n"),
        (encoded(|out| encode::null(out, true)), "_\r\n"),
        (encoded(|out| encode::null_array(out, false)), "*-1\r\n"),
        (encoded(|out| encode::array_len(out, 0)), "*0\r\n"),
        (encoded(|out| encode::array_len(out, 10)), "*10\r\n"),
        (encoded(|out| encode::array_len(out, 99)), "*99\r\n"),
        (encoded(|out| encode::array_len(out, 100)), "*100\r\n"),
        (encoded(|out| encode::map_len(out, 2, false)), "*4\r\n"),
        (encoded(|out| encode::map_len(out, 2, true)), "%2\r\n"),
        (encoded(|out| encode::set_len(out, 2, false)), "*2\r\n"),
        (encoded(|out| encode::set_len(out, 2, true)), "~2\r\n"),
        (encoded(|out| encode::push_len(out, 2, true)), ">2\r\n"),
        (encoded(|out| encode::double(out, 3.5, true)), ",3.5\r\n"),
        (encoded(|out| encode::double(out, 3.5, false)), "$3\r\n3.5\r\n"),
        (encoded(|out| encode::boolean(out, true, true)), "#t\r\n"),
        (encoded(|out| encode::boolean(out, true, false)), ":1\r\n"),
        (encoded(|out| encode::big_number(out, b"12", true)), "(12\r\n"),
        (encoded(|out| encode::verbatim(out, "txt", b"ab", true)), "=6\r\ntxt:ab\r\n"),
        (encoded(|out| encode::verbatim(out, "txt", b"ab", false)), "$2\r\nab\r\n"),
    ] {
        assert_eq!(String::from_utf8(reply).unwrap(), expected);
    }
}

proptest! {
    #[test]
    fn what_another_client_encodes_is_decoded(words in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 1..20)) {
        let request = encode_request(&words);
        prop_assert_eq!(parse(&request), Outcome::Command(words, request.len()));
    }

    #[test]
    fn where_the_bytes_are_cut_makes_no_difference(
        words in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 1..8),
        inline in prop_oneof!["[a-z \"'\\\\]{0,12}\r\n", "[*$]?[0-9]{0,3}\r\n[$*a]?[0-9]{0,2}\r\n[a-z\r\n]{0,9}"],
        whole: bool,
    ) {
        let request = if whole { encode_request(&words) } else { inline.into_bytes() };
        let expected = parse(&request);
        for cut in 0..request.len() {
            let mut decoder = Decoder::default();
            let early = finish(&mut decoder, &request[..cut], &LIMITS);
            let outcome = if early == Outcome::Incomplete { finish(&mut decoder, &request, &LIMITS) } else { early };
            prop_assert_eq!(&outcome, &expected, "cut at {}", cut);
        }
        let mut decoder = Decoder::default();
        let outcome = (0..=request.len())
            .map(|end| finish(&mut decoder, &request[..end], &LIMITS))
            .find(|outcome| *outcome != Outcome::Incomplete);
        prop_assert_eq!(outcome.unwrap_or(Outcome::Incomplete), expected, "byte by byte");
    }

    #[test]
    fn garbage_never_panics(
        bytes in prop::collection::vec(prop_oneof![Just(b'*'), Just(b'$'), Just(b'\r'), Just(b'\n'), Just(b'"'), b'0'..=b'9', any::<u8>()], 0..80),
        spool_min in 0u64..20,
        cut in 0usize..80,
    ) {
        let limits = Limits { spool_min, ..LIMITS };
        let mut decoder = Decoder::default();
        if finish(&mut decoder, &bytes[..cut.min(bytes.len())], &limits) == Outcome::Incomplete {
            finish(&mut decoder, &bytes, &limits);
        }
    }

    #[test]
    fn replies_are_read_by_another_client(value: i64, data in prop::collection::vec(any::<u8>(), 0..300), double: f64) {
        let reply = encoded(|out| {
            encode::array_len(out, 2);
            encode::integer(out, value);
            encode::bulk(out, &data);
        });
        prop_assert_eq!(decoded2(&reply), Frame2::Array(vec![Frame2::Integer(value), Frame2::BulkString(data)]));
        let reply = encoded(|out| encode::double(out, double, true));
        if let Frame3::Double { data, .. } = decoded3(&reply) {
            prop_assert!(data == double || data.is_nan() && double.is_nan());
        } else {
            prop_assert!(false, "no double: {:?}", reply);
        }
    }
}
