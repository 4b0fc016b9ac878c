//! One client's turn: parse, plan, acquire, execute, until its input ends or it has to wait.
//!
//! ```text
//!   parse ──► plan ──► acquire ──Ready──► execute ──► next command
//!               ▲         │ Waiting
//!               │         ▼
//!             woken ◄── parked      (nothing computed before the wait is used after it)
//! ```
//!
//! Refuses to reorder: the command behind a parked one waits too. But its pages, and those of the next
//! ones, are asked for in the same batch.

use crate::args::Args;
use crate::client::{Client, HeldCommand, ReplyMode};
use crate::command::{self, CommandSpec};
use crate::commands::{self, Context, Plan};
use crate::engine::{Engine, Now, OUTPUT_READY_MAX};
use crate::error::{CommandError, Failure, Outcome};
use crate::keyspace::KeySpace;
use crate::keyspace::warm::WARM_MAX;
use crate::reply::Reply;
use crate::resp::decode::{Decoder, Limits, Parsed, Span};
use crate::resp::encode;
use crate::spool::{self, Fed, SPOOL_MIN, Spool};
use alloc::boxed::Box;
use alloc::vec::Vec;
use farmem::{Acquired, PAGE_SIZE, PageSet, PagerError};

/// After so many waits a command's pages are kept as they land, so that it gets its turn.
pub const PLAN_ROUNDS_MAX: u32 = 4;

/// Commands behind a parked one whose pages are asked for with it. 64 is a deep pipeline.
const LOOKAHEAD_MAX: usize = 64;

/// Pages that a pipeline waits for together: 256 are 90 us at 100 Gb/s. With more, its first command runs as
/// soon as its own pages are here.
const TOGETHER_PAGES_MAX: usize = 256;

/// Input that is kept for a client that cannot run: one read of the body. Units: bytes.
const INPUT_AHEAD_MAX: usize = 64 * 1024;

/// Input of one command above which its further arguments of a page or more are spooled. Units: bytes.
const INPUT_NEAR_MAX: usize = 1 << 20;

/// Spooled arguments that a command without use for far pages gets as near bytes. Units: bytes.
const NEAR_ARGUMENTS_MAX: usize = 64 << 20;

/// What became of one command.
enum Step {
    Done,
    Parked,
}

impl Engine {
    /// Whether the client's next command may run.
    #[inline]
    pub(crate) fn may_run(&self, client: &Client) -> bool {
        client.parked.is_none()
            && !client.closing
            && !client.killed
            && client
                .output
                .as_ref()
                .is_none_or(|output| output.ready_bytes() < OUTPUT_READY_MAX && !output.has_stream())
    }

    /// Whether more input is of use: the client may run, or has not sent much ahead.
    pub(crate) fn may_read(&self, client: &Client) -> bool {
        !client.closing && !client.killed && (self.may_run(client) || client.input.len() < INPUT_AHEAD_MAX)
    }

    fn limits(&self, client: &Client) -> Limits {
        let crowded = client.input.len() > INPUT_NEAR_MAX || self.is_crowded();
        Limits {
            bulk_len_max: self.server.config.proto_max_bulk_len,
            spool_min: if crowded { PAGE_SIZE as u64 } else { SPOOL_MIN as u64 },
            authenticated: client.authenticated || self.server.is_open(),
        }
    }

    /// Bytes have arrived for a client that is taken out.
    pub(crate) fn accept(&mut self, client: &mut Client, bytes: &[u8], now: Now) {
        let mut rest = bytes;
        if client.parked.is_none()
            && let Some(spool) = &client.spool
            && client.input.len() == spool.data_start
        {
            let taken = self.feed(client, bytes, now);
            rest = &bytes[taken..];
        }
        if client.input.is_empty() && client.spool.is_none() {
            let used = self.run(client, rest, now);
            let rest = &rest[used..];
            if rest.len() > client.input.capacity().max(INPUT_KEPT_MAX) {
                let kept = if self.is_crowded() { None } else { self.scratch.inputs.pop() };
                client.input = kept.unwrap_or_default();
            }
            client.input.extend_from_slice(rest);
            if client.spool.is_none() {
                return;
            }
        } else {
            client.input.extend_from_slice(rest);
        }
        self.run_input(client, now);
    }

    /// Runs what waits in the client's own input.
    pub(crate) fn run_input(&mut self, client: &mut Client, now: Now) {
        loop {
            if client.parked.is_none()
                && let Some(spool) = &client.spool
            {
                let start = spool.data_start;
                let mut input = core::mem::take(&mut client.input);
                let taken = self.feed(client, &input[start..], now);
                input.drain(start..start + taken);
                if input.len() <= INPUT_KEPT_MAX && input.capacity() > INPUT_KEPT_MAX {
                    // What is left is the command so far: the large buffer goes to somebody else.
                    let rest = input.as_slice().into();
                    self.scratch.keep_input(core::mem::replace(&mut input, rest));
                }
                client.input = input;
            }
            if client.spool.is_some() || client.parked.is_some() {
                return;
            }
            let mut input = core::mem::take(&mut client.input);
            let used = self.run(client, &input, now);
            if used < input.len() {
                input.drain(..used);
            } else if input.capacity() <= INPUT_KEPT_MAX {
                input.clear();
            } else {
                let spare = core::mem::take(&mut input);
                self.scratch.keep_input(spare);
            }
            client.input = input;
            if client.spool.is_none() {
                return;
            }
        }
    }

    /// Moves bytes into the client's spool; returns how many. Ends the spool when all of it is there.
    fn feed(&mut self, client: &mut Client, bytes: &[u8], now: Now) -> usize {
        let Some(mut spool) = client.spool.take() else { return 0 };
        let before = spool.received();
        let received = before + bytes.len().min(spool.missing());
        let taken = match spool.feed(&mut self.keys.far, bytes, now) {
            Ok(Fed::Taken(taken)) => taken,
            Ok(Fed::Waiting(ticket)) => {
                client.parked = Some(ticket);
                self.waiting.insert(ticket, client.id);
                0
            }
            Err(failure) => {
                client.spool_failure = Some(Box::new(failure));
                spool.lose_place(&mut self.keys.far, received);
                received - before
            }
        };
        if spool.missing() == 0 {
            client.spooled.push(spool.finish());
        } else {
            client.spool = Some(spool);
        }
        taken
    }

    /// Runs commands from the front of `buffer`; returns how many bytes they took.
    pub(crate) fn run(&mut self, client: &mut Client, buffer: &[u8], now: Now) -> usize {
        let mut at = 0;
        let mut spans = core::mem::take(&mut self.scratch.spans);
        let limits = self.limits(client);
        // Not before the first command: a client that sends one at a time pays nothing.
        let mut warm_until = 1;
        while at < buffer.len() && self.may_run(client) {
            if at >= warm_until {
                warm_until = at + self.warm(client, &buffer[at..], &mut spans, &limits);
            }
            if let Some(held) = client.held_command.take() {
                spans.clear();
                spans.extend_from_slice(&held.spans);
                if let Step::Parked = self.command(client, &buffer[at..at + held.len], &mut spans, now) {
                    break;
                }
                at += held.len;
                continue;
            }
            // GET 1/8: the request is parsed where it lies: the arguments are spans of the bytes read.
            let parsed = client.decoder.parse(&buffer[at..], &mut spans, &limits);
            let (consumed, step) = match parsed {
                Ok(Parsed::Complete { consumed }) => {
                    (consumed, self.command(client, &buffer[at..at + consumed], &mut spans, now))
                }
                Ok(Parsed::Unquoted { consumed }) => {
                    let unquoted = client.decoder.take_unquoted();
                    (consumed, self.command(client, &unquoted, &mut spans, now))
                }
                Ok(Parsed::Empty { consumed }) => (consumed, Step::Done),
                Ok(Parsed::Incomplete { .. }) => break,
                Ok(Parsed::BigBulk { arg, len, data_start, .. }) => {
                    self.begin_spool(client, arg, len as usize, data_start);
                    break;
                }
                Err(error) => {
                    let output =
                        client.output.get_or_insert_with(|| self.scratch.outputs.pop().unwrap_or_default());
                    error.encode(output.near());
                    self.server.count_error(b"ERR");
                    client.closing = true;
                    at = buffer.len();
                    break;
                }
            };
            if let Step::Parked = step {
                self.look_ahead(client, &buffer[at + consumed..], &mut spans, now);
                break;
            }
            at += consumed;
        }
        self.scratch.spans = spans;
        at
    }

    /// Warms the keys of the commands at the front of `buffer`. Returns how many bytes those take.
    fn warm(&self, client: &Client, buffer: &[u8], spans: &mut Vec<Span>, limits: &Limits) -> usize {
        let mut hashes = [0; WARM_MAX];
        let mut count = 0;
        let taken = peek(buffer, spans, limits, WARM_MAX, |args| {
            if args.len() > 1 {
                hashes[count] = self.keys.fingerprint(args.get(1));
                count += 1;
            }
        });
        if count > 1 {
            self.keys.warm(client.db, &hashes[..count]);
        }
        taken
    }

    /// A large argument begins: it goes to far pages from here on.
    fn begin_spool(&mut self, client: &mut Client, arg: usize, len: usize, data_start: usize) {
        let begun = match client.spool_failure {
            None => Spool::begin(&mut self.keys.far, arg, len, data_start),
            Some(_) => Ok(Spool::without_place(arg, len, data_start)),
        };
        let spool = begun.unwrap_or_else(|failure| {
            client.spool_failure = Some(Box::new(failure));
            Spool::without_place(arg, len, data_start)
        });
        client.decoder.spooled();
        client.spool = Some(Box::new(spool));
    }

    /// Runs one command whose large arguments, if it has any, are dealt with.
    fn command(&mut self, client: &mut Client, buffer: &[u8], spans: &mut [Span], now: Now) -> Step {
        if client.spooled.is_empty() {
            return self.dispatch(client, &Args::new(buffer, spans, &[]), now);
        }
        let spooled = core::mem::take(&mut client.spooled);
        if let Some(failure) = client.spool_failure.take() {
            for argument in spooled {
                spool::drop_spooled(&mut self.keys.far, argument);
            }
            self.fail(client, &failure);
            return Step::Done;
        }
        let takes_far = command::lookup(spans[0].of(buffer)).is_some_and(|spec| {
            spooled.iter().all(|argument| commands::takes_spooled(spec.id, argument.index))
        });
        let step = if takes_far {
            self.dispatch(client, &Args::new(buffer, spans, &spooled), now)
        } else {
            match self.near_arguments(buffer, spans, &spooled) {
                Ok((near, near_spans)) => self.dispatch(client, &Args::new(&near, &near_spans, &[]), now),
                Err(failure) => {
                    self.fail(client, &failure);
                    Step::Done
                }
            }
        };
        match step {
            Step::Parked => {
                // It cannot be parsed again after the wait: some of its bytes are elsewhere.
                client.spooled = spooled;
                client.held_command =
                    Some(Box::new(HeldCommand { spans: spans.to_vec(), len: buffer.len() }));
            }
            Step::Done => {
                for argument in spooled {
                    spool::drop_spooled(&mut self.keys.far, argument);
                }
            }
        }
        step
    }

    /// Copies all arguments, spooled ones too, to near memory.
    fn near_arguments(
        &mut self,
        buffer: &[u8],
        spans: &[Span],
        spooled: &[crate::args::Spooled],
    ) -> Outcome<(Vec<u8>, Vec<Span>)> {
        let total: usize = spooled.iter().map(|argument| argument.len).sum();
        if total > NEAR_ARGUMENTS_MAX {
            return Err(CommandError::Text("ERR argument too large for this command").into());
        }
        let mut near = Vec::with_capacity(buffer.len() + total);
        let mut near_spans = Vec::with_capacity(spans.len());
        for (index, span) in spans.iter().enumerate() {
            let start = near.len();
            match spooled.iter().find(|argument| argument.index == index) {
                Some(argument) => self.keys.far.copy_out(argument.addr, argument.len, &mut near)?,
                None => near.extend_from_slice(span.of(buffer)),
            }
            near_spans.push(Span { start: start as u32, len: (near.len() - start) as u32 });
        }
        Ok((near, near_spans))
    }

    /// Looks a command up, checks what can be checked without its pages, plans, acquires, executes.
    fn dispatch(&mut self, client: &mut Client, args: &Args, now: Now) -> Step {
        // GET 2/8: the command table knows the command's arity, flags and handler.
        let Some(spec) = command::lookup(args.get(0)) else {
            // A browser that was made to speak to us: what it says next is not meant. Source: Redis'
            // `securityWarningCommand`.
            if args.is(0, "POST") || args.is(0, "Host:") {
                client.killed = true;
                if let Some(mut output) = client.output.take() {
                    self.abandon(&mut output);
                }
                return Step::Done;
            }
            self.fail(client, &Failure::Client(command::unknown_command(args)));
            return Step::Done;
        };
        let spec = match self.admit(client, spec, args) {
            Ok(spec) => spec,
            Err(error) => {
                // It may have waited before, or have done a part of its work.
                self.end_reserving(client, now);
                client.plan_rounds = 0;
                self.end_walk(client);
                self.fail(client, &Failure::Client(error));
                return Step::Done;
            }
        };
        let handler = commands::handler(spec.id);
        loop {
            let mut pages = core::mem::take(&mut self.scratch.plan);
            pages.clear();
            // GET 3/8: the plan names the pages, from near memory alone: the key's page and the value's.
            let walk = client.walk.as_deref();
            let mut plan =
                Plan { keys: &mut self.keys, db: client.db, now, pages: &mut pages, fresh: 0, walk };
            (handler.plan)(&mut plan, args);
            let fresh = plan.fresh;
            pages.normalise();
            let step = self.acquire_and_execute(client, spec, handler, args, &pages, fresh, now);
            self.scratch.plan = pages;
            // A walk that is not finished: its next step, at once if the pages are here.
            if client.walk.is_none() || matches!(step, Step::Parked) {
                return step;
            }
        }
    }

    /// Gives up a walk whose client is gone or whose command has failed.
    pub(crate) fn end_walk(&mut self, client: &mut Client) {
        if let Some(walk) = client.walk.take() {
            walk.end(&mut self.keys.far);
        }
    }

    #[allow(clippy::too_many_arguments, reason = "one caller; a struct would only rename them")]
    #[inline]
    fn acquire_and_execute(
        &mut self,
        client: &mut Client,
        spec: &'static CommandSpec,
        handler: commands::Handler,
        args: &Args,
        pages: &PageSet,
        fresh: u32,
        now: Now,
    ) -> Step {
        if !pages.is_empty() || fresh > 0 {
            // GET 4/8: acquire pins the pages if all are here; else it asks for the missing ones and parks.
            let reserve = client.plan_rounds >= PLAN_ROUNDS_MAX && self.may_reserve(client);
            match self.keys.far.pager.acquire(pages, fresh, reserve, now.monotonic) {
                Ok(Acquired::Ready) => {}
                Ok(Acquired::Waiting(ticket)) => {
                    self.park(client, ticket);
                    return Step::Parked;
                }
                // Larger than local memory: execute reads it piece by piece.
                Err(PagerError::PlanTooLarge) => {
                    self.execute(client, spec, handler, args, now);
                    return Step::Done;
                }
                Err(error) => {
                    self.settle(client, now);
                    self.end_walk(client);
                    self.fail(client, &Failure::World(error));
                    return Step::Done;
                }
            }
        }
        self.execute(client, spec, handler, args, now);
        self.keys.far.pager.release(pages);
        Step::Done
    }

    /// Makes the client wait. Its command stays in its input and is planned again afterwards.
    fn park(&mut self, client: &mut Client, ticket: farmem::Ticket) {
        if client.plan_rounds == 0 && client.walk.is_none() {
            self.server.stats.command_misses += 1;
        }
        self.server.stats.parks_total += 1;
        self.server.stats.fetch_rounds += 1;
        client.plan_rounds += 1;
        client.parked = Some(ticket);
        self.waiting.insert(ticket, client.id);
    }

    /// Whether this client may be the one whose pages are kept as they land.
    fn may_reserve(&mut self, client: &Client) -> bool {
        if self.reserving.is_none() {
            self.reserving = Some(client.id);
        }
        self.reserving == Some(client.id)
    }

    /// Gives up the pages that are kept for this client, if it is the one.
    pub(crate) fn end_reserving(&mut self, client: &Client, now: Now) {
        if self.reserving == Some(client.id) {
            self.reserving = None;
            // Takes the reservation over, for nothing.
            let nothing = self.keys.far.pager.acquire(&PageSet::new(), 0, true, now.monotonic);
            assert_eq!(nothing, Ok(Acquired::Ready), "no page is always to be had");
        }
    }

    /// The client's command has its pages, or never will.
    #[inline]
    fn settle(&mut self, client: &mut Client, now: Now) {
        if client.plan_rounds > 0 {
            client.plan_rounds = 0;
            self.end_reserving(client, now);
        } else if client.walk.is_none() {
            self.server.stats.command_hits += 1;
        }
    }

    #[inline]
    fn execute(
        &mut self,
        client: &mut Client,
        spec: &'static CommandSpec,
        handler: commands::Handler,
        args: &Args,
        now: Now,
    ) {
        self.settle(client, now);
        let first = u64::from(client.walk.is_none());
        self.server.stats.commands_processed += first;
        self.server.calls.of_mut(spec.id).calls += first;
        client.last_command = spec.full_name;
        let mut output =
            client.output.take().unwrap_or_else(|| self.scratch.outputs.pop().unwrap_or_default());
        let mark = output.mark();
        let resp3 = client.resp3;
        let mut context = Context {
            keys: &mut self.keys,
            client,
            clients: &mut self.clients,
            server: &mut self.server,
            reply: Reply { output: &mut output, resp3 },
            now,
        };
        // GET 5/8: execute runs with its pages pinned: no miss, no wait, nobody in between.
        if let Err(failure) = (handler.execute)(&mut context, args) {
            // What it has answered before it failed is taken back.
            self.abandon(&mut output.cut(mark));
            self.end_walk(client);
            encode::error(output.near(), failure.text());
            self.server.count_error(failure.text());
            self.server.calls.of_mut(spec.id).failed += 1;
        }
        if client.reply_mode != ReplyMode::On {
            self.silence(client, &mut output, mark);
        }
        self.reclaim_ready(client);
        if output.is_empty() {
            self.scratch.outputs.push(output);
        } else {
            client.output = Some(output);
        }
    }

    /// `CLIENT REPLY`: takes back what the command has answered. What counts is the mode after it: CLIENT
    /// REPLY ON is answered, and so is RESET.
    #[cold]
    fn silence(&mut self, client: &mut Client, output: &mut crate::reply::Output, mark: crate::reply::Mark) {
        if client.reply_mode != ReplyMode::SkipNext {
            let mut cut = output.cut(mark);
            self.abandon(&mut cut);
        }
        client.reply_mode = client.reply_mode.after_command();
    }

    /// Clients that a command has ended (`CLIENT KILL`) are told to the body.
    #[inline]
    fn reclaim_ready(&mut self, client: &Client) {
        if self.server.killed.is_empty() {
            return;
        }
        for id in self.server.killed.drain(..) {
            if id != client.id {
                self.ready.push_back(id);
            }
        }
    }

    /// Answers an error.
    fn fail(&mut self, client: &mut Client, failure: &Failure) {
        self.server.count_error(failure.text());
        if client.reply_mode == ReplyMode::On {
            let output = client.output.get_or_insert_with(|| self.scratch.outputs.pop().unwrap_or_default());
            encode::error(output.near(), failure.text());
        }
        client.reply_mode = client.reply_mode.after_command();
    }

    /// Checks that need no key: arity, authentication, memory. Source: `processCommand` of Redis 7.0.
    #[inline]
    fn admit(
        &mut self,
        client: &mut Client,
        spec: &'static CommandSpec,
        args: &Args,
    ) -> Result<&'static CommandSpec, CommandError> {
        let spec = spec.resolve(args)?;
        if let Err(error) = self.check_rules(client, spec, args) {
            self.server.calls.of_mut(spec.id).rejected += 1;
            return Err(error);
        }
        Ok(spec)
    }

    #[inline]
    fn check_rules(&mut self, client: &Client, spec: &CommandSpec, args: &Args) -> Result<(), CommandError> {
        spec.check_arity(args.len())?;
        if !client.authenticated && !self.server.is_open() && !spec.allowed_unauthenticated() {
            return Err(CommandError::Text("NOAUTH Authentication required."));
        }
        if spec.denied_when_full() {
            self.keys.make_room(&mut self.server)?;
        }
        Ok(())
    }

    /// Asks for the pages of the commands behind a parked one, in the same batch.
    fn look_ahead(&mut self, client: &mut Client, buffer: &[u8], spans: &mut Vec<Span>, now: Now) {
        let limits = self.limits(client);
        let mut pages = core::mem::take(&mut self.scratch.lookahead);
        pages.clear();
        peek(buffer, spans, &limits, LOOKAHEAD_MAX, |args| {
            plan_ahead(&mut self.keys, client.db, args, now, &mut pages);
        });
        if !pages.is_empty() {
            for &range in self.scratch.plan.ranges() {
                pages.push(range);
            }
            pages.normalise();
            if !self.wait_for_all(client, &pages, now) {
                self.keys.far.pager.prefetch(&pages, now.monotonic);
            }
        }
        self.scratch.lookahead = pages;
    }

    /// The pages that the first command of `input` would touch in database `db`, as its plan names them from
    /// near memory; nothing is asked for. Empty if there is no whole command.
    pub fn plan_only(&mut self, db: usize, input: &[u8], now: Now, pages: &mut PageSet) {
        pages.clear();
        let limits = Limits { bulk_len_max: u64::MAX, spool_min: u64::MAX, authenticated: true };
        let mut spans = core::mem::take(&mut self.scratch.spans);
        peek(input, &mut spans, &limits, 1, |args| plan_ahead(&mut self.keys, db, args, now, pages));
        pages.normalise();
        self.scratch.spans = spans;
    }

    /// Makes a parked client wait for the pages of the commands behind its first one too, so that a
    /// pipeline is planned, executed and sent once, not once a page. Its first command's pages are on
    /// their way already, ahead of the others. Says whether it waits so.
    fn wait_for_all(&mut self, client: &mut Client, pages: &farmem::PageSet, now: Now) -> bool {
        let Some(first) = client.parked else { return false };
        if self.reserving == Some(client.id) || pages.len() > TOGETHER_PAGES_MAX {
            return false;
        }
        match self.keys.far.pager.acquire(pages, 0, false, now.monotonic) {
            Ok(Acquired::Waiting(all)) => {
                self.keys.far.pager.cancel(first);
                self.waiting.remove(&first);
                self.waiting.insert(all, client.id);
                client.parked = Some(all);
                true
            }
            // Only frames are short: the first wait stands.
            Ok(Acquired::Ready) => {
                self.keys.far.pager.release(pages);
                true
            }
            Err(_) => false,
        }
    }
}

/// Shows `see` up to `most` whole commands at the front of `buffer`, without running them. Returns how many bytes
/// they take.
fn peek(
    buffer: &[u8],
    spans: &mut Vec<Span>,
    limits: &Limits,
    most: usize,
    mut see: impl FnMut(&Args),
) -> usize {
    let limits = Limits { spool_min: u64::MAX, ..*limits };
    let mut decoder = Decoder::default();
    let mut at = 0;
    for _ in 0..most {
        let Ok(Parsed::Complete { consumed }) = decoder.parse(&buffer[at..], spans, &limits) else { break };
        see(&Args::new(&buffer[at..], spans, &[]));
        at += consumed;
    }
    at
}

/// Adds the pages that a command would touch, if it is one that would run.
fn plan_ahead(keys: &mut KeySpace, db: usize, args: &Args, now: Now, pages: &mut PageSet) {
    if let Some(spec) = command::lookup(args.get(0))
        && let Ok(spec) = spec.resolve(args)
        && spec.check_arity(args.len()).is_ok()
    {
        let mut plan = Plan { keys, db, now, pages, fresh: 0, walk: None };
        (commands::handler(spec.id).plan)(&mut plan, args);
    }
}

/// An input buffer above this does not stay with its client when it is empty. Units: bytes.
const INPUT_KEPT_MAX: usize = 256;
