//! The fixed newstyle negotiation, from the server's side.
//!
//! ```text
//!   greet ──► negotiate ─┬─ GO, EXPORT_NAME ──► Agreed::Serve
//!                ▲       ├─ STARTTLS ─────────► Agreed::Tls ──┐
//!                │       └─ ABORT ────────────► Agreed::Gone  │
//!                └──── forgets all it knew ───────────────────┘
//! ```
//!
//! Works on anything that reads and writes, so tests and fuzzing need no socket. Reads no byte beyond an option, so
//! nothing that was sent in the clear is ever taken for TLS. Refuses a client that makes no sense by an error,
//! which ends its connection.
//! Source: proto.md of the NBD project, "Newstyle negotiation" and "Fixed newstyle negotiation"

use crate::export::{Export, Exports};
use farmem_link::nbd::proto::{
    BlockSizeInfo, EXPORT_NAME_ZEROES, ExportFlags, ExportInfo, ExportRequest, Greeting, HandshakeFlags,
    InfoKind, OPTION_BYTES_MAX, OPTION_MAGIC, Opt, OptReply, OptionHeader, OptionReply, PAYLOAD_BYTES_MAX,
    STRING_BYTES_MAX,
};
use std::io::{self, Read, Write};
use zerocopy::byteorder::big_endian::U32;
use zerocopy::{FromZeros, IntoBytes};

/// Options of one negotiation. `nbdinfo --list` needs one an export, a client that starts three or four.
const OPTIONS_MAX: usize = 1024;

/// Data of an option that is refused politely; above that it is no option.
const SKIP_BYTES_MAX: u32 = 64 << 10;

/// The block sizes that we tell: any is served, pages are best.
const PREFERRED_BLOCK_BYTES: u32 = 4096;

/// What TLS a connection gets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TlsOffer {
    /// There is none.
    Off,
    /// It may be started.
    Offered,
    /// Nothing else is answered before it.
    Required,
    /// It runs.
    Running,
}

/// How a negotiation ends.
pub enum Agreed<'a> {
    /// Requests for this export follow.
    Serve {
        /// Which one.
        export: &'a Export,
        /// Whether a READ is answered in chunks.
        structured: bool,
    },
    /// TLS follows, and then another negotiation.
    Tls,
    /// The client has gone.
    Gone,
}

/// Greets a client, and answers what it says of itself.
///
/// # Errors
/// Of the stream; `InvalidData` if the client is none.
pub fn greet(stream: &mut (impl Read + Write)) -> io::Result<HandshakeFlags> {
    let ours = HandshakeFlags::FIXED_NEWSTYLE | HandshakeFlags::NO_ZEROES;
    stream.write_all(Greeting::new(ours).as_bytes())?;
    stream.flush()?;
    let mut theirs = U32::ZERO;
    stream.read_exact(theirs.as_mut_bytes())?;
    let known = u16::try_from(theirs.get()).ok().and_then(HandshakeFlags::from_bits);
    known.ok_or_else(|| wrong("it sets flags that do not exist"))
}

/// Answers options until the client starts, goes, or wants TLS.
///
/// # Errors
/// Of the stream; `InvalidData` if the client breaks the protocol.
pub fn negotiate<'a>(
    stream: &mut (impl Read + Write),
    exports: &'a Exports,
    flags: HandshakeFlags,
    tls: TlsOffer,
) -> io::Result<Agreed<'a>> {
    let mut structured = false;
    for _ in 0..OPTIONS_MAX {
        let mut header = OptionHeader::new_zeroed();
        stream.read_exact(header.as_mut_bytes())?;
        if header.magic.get() != OPTION_MAGIC {
            return Err(wrong("it sends something that is no option"));
        }
        let mut answers = Answers { option: header.option, bytes: Vec::new() };
        let Some(data) = read_data(stream, header.len.get())? else {
            answers.refuse(OptReply::ERR_TOO_BIG, "no option needs that much");
            answers.send(stream)?;
            continue;
        };
        let agreed = match header.option {
            Opt::ABORT => {
                answers.push(OptReply::ACK, &[]);
                // A client may go without waiting for it.
                let _ = answers.send(stream);
                return Ok(Agreed::Gone);
            }
            Opt::STARTTLS => start_tls(&mut answers, &data, tls).then_some(Agreed::Tls),
            Opt::EXPORT_NAME if tls == TlsOffer::Required => return Err(wrong("it does not speak TLS")),
            _ if tls == TlsOffer::Required => {
                answers.refuse(OptReply::ERR_TLS_REQD, "this node speaks TLS only");
                None
            }
            Opt::EXPORT_NAME => {
                let export = start_by_name(stream, exports, &data, flags, structured)?;
                return Ok(Agreed::Serve { export, structured });
            }
            Opt::LIST => {
                list(&mut answers, exports, &data);
                None
            }
            Opt::STRUCTURED_REPLY if data.is_empty() => {
                structured = true;
                answers.push(OptReply::ACK, &[]);
                None
            }
            Opt::STRUCTURED_REPLY => {
                answers.refuse(OptReply::ERR_INVALID, "it takes no data");
                None
            }
            Opt::INFO | Opt::GO => describe(&mut answers, exports, &data, structured)
                .filter(|_| header.option == Opt::GO)
                .map(|export| Agreed::Serve { export, structured }),
            _ => {
                answers.refuse(OptReply::ERR_UNSUP, "not known here");
                None
            }
        };
        answers.send(stream)?;
        if let Some(agreed) = agreed {
            return Ok(agreed);
        }
    }
    Err(wrong("it negotiates without end"))
}

/// The data of an option; `None` if they are too many, and then they have been skipped.
fn read_data(stream: &mut impl Read, len: u32) -> io::Result<Option<Vec<u8>>> {
    if len > SKIP_BYTES_MAX {
        return Err(wrong("its option is longer than any option is"));
    }
    let mut data = vec![0; len as usize];
    stream.read_exact(&mut data)?;
    Ok((len <= OPTION_BYTES_MAX).then_some(data))
}

fn start_tls(answers: &mut Answers, data: &[u8], tls: TlsOffer) -> bool {
    match tls {
        TlsOffer::Off => answers.refuse(OptReply::ERR_POLICY, "this node has no certificate"),
        TlsOffer::Running => answers.refuse(OptReply::ERR_INVALID, "TLS runs already"),
        _ if !data.is_empty() => answers.refuse(OptReply::ERR_INVALID, "it takes no data"),
        TlsOffer::Offered | TlsOffer::Required => {
            answers.push(OptReply::ACK, &[]);
            return true;
        }
    }
    false
}

/// The oldest way to start: no answer but the export, and no way to say no but to go.
fn start_by_name<'a>(
    stream: &mut impl Write,
    exports: &'a Exports,
    name: &[u8],
    flags: HandshakeFlags,
    structured: bool,
) -> io::Result<&'a Export> {
    let name = std::str::from_utf8(name).map_err(|_| wrong("its export's name is not UTF-8"))?;
    let export = exports.get(name).ok_or_else(|| wrong("it asks for an export that does not exist"))?;
    let mut answer = export_info(export, structured).as_bytes().to_vec();
    if !flags.contains(HandshakeFlags::NO_ZEROES) {
        answer.resize(ExportInfo::LEN + EXPORT_NAME_ZEROES, 0);
    }
    stream.write_all(&answer)?;
    stream.flush()?;
    Ok(export)
}

fn list(answers: &mut Answers, exports: &Exports, data: &[u8]) {
    if !data.is_empty() {
        return answers.refuse(OptReply::ERR_INVALID, "it takes no data");
    }
    for export in exports.iter() {
        let mut entry = (export.name.len() as u32).to_be_bytes().to_vec();
        entry.extend_from_slice(export.name.as_bytes());
        entry.extend_from_slice(export.generation.description().as_bytes());
        answers.push(OptReply::SERVER, &entry);
    }
    answers.push(OptReply::ACK, &[]);
}

/// Answers INFO and GO; `None` if that was no.
fn describe<'a>(
    answers: &mut Answers,
    exports: &'a Exports,
    data: &[u8],
    structured: bool,
) -> Option<&'a Export> {
    let Some(request) = ExportRequest::decode(data) else {
        answers.refuse(OptReply::ERR_INVALID, "its data make no sense");
        return None;
    };
    let Some(export) = exports.get(request.name) else {
        answers.refuse(OptReply::ERR_UNKNOWN, "no such export");
        return None;
    };
    answers.info(InfoKind::EXPORT, export_info(export, structured).as_bytes());
    // Once each, however often they are asked for.
    for kind in [InfoKind::NAME, InfoKind::DESCRIPTION, InfoKind::BLOCK_SIZE] {
        match kind {
            _ if !request.wanted.contains(&kind) => {}
            InfoKind::NAME => answers.info(kind, export.name.as_bytes()),
            InfoKind::DESCRIPTION => answers.info(kind, export.generation.description().as_bytes()),
            _ => {
                let sizes = BlockSizeInfo {
                    minimum: 1.into(),
                    preferred: PREFERRED_BLOCK_BYTES.into(),
                    maximum: PAYLOAD_BYTES_MAX.into(),
                };
                answers.info(kind, sizes.as_bytes());
            }
        }
    }
    answers.push(OptReply::ACK, &[]);
    Some(export)
}

fn export_info(export: &Export, structured: bool) -> ExportInfo {
    let df = if structured { ExportFlags::SEND_DF } else { ExportFlags::empty() };
    ExportInfo { size: export.memory.len().into(), flags: (Export::FLAGS | df).bits().into() }
}

/// The answers to one option, sent together.
struct Answers {
    option: Opt,
    bytes: Vec<u8>,
}

impl Answers {
    fn push(&mut self, reply: OptReply, data: &[u8]) {
        debug_assert!(
            data.len() <= 4 + 2 * STRING_BYTES_MAX,
            "an answer is a name and a description at most"
        );
        self.bytes.extend_from_slice(OptionReply::new(self.option, reply, data.len() as u32).as_bytes());
        self.bytes.extend_from_slice(data);
    }

    fn refuse(&mut self, error: OptReply, why: &str) {
        self.push(error, why.as_bytes());
    }

    fn info(&mut self, kind: InfoKind, data: &[u8]) {
        self.push(OptReply::INFO, &[kind.as_bytes(), data].concat());
    }

    fn send(self, stream: &mut impl Write) -> io::Result<()> {
        stream.write_all(&self.bytes)?;
        stream.flush()
    }
}

fn wrong(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}
