//! Fuzz target: the decoder of requests.
//!
//! However a stream is cut into pieces, the same commands come out and the same error ends it; spans lie
//! within the bytes; every step moves on. Refuses to judge which commands are right: the codec's own tests do.

use super::Target;
use engine::resp::decode::{Decoder, Limits, Parsed, ProtocolError, Span};
use std::hash::{DefaultHasher, Hash, Hasher};

/// The decoder, whole input against pieces.
pub struct Resp;

/// What came out of one stream.
#[derive(PartialEq, Eq, Debug, Default)]
struct Heard {
    commands: Vec<Vec<Vec<u8>>>,
    error: Option<ProtocolError>,
}

impl Target for Resp {
    fn run(&mut self, input: &[u8]) -> u64 {
        let Some((&step, stream)) = input.split_first() else { return 0 };
        let limits = Limits {
            bulk_len_max: 512 << 20,
            spool_min: if step & 1 == 0 { u64::MAX } else { 64 },
            authenticated: step & 2 == 0,
        };
        let whole = hear(stream, stream.len().max(1), &limits);
        let pieces = hear(stream, 1 + usize::from(step >> 2), &limits);
        assert_eq!(whole, pieces, "cut every {} bytes", 1 + (step >> 2));
        signature(&whole, step)
    }

    fn inputs_max(&self) -> usize {
        usize::MAX
    }
}

/// All commands of `stream` as it arrives in pieces of `piece` bytes.
fn hear(stream: &[u8], piece: usize, limits: &Limits) -> Heard {
    let (mut heard, mut decoder, mut spans) = (Heard::default(), Decoder::default(), Vec::<Span>::new());
    let (mut start, mut end) = (0, 0);
    loop {
        let buffer = &stream[start..end];
        let consumed = match decoder.parse(buffer, &mut spans, limits) {
            Err(error) => {
                let mut reply = Vec::new();
                error.encode(&mut reply);
                assert!(reply.starts_with(b"-ERR Protocol error: ") && reply.ends_with(b"\r\n"));
                heard.error = Some(error);
                return heard;
            }
            Ok(Parsed::Complete { consumed }) => {
                heard.commands.push(spans.iter().map(|span| span.of(buffer).to_vec()).collect());
                consumed
            }
            Ok(Parsed::Unquoted { consumed }) => {
                let unquoted = decoder.take_unquoted();
                heard.commands.push(spans.iter().map(|span| span.of(&unquoted).to_vec()).collect());
                consumed
            }
            Ok(Parsed::Empty { consumed }) => consumed,
            Ok(Parsed::Incomplete { missing }) => {
                assert!(missing > 0, "an incomplete command lacks something");
                if end == stream.len() {
                    return heard;
                }
                end = (end + piece).min(stream.len());
                continue;
            }
            Ok(Parsed::BigBulk { arg, argc, data_start, .. }) => {
                assert!(arg < argc && data_start <= buffer.len());
                if end == stream.len() {
                    return heard;
                }
                end = (end + piece).min(stream.len());
                continue;
            }
        };
        assert!(consumed > 0 && consumed <= buffer.len(), "a command takes bytes that are there");
        start += consumed;
    }
}

/// Which error, and the rough number and shape of the first command.
fn signature(heard: &Heard, step: u8) -> u64 {
    let mut hasher = DefaultHasher::new();
    (step & 3, heard.commands.len().min(4)).hash(&mut hasher);
    heard.error.map(|error| std::mem::discriminant(&error)).hash(&mut hasher);
    for command in heard.commands.iter().take(2) {
        command.len().min(4).hash(&mut hasher);
        command.iter().take(2).for_each(|word| word.len().min(3).hash(&mut hasher));
    }
    hasher.finish()
}
