//! FARMEM: where the pages are, for administrators and tests.
//!
//! Refuses to fetch: to look at a key here must not change where it is, so keys are told by fingerprint,
//! and only among keys of one fingerprint by what happens to be resident.

use super::Context;
use crate::args::Args;
use crate::command::help;
use crate::error::{CommandError, Outcome};
use crate::keyspace::index::Entry;
use crate::lost::FarAdmin;
use alloc::format;
use alloc::string::String;
use farmem::PageState;

/// `FARMEM HELP`.
pub fn farmem_help(context: &mut Context, _: &Args) -> Outcome {
    help::write(context.reply.output.near(), b"FARMEM", help::FARMEM);
    Ok(())
}

/// The entry of a key, without reading a page.
fn entry_of(context: &mut Context, key: &[u8]) -> Option<Entry> {
    let db = context.client.db;
    let planned = context.keys.plan_key(db, key, &mut farmem::PageSet::new());
    planned.or_else(|| {
        let hash = context.keys.fingerprint(key);
        let index = &context.keys.dbs[db].index;
        index.find(hash).next().map(|position| *index.get(position))
    })
}

/// `FARMEM RESIDENCY key`: a map of pages, resident pages, bytes far and near. Null if there is no such key.
pub fn residency(context: &mut Context, args: &Args) -> Outcome {
    let Some(entry) = entry_of(context, args.get(2)) else {
        context.reply.null();
        return Ok(());
    };
    let footprint = context.keys.footprint(entry);
    let state = |page| context.keys.far.pager.state(page);
    let resident = footprint
        .pages
        .pages()
        .filter(|&page| matches!(state(page), PageState::Clean | PageState::Dirty | PageState::Cleaning))
        .count();
    let dirty = footprint
        .pages
        .pages()
        .filter(|&page| matches!(state(page), PageState::Dirty | PageState::Cleaning))
        .count();
    let fields = [
        ("pages", footprint.pages.len()),
        ("resident-pages", resident),
        ("dirty-pages", dirty),
        ("far-bytes", footprint.far_bytes),
        ("near-bytes", footprint.near_bytes),
    ];
    context.reply.map(fields.len());
    for (name, value) in fields {
        context.reply.bulk(name.as_bytes());
        context.reply.integer(value as i64);
    }
    Ok(())
}

/// `FARMEM EVICT key | ALL`: gives up frames; answers how many. A key may be called `ALL`, but only other
/// keys can be evicted by name.
pub fn evict(context: &mut Context, args: &Args) -> Outcome {
    let evicted = if args.is(2, "ALL") {
        context.keys.far.pager.evict_all()
    } else {
        match entry_of(context, args.get(2)) {
            Some(entry) => {
                let pages = context.keys.footprint(entry).pages;
                pages.ranges().iter().map(|&range| context.keys.far.pager.evict(range)).sum()
            }
            None => 0,
        }
    };
    context.reply.integer(i64::from(evicted));
    Ok(())
}

/// `FARMEM ADD uri`: opens one more far memory, for copies. Answers when it has been reached, or why not.
pub fn add(context: &mut Context, args: &Args) -> Outcome {
    administer(context, args, |admin, uri| admin.add(uri))
}

/// `FARMEM REMOVE uri`: begins to drain one; INFO shows it until nothing is left on it.
pub fn remove(context: &mut Context, args: &Args) -> Outcome {
    administer(context, args, |admin, uri| admin.remove(uri))
}

fn administer(
    context: &mut Context,
    args: &Args,
    order: impl FnOnce(&mut dyn FarAdmin, &str) -> Result<(), String>,
) -> Outcome {
    let uri = String::from_utf8_lossy(args.get(2));
    let Some(admin) = &mut context.keys.far.admin else {
        return Err(CommandError::Text("ERR this server's far memory cannot be changed").into());
    };
    order(admin.as_mut(), &uri).map_err(|why| CommandError::Owned(format!("ERR {why}")))?;
    context.reply.ok();
    Ok(())
}

/// `FARMEM LOST`: pages and keys that far memory came back without, and the names of the first 100. Fetches nothing, so
/// a key whose name is not here (or is lost too) is shown by database and fingerprint.
pub fn lost(context: &mut Context, _: &Args) -> Outcome {
    let pages = context.keys.far.admin.as_ref().map_or(0, |admin| admin.lost_pages());
    let lost = context.keys.lost();
    context.reply.map(3);
    for (name, count) in [(&b"pages"[..], pages), (b"keys", lost.keys)] {
        context.reply.bulk(name);
        context.reply.integer(count as i64);
    }
    context.reply.bulk(b"names");
    context.reply.array(lost.names.len());
    lost.names.iter().for_each(|name| context.reply.bulk(name));
    Ok(())
}

/// `FARMEM STATS`: what `INFO farmem` shows of frames, pages and the far heap, as a map of integers.
pub fn stats(context: &mut Context, _: &Args) -> Outcome {
    let pager = context.keys.far.pager.stats();
    let heap = context.keys.far.heap.stats();
    let fields = [
        ("frames_total", pager.frames_total),
        ("frames_free", pager.frames_free),
        ("frames_dirty", pager.frames_dirty),
        ("frames_pinned", pager.frames_pinned),
        ("frames_held", u64::from(context.keys.far.pager.held_frames())),
        ("pages_fetched", pager.pages_fetched),
        ("pages_guessed", pager.pages_guessed),
        ("pages_written_back", pager.pages_written_back),
        ("pages_evicted", pager.pages_evicted),
        ("pages_dropped", pager.pages_dropped),
        ("unplanned_faults", pager.unplanned_faults),
        ("checksum_failures", pager.checksum_failures),
        ("pages_repaired", pager.pages_repaired),
        ("fetch_errors", pager.fetch_errors),
        ("write_back_errors", pager.write_back_errors),
        ("pager_near_bytes", pager.near_bytes),
        ("far_capacity_pages", u64::from(heap.capacity_pages)),
        ("far_used_pages", u64::from(heap.used_pages)),
        ("far_partial_pages", u64::from(heap.partial_pages)),
        ("far_used_bytes", heap.used_bytes),
        ("heap_near_bytes", heap.near_bytes),
        ("index_bytes", context.keys.near_bytes() as u64),
        ("keys", context.keys.count() as u64),
    ];
    context.reply.map(fields.len());
    for (name, value) in fields {
        context.reply.bulk(name.as_bytes());
        context.reply.integer(value as i64);
    }
    Ok(())
}
