//! The engine: bytes and landed pages in, replies and transfers out.
//!
//! ```text
//!   body ── handle_input ──► parse ─► plan ─► acquire ─► execute ─► output ── slices, handle_written ──► body
//!                                               │  ▲
//!                                          park │  │ poll_ready
//!   body ◄── poll_transfer ── pager ◄───────────┘  │
//!   body ── handle_landed ──► pager ───────────────┘
//! ```
//!
//! Refuses to know what carries bytes and pages, and what time it is unless told.

use crate::client::{Client, ClientId, Clients, Peer};
use crate::config::Config;
use crate::crowd::Crowd;
use crate::far::Far;
use crate::keyspace::KeySpace;
use crate::reply::Output;
use crate::resp::decode::Span;
use crate::server::Server;
use crate::spool::SPOOL_MIN;
use crate::stream::Pumped;
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::vec::Vec;
use farmem::{Frame, FrameNo, Instant, Landed, PAGE_SIZE, PageRange, PageSet, Pager, Ticket, Transfer};
use hashbrown::HashMap;

/// What time it is, as the body says.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Now {
    /// The monotonic clock.
    pub monotonic: Instant,
    /// Units: milliseconds since 1970.
    pub unix_ms: u64,
    /// The rest of the current millisecond. Units: microseconds.
    pub unix_us_rest: u32,
}

/// A line a link for `INFO farmem`, from the body.
#[derive(Clone, Debug, Default)]
pub struct LinkReport {
    /// The link's URI.
    pub uri: String,
    /// `up` or what is wrong.
    pub state: String,
    /// Transfers in flight.
    pub in_flight: usize,
    /// Transfers that failed.
    pub errors: u64,
    /// Pages that it has missed and another link has.
    pub stale_pages: u64,
    /// Pages that it came back without and nobody has.
    pub lost_pages: u64,
    /// More about it, ready to be printed: `,name=value` each. Empty for most links.
    pub more: String,
}

/// The least frames that the store works with, however much near memory the index takes: one window for
/// a stream and the reserve. 64 frames are 256 KiB.
pub const FRAMES_MIN: u32 = 64;

/// A reply buffer above this stops the client's next commands until it drains. Units: bytes.
pub const OUTPUT_READY_MAX: usize = 1 << 20;

/// Ticks (100 ms each) after which a reply that does not move is put into far memory.
const STALLED_TICKS_MAX: u32 = 2;

/// The whole store.
pub struct Engine {
    pub(crate) keys: KeySpace,
    pub(crate) server: Server,
    pub(crate) clients: Clients,
    /// Who waits for which ticket.
    pub(crate) waiting: HashMap<Ticket, ClientId>,
    /// Clients that may go on: woken, or drained.
    pub(crate) ready: VecDeque<ClientId>,
    /// The one client whose waits keep their pages.
    pub(crate) reserving: Option<ClientId>,
    pub(crate) crowd: Crowd,
    pub(crate) scratch: Scratch,
}

/// Buffers that are reused from command to command.
#[derive(Default)]
pub(crate) struct Scratch {
    pub plan: PageSet,
    pub lookahead: PageSet,
    pub spans: Vec<Span>,
    #[allow(clippy::vec_box, reason = "they move between here and the clients that they are boxed for")]
    pub outputs: Vec<Box<Output>>,
    /// Empty input buffers: the next value that arrives in pieces needs no fresh memory.
    pub inputs: Vec<Vec<u8>>,
}

/// Input buffers kept for reuse, and how large each may be: two of the largest values that are not spooled.
/// 8 of 512 KiB are 4 MiB at most.
const INPUTS_KEPT_MAX: usize = 8;
const INPUT_KEPT_BYTES_MAX: usize = 2 * SPOOL_MIN;

impl Scratch {
    /// Keeps an input buffer for reuse, if it is worth that.
    pub fn keep_input(&mut self, mut input: Vec<u8>) {
        if self.inputs.len() < INPUTS_KEPT_MAX && input.capacity() <= INPUT_KEPT_BYTES_MAX {
            input.clear();
            self.inputs.push(input);
        }
    }

    /// Near memory that this takes. Units: bytes.
    fn near_bytes(&self) -> usize {
        let outputs: usize = self.outputs.iter().map(|output| output.near_bytes()).sum();
        outputs + self.inputs.iter().map(Vec::capacity).sum::<usize>()
    }
}

/// Reply buffers kept for reuse: 16 of 256 KiB are 4 MiB at most.
const OUTPUTS_KEPT_MAX: usize = 16;

impl Engine {
    /// A store over `pager`, whose arena has room for `config.local_memory`.
    ///
    /// `seed` must be hard to guess: it keeps clients from choosing keys of one fingerprint.
    pub fn new(config: Config, pager: Box<dyn Pager>, far_pages: u32, seed: u64, now: Now) -> Engine {
        let budget_frames = (config.local_memory / PAGE_SIZE as u64) as u32;
        let far = Far::new(pager, far_pages, budget_frames);
        let mut engine = Engine {
            keys: KeySpace::new(far, seed),
            server: Server::new(config, seed, now),
            clients: Clients::default(),
            waiting: HashMap::new(),
            ready: VecDeque::new(),
            reserving: None,
            crowd: Crowd::default(),
            scratch: Scratch::default(),
        };
        engine.handle_tick(now);
        engine
    }

    /// A connection was accepted. `Err` is what to send before closing it (too many clients, protected mode).
    pub fn handle_connected(&mut self, peer: Peer, now: Now) -> Result<ClientId, String> {
        self.server.refuse(&peer, self.clients.len())?;
        self.server.stats.connections_received += 1;
        let open = self.server.config.requirepass.is_empty();
        Ok(self.clients.insert(peer, now.unix_ms, open))
    }

    /// The connection is gone.
    pub fn handle_disconnected(&mut self, id: ClientId) {
        let Some(mut client) = self.clients.take(id) else { return };
        if let Some(ticket) = client.parked.take() {
            self.keys.far.pager.cancel(ticket);
            self.waiting.remove(&ticket);
        }
        if self.reserving == Some(id) {
            self.reserving = None;
        }
        if let Some(mut output) = client.output.take() {
            self.abandon(&mut output);
            self.keep_output(output);
        }
        self.end_walk(&mut client);
        self.drop_spools(&mut client);
        self.uncount_input(&mut client);
        self.clients.remove(client);
    }

    /// Bytes have arrived. Executes what can be executed; the rest waits in the client's input.
    pub fn handle_input(&mut self, id: ClientId, bytes: &[u8], now: Now) {
        let Some(mut client) = self.clients.take(id) else { return };
        self.server.stats.net_input_bytes += bytes.len() as u64;
        client.last_used_ms = now.unix_ms;
        self.accept(&mut client, bytes, now);
        self.put_back(client);
        self.disperse_crowd();
    }

    /// The other end sends no more: what it has sent is still executed and answered, then
    /// [`Engine::should_close`] says so.
    pub fn handle_input_end(&mut self, id: ClientId) {
        let Some(mut client) = self.clients.take(id) else { return };
        client.input_ended = true;
        self.close_if_done(&mut client);
        self.put_back(client);
    }

    /// A client that sends no more and has nothing left that could run closes with its last reply: half a
    /// command, if there is one, will never be whole.
    fn close_if_done(&self, client: &mut Client) {
        client.closing |= client.input_ended && self.may_run(client);
    }

    /// Whether the body should read more from this connection.
    /// If not, and that changes while no reply leaves, [`Engine::poll_ready`] names the client.
    pub fn wants_input(&mut self, id: ClientId) -> bool {
        self.clients.get(id).is_some_and(|client| self.may_read(client)) && !self.is_gated(id)
    }

    /// What leaves next for this client: fills `slices`, returns how many. Zero: nothing can leave now.
    pub fn output<'a>(&'a self, id: ClientId, slices: &mut [&'a [u8]]) -> usize {
        match self.clients.get(id).and_then(|client| client.output.as_ref()) {
            Some(output) => output.slices(&*self.keys.far.pager, slices),
            None => 0,
        }
    }

    /// The socket takes bytes again: fetches what leaves next, if that is not here. To be called before
    /// [`Engine::output`] when the client had nothing that could leave.
    pub fn handle_writable(&mut self, id: ClientId, now: Now) {
        let Some(mut client) = self.clients.take(id) else { return };
        let could_run = self.may_run(&client);
        self.pump(&mut client, now);
        self.ready_if_freed(&client, could_run);
        self.put_back(client);
    }

    /// `bytes` of the output have left. More may be ready afterwards.
    pub fn handle_written(&mut self, id: ClientId, bytes: usize, now: Now) {
        let Some(mut client) = self.clients.take(id) else { return };
        self.server.stats.net_output_bytes += bytes as u64;
        let could_run = self.may_run(&client);
        client.stalled_ticks = 0;
        if let Some(output) = client.output.as_mut() {
            output.advance(bytes, &mut *self.keys.far.pager);
        }
        self.pump(&mut client, now);
        self.ready_if_freed(&client, could_run);
        self.put_back(client);
    }

    /// A client that could not run for what it was owed, and can now, gets its turn.
    fn ready_if_freed(&mut self, client: &Client, could_run: bool) {
        let has_more = !client.input.is_empty() || client.spool.is_some() || client.input_ended;
        if !could_run && self.may_run(client) && has_more {
            self.ready.push_back(client.id);
        }
    }

    /// Whether the body should close this connection: it was killed, or all that it was owed has left.
    pub fn should_close(&self, id: ClientId) -> bool {
        self.clients.get(id).is_none_or(|client| client.killed || (client.closing && client.output.is_none()))
    }

    /// The next client with something new, after its commands were run: output, more input wanted, or
    /// reason to close. To be asked after `handle_landed`, `handle_written` and `handle_tick`.
    pub fn poll_ready(&mut self, now: Now) -> Option<ClientId> {
        while let Some(ticket) = self.keys.far.pager.poll_woken() {
            if let Some(id) = self.waiting.remove(&ticket) {
                self.ready.push_back(id);
            }
        }
        let id = self.ready.pop_front()?;
        let Some(mut client) = self.clients.take(id) else { return Some(id) };
        if client.killed {
            // Its wait is cancelled when the body has closed it.
            self.put_back(client);
            return Some(id);
        }
        // It may be here for its stream, while its command still waits.
        client.parked = client.parked.filter(|ticket| self.waiting.contains_key(ticket));
        self.pump(&mut client, now);
        self.run_input(&mut client, now);
        self.close_if_done(&mut client);
        if client.parked.is_none() {
            // Woken, and yet nothing was acquired: its command was refused, or its output stands in the way.
            self.end_reserving(&client, now);
        }
        self.put_back(client);
        Some(id)
    }

    /// Moves the stream in front of a client's output on by one window.
    fn pump(&mut self, client: &mut Client, now: Now) {
        let Some(output) = client.output.as_mut() else { return };
        let Some(stream) = output.stream_in_front() else { return };
        if stream.waiting.is_some_and(|ticket| self.waiting.contains_key(&ticket)) {
            return;
        }
        match stream.pump(&mut self.keys.far, now.monotonic) {
            Ok(Pumped::Frames(frames, done)) => {
                if let Some(stream) = output.advance_stream(frames.into_iter(), done) {
                    stream.end(&mut self.keys.far);
                }
            }
            Ok(Pumped::Waiting(ticket)) => {
                self.waiting.insert(ticket, client.id);
            }
            // The reply has begun: its length is promised, so the only honest end is the connection's.
            Err(_) => client.killed = true,
        }
    }

    /// Puts a client back, with its output if it is owed something.
    pub(crate) fn put_back(&mut self, mut client: Box<Client>) {
        if client.output.as_ref().is_some_and(|output| output.is_empty()) {
            let output = client.output.take().expect("is_some_and on the line above");
            self.keep_output(output);
        }
        self.count_input(&mut client);
        self.clients.put(client);
    }

    fn keep_output(&mut self, output: Box<Output>) {
        if self.scratch.outputs.len() < OUTPUTS_KEPT_MAX {
            self.scratch.outputs.push(output);
        }
    }

    /// Lets go of all frames and objects that an output refers to.
    pub(crate) fn abandon(&mut self, output: &mut Output) {
        let mut streams = Vec::new();
        output.abandon(&mut *self.keys.far.pager, |stream| streams.push(stream));
        for stream in streams {
            if let Some(ticket) = stream.waiting {
                self.waiting.remove(&ticket);
            }
            stream.end(&mut self.keys.far);
        }
    }

    /// The next page to move. See [`Pager::poll_transfer`].
    #[inline]
    pub fn poll_transfer(&mut self, now: Now) -> Option<Transfer> {
        self.keys.far.pager.poll_transfer(now.monotonic)
    }

    /// A transfer has ended. See [`Pager::handle_landed`].
    #[inline]
    pub fn handle_landed(&mut self, landed: Landed, now: Now) {
        self.keys.far.pager.handle_landed(landed, now.monotonic);
    }

    /// The memory of all frames, for links.
    #[inline]
    pub fn frames(&mut self) -> &mut [Frame] {
        self.keys.far.pager.frames()
    }

    /// The next frame whose memory should be given back to the system.
    pub fn poll_discard(&mut self) -> Option<FrameNo> {
        self.keys.far.pager.poll_discard()
    }

    /// Background work of the pager, and a page that the heap would like to fill; once a turn of the body's
    /// loop.
    #[inline]
    pub fn balance(&mut self, now: Now) {
        if let Some(page) = self.keys.far.heap.poll_advice() {
            self.scratch.lookahead.clear();
            self.scratch.lookahead.push(PageRange { first: page, count: 1 });
            self.keys.far.pager.prefetch(&self.scratch.lookahead, now.monotonic);
        }
        self.keys.far.pager.balance(now.monotonic);
    }

    /// Lets FARMEM add and remove far memory.
    pub fn set_far_admin(&mut self, admin: alloc::boxed::Box<dyn crate::FarAdmin>) {
        self.keys.far.admin = Some(admin);
    }

    /// What the body knows of its links, for INFO.
    pub fn set_link_reports(&mut self, reports: Vec<LinkReport>) {
        self.server.links = reports;
    }

    /// The body's own measurements for INFO: resident set, and CPU time of the process.
    pub fn set_process_usage(&mut self, resident_bytes: u64, system_cpu_us: u64, user_cpu_us: u64) {
        self.server.process = crate::server::ProcessUsage { resident_bytes, system_cpu_us, user_cpu_us };
    }

    /// Asked to stop by SHUTDOWN.
    pub fn poll_shutdown(&mut self) -> bool {
        core::mem::take(&mut self.server.shutdown)
    }

    /// How long `DEBUG SLEEP` wants everything to stand still, once. Units: nanoseconds.
    pub fn poll_sleep_ns(&mut self) -> Option<u64> {
        self.server.sleep_ns.take()
    }

    /// Near memory but for frames, as of the last tick. Units: bytes.
    pub fn near_bytes(&self) -> u64 {
        self.server.near_bytes
    }

    /// The configuration as it stands (`CONFIG SET` changes it).
    pub fn config(&self) -> &Config {
        &self.server.config
    }

    /// Work by the clock: expiry, budget, idle clients. To be called every [`TICK_MS`] milliseconds.
    pub fn handle_tick(&mut self, now: Now) {
        self.keys.clock.seconds = ((now.unix_ms / 1000) & 0xff_ffff) as u32;
        self.server.handle_tick(now, &mut self.keys);
        self.keys.far.may_have_lost =
            self.keys.far.admin.as_ref().is_some_and(|admin| admin.lost_pages() > 0);
        self.keys.expire_cycle(now.unix_ms);
        self.relieve_stalled(now);
        self.close_idle(now);
        self.rebudget();
        self.keys.far.pager.balance(now.monotonic);
    }

    /// Gives the pager what near memory leaves of the cap.
    pub(crate) fn rebudget(&mut self) {
        let clients: usize = self.clients.iter().map(Client::near_bytes).sum();
        self.server.client_buffer_bytes = (self.scratch.near_bytes() + clients) as u64;
        let near =
            self.keys.near_bytes() as u64 + self.keys.far.near_bytes() + self.server.client_buffer_bytes;
        self.server.near_bytes = near;
        self.server.share_out(&mut self.keys.far);
    }

    /// Puts replies that do not move into far memory, so that slow readers hold no frames and no buffers.
    fn relieve_stalled(&mut self, now: Now) {
        let mut stalled = Vec::new();
        for client in self.clients.iter_mut() {
            if client.output.as_ref().is_some_and(|output| output.ready_bytes() > 0) {
                client.stalled_ticks += 1;
                if client.stalled_ticks == STALLED_TICKS_MAX {
                    stalled.push(client.id);
                }
            }
        }
        for id in stalled {
            self.spill_output(id, now);
        }
    }

    /// Closes connections that have been idle for longer than `timeout`.
    fn close_idle(&mut self, now: Now) {
        let timeout_ms = self.server.config.timeout * 1000;
        if timeout_ms == 0 {
            return;
        }
        for client in self.clients.iter_mut() {
            if now.unix_ms.saturating_sub(client.last_used_ms) > timeout_ms && client.parked.is_none() {
                client.killed = true;
                self.ready.push_back(client.id);
            }
        }
    }
}

/// Milliseconds between ticks: Redis' `hz 10`.
pub const TICK_MS: u64 = 100;
