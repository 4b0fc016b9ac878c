//! How a link comes to a node: connect, negotiate, and find out whether the node still has what was written.
//!
//! ```text
//!   connect ─► [STARTTLS, handshake] ─► GO ─► size, flags, description ─┬─ remora generation= ─► identity
//!                                                                       └─ none: a token in the last page
//!   CAN_MULTI_CONN? ─► the other connections
//! ```
//!
//! Everything here blocks, for no longer than the URI's timeout a step: at the start of a server that is what is
//! wanted, and later it runs in a thread of its own. Refuses read-only exports, and nodes that want other blocks than
//! pages. Does not ask for structured replies: a simple reply costs fewer bytes, and its payload has no offset.

use super::proto::{
    BlockSizeInfo, Command, Errno, ExportFlags, ExportInfo, ExportRequest, Generation, Greeting,
    HandshakeFlags, InfoKind, NBD_MAGIC, OPTION_BYTES_MAX, OPTION_MAGIC, OPTION_REPLY_MAGIC, Opt, OptReply,
    OptionHeader, OptionReply, PAYLOAD_BYTES_MAX, Request, SIMPLE_REPLY_MAGIC, SimpleReply,
};
use super::tls;
use super::uri::{NbdUri, Place};
use farmem::PAGE_SIZE;
use rustix::rand::{GetRandomFlags, getrandom};
use rustls::ClientConnection;
use socket2::{SockRef, Socket};
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::time::Duration;
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes};

/// Replies to GO that are no lie: one for each information there is, and some that we do not know.
const REPLIES_MAX: usize = 64;
/// Bytes of the token by which a node without a generation is known again.
const TOKEN_BYTES: usize = 32;
/// What precedes the token in its page.
const TOKEN_MARK: &[u8; 16] = b"remora far token";

/// One connection to a node.
pub(super) struct Stream {
    pub(super) socket: Socket,
    pub(super) tls: Option<Box<ClientConnection>>,
}

/// By what the content of an export is known again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Identity {
    /// The node says so itself.
    Generation(Generation),
    /// The link has written it into the last page.
    Token([u8; TOKEN_BYTES]),
}

/// A node that has been reached.
pub(super) struct Dialed {
    /// At least one; they do not block.
    pub(super) streams: Vec<Stream>,
    /// Pages that may be used.
    pub(super) pages: u32,
    pub(super) flags: ExportFlags,
    /// Units: pages of one request.
    pub(super) request_pages_max: u32,
    pub(super) identity: Identity,
}

/// What the negotiation tells of an export.
struct Export {
    size_bytes: u64,
    flags: ExportFlags,
    payload_bytes_max: u32,
    generation: Option<Generation>,
}

/// Comes to a node, for the first time or (with the identity that it had) again.
///
/// # Errors
/// Why not, in words that fit behind the URI.
pub(super) fn dial(uri: &NbdUri, known: Option<Identity>) -> io::Result<Dialed> {
    let (mut first, export) = connect(uri)?;
    if export.flags.contains(ExportFlags::READ_ONLY) {
        return Err(wrong("the export is read-only"));
    }
    let size_bytes = uri.size_bytes.unwrap_or(export.size_bytes);
    if size_bytes > export.size_bytes {
        return Err(wrong(&format!("the export has only {} bytes", export.size_bytes)));
    }
    let mut pages = crate::whole_pages(size_bytes)?;
    let identity = match (known, export.generation) {
        (None | Some(Identity::Generation(_)), Some(generation)) => Identity::Generation(generation),
        _ => {
            // The page behind those that are used, if the export has one more than was asked for.
            if u64::from(pages) * PAGE_SIZE as u64 + PAGE_SIZE as u64 > export.size_bytes {
                pages -= 1;
            }
            meet_token(&mut first, pages, known)?
        }
    };
    if pages == 0 {
        return Err(wrong("the export is smaller than two pages"));
    }
    let mut streams = vec![first];
    if export.flags.contains(ExportFlags::CAN_MULTI_CONN) {
        for _ in 1..uri.connections {
            streams.push(connect(uri)?.0);
        }
    }
    for stream in &streams {
        stream.socket.set_nonblocking(true)?;
    }
    let request_pages_max = (export.payload_bytes_max / PAGE_SIZE as u32).max(1);
    Ok(Dialed { streams, pages, flags: export.flags, request_pages_max, identity })
}

/// One negotiated connection.
fn connect(uri: &NbdUri) -> io::Result<(Stream, Export)> {
    let timeout = Duration::from_nanos(uri.timeout_ns);
    let socket = reach(&uri.place, timeout).map_err(|error| explain("cannot connect", error))?;
    socket.set_read_timeout(Some(timeout))?;
    socket.set_write_timeout(Some(timeout))?;
    let mut stream = Stream { socket, tls: None };
    greet(&mut stream).map_err(|error| explain("no NBD node answers there", error))?;
    if uri.tls {
        start_tls(&mut stream, uri).map_err(|error| explain("cannot speak TLS", error))?;
    }
    let export = go(&mut stream, &uri.export)
        .map_err(|error| explain(&format!("cannot use export '{}'", uri.export), error))?;
    Ok((stream, export))
}

fn reach(place: &Place, timeout: Duration) -> io::Result<Socket> {
    match place {
        Place::Unix(path) => UnixStream::connect(path).map(Socket::from),
        Place::Tcp { host, port } => reach_tcp(host, *port, timeout).map(Socket::from),
    }
}

/// A TCP connection to the first address of a host that answers, each given `timeout`.
pub(crate) fn reach_tcp(host: &str, port: u16, timeout: Duration) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
    for address in (host, port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, timeout) {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                SockRef::from(&stream).set_keepalive(true)?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn greet(stream: &mut Stream) -> io::Result<()> {
    let greeting: Greeting = receive(stream)?;
    if (greeting.magic.get(), greeting.newstyle.get()) != (NBD_MAGIC, OPTION_MAGIC) {
        return Err(wrong("its greeting is another protocol's"));
    }
    let flags = HandshakeFlags::from_bits_truncate(greeting.flags.get());
    if !flags.contains(HandshakeFlags::FIXED_NEWSTYLE) {
        return Err(wrong("it is too old for the fixed newstyle negotiation"));
    }
    let ours = flags & (HandshakeFlags::FIXED_NEWSTYLE | HandshakeFlags::NO_ZEROES);
    stream.write_all(&u32::from(ours.bits()).to_be_bytes())
}

fn start_tls(stream: &mut Stream, uri: &NbdUri) -> io::Result<()> {
    let mut client = tls::client(uri)?;
    stream.write_all(OptionHeader::new(Opt::STARTTLS, 0).as_bytes())?;
    let (reply, words) = option_reply(stream, Opt::STARTTLS)?;
    if reply != OptReply::ACK {
        return Err(refused(reply, &words));
    }
    while client.is_handshaking() {
        client.complete_io(&mut &stream.socket)?;
    }
    stream.tls = Some(Box::new(client));
    Ok(())
}

/// Starts with an export.
fn go(stream: &mut Stream, name: &str) -> io::Result<Export> {
    let mut data = Vec::new();
    ExportRequest { name, wanted: &[InfoKind::DESCRIPTION, InfoKind::BLOCK_SIZE] }.encode(&mut data);
    let mut option = OptionHeader::new(Opt::GO, data.len() as u32).as_bytes().to_vec();
    option.append(&mut data);
    stream.write_all(&option)?;
    let (mut size, mut generation, mut payload_bytes_max) = (None, None, PAYLOAD_BYTES_MAX);
    for _ in 0..REPLIES_MAX {
        let (reply, data) = option_reply(stream, Opt::GO)?;
        if reply == OptReply::ACK {
            let (size_bytes, flags) = size.ok_or_else(|| wrong("it does not tell its size"))?;
            return Ok(Export { size_bytes, flags, payload_bytes_max, generation });
        }
        if reply != OptReply::INFO {
            return Err(refused(reply, &data));
        }
        let Ok((kind, rest)) = InfoKind::read_from_prefix(&data) else { continue };
        if kind == InfoKind::EXPORT
            && let Ok(info) = ExportInfo::read_from_bytes(rest)
        {
            size = Some((info.size.get(), ExportFlags::from_bits_retain(info.flags.get())));
        } else if kind == InfoKind::DESCRIPTION {
            generation = std::str::from_utf8(rest).ok().and_then(Generation::of_description);
        } else if kind == InfoKind::BLOCK_SIZE
            && let Ok(sizes) = BlockSizeInfo::read_from_bytes(rest)
        {
            if sizes.minimum.get() > PAGE_SIZE as u32 {
                return Err(wrong(&format!("its blocks are {} bytes, larger than a page", sizes.minimum)));
            }
            payload_bytes_max = sizes.maximum.get().min(PAYLOAD_BYTES_MAX);
        }
    }
    Err(wrong("it never ends its answer"))
}

fn option_reply(stream: &mut Stream, option: Opt) -> io::Result<(OptReply, Vec<u8>)> {
    let header: OptionReply = receive(stream)?;
    let len = header.len.get();
    if header.magic.get() != OPTION_REPLY_MAGIC || header.option != option || len > OPTION_BYTES_MAX {
        return Err(wrong("its answer makes no sense"));
    }
    let mut data = vec![0; len as usize];
    stream.read_exact(&mut data)?;
    Ok((header.reply, data))
}

/// Reads the token that is known, and writes another where it is not.
fn meet_token(stream: &mut Stream, page: u32, known: Option<Identity>) -> io::Result<Identity> {
    let offset = u64::from(page) * PAGE_SIZE as u64;
    let mut content = [0; PAGE_SIZE];
    if let Some(Identity::Token(token)) = known {
        transact(stream, Request::new(Command::READ, 1, offset, PAGE_SIZE as u32), &[])?;
        stream.read_exact(&mut content)?;
        if content.starts_with(TOKEN_MARK) && content[TOKEN_MARK.len()..].starts_with(&token) {
            return Ok(Identity::Token(token));
        }
    }
    let mut token = [0; TOKEN_BYTES];
    getrandom(&mut token, GetRandomFlags::empty())?;
    content.fill(0);
    content[..TOKEN_MARK.len()].copy_from_slice(TOKEN_MARK);
    content[TOKEN_MARK.len()..][..TOKEN_BYTES].copy_from_slice(&token);
    transact(stream, Request::new(Command::WRITE, 1, offset, PAGE_SIZE as u32), &content)?;
    Ok(Identity::Token(token))
}

/// A request and the head of its reply, with nothing else under way.
fn transact(stream: &mut Stream, request: Request, payload: &[u8]) -> io::Result<()> {
    stream.write_all(&[request.as_bytes(), payload].concat())?;
    let reply: SimpleReply = receive(stream)?;
    match reply {
        SimpleReply { magic, error: Errno::NONE, cookie }
            if magic.get() == SIMPLE_REPLY_MAGIC && cookie == request.cookie =>
        {
            Ok(())
        }
        SimpleReply { error, .. } => Err(wrong(&format!("its last page cannot be used ({error:?})"))),
    }
}

fn receive<T: FromBytes + FromZeros + IntoBytes + Immutable>(stream: &mut Stream) -> io::Result<T> {
    let mut value = T::new_zeroed();
    stream.read_exact(value.as_mut_bytes())?;
    Ok(value)
}

/// Only while it blocks.
impl Read for Stream {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match &mut self.tls {
            None => (&self.socket).read(into),
            Some(tls) => rustls::Stream::new(tls.as_mut(), &mut &self.socket).read(into),
        }
    }
}

/// Only while it blocks.
impl Write for Stream {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        match &mut self.tls {
            None => (&self.socket).write(from),
            Some(tls) => rustls::Stream::new(tls.as_mut(), &mut &self.socket).write(from),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.tls {
            None => Ok(()),
            Some(tls) => rustls::Stream::new(tls.as_mut(), &mut &self.socket).flush(),
        }
    }
}

fn wrong(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

fn refused(reply: OptReply, words: &[u8]) -> io::Error {
    let what = match reply {
        OptReply::ERR_UNKNOWN => "the node has no such export".into(),
        OptReply::ERR_TLS_REQD => "the node wants TLS: nbds".into(),
        OptReply::ERR_UNSUP | OptReply::ERR_POLICY => format!("the node refuses it ({reply:?})"),
        other => format!("{other:?}"),
    };
    let words = String::from_utf8_lossy(words);
    let words = words.trim();
    wrong(&if words.is_empty() { what } else { format!("{what}: {}", words.escape_debug()) })
}

/// Says what could not be done, and that nobody answers where that is why.
pub(crate) fn explain(what: &str, error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
            io::Error::new(io::ErrorKind::TimedOut, format!("{what}: no answer in time"))
        }
        io::ErrorKind::UnexpectedEof => io::Error::new(error.kind(), format!("{what}: the node has hung up")),
        kind => io::Error::new(kind, format!("{what}: {error}")),
    }
}
