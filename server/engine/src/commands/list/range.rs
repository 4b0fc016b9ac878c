//! Reading elements: LRANGE and LINDEX, and how elements leave.
//!
//! ```text
//! *100 CRLF │ run of chunk 1 │ run of chunk 2 │ ...       elements lie in far pages as they leave
//!    near      copied if short, from frames if they are here, else all of it as one stream
//! ```

use super::{directory_of, element_number, element_range, find_read};
use crate::args::Args;
use crate::commands::context::COPY_MAX;
use crate::commands::{Context, Plan};
use crate::error::Outcome;
use crate::number;
use crate::stream::{FarSlice, Stream};
use alloc::vec::Vec;
use farmem::{FarAddr, PAGE_SIZE, PageRange};

/// Replies up to this size are copied whole: four pages. Units: bytes.
const RANGE_COPY_MAX: usize = 4 * PAGE_SIZE;

/// `LRANGE key start stop`: the pages of the range and no other, known without reading one.
pub fn plan_lrange(plan: &mut Plan, args: &Args) {
    let entry = plan.key(args.get(1));
    let Some(id) = directory_of(entry) else { return };
    let (Some(start), Some(stop)) = (number::parse_i64(args.get(2)), number::parse_i64(args.get(3))) else {
        return;
    };
    let (start, count) = element_range(start, stop, plan.keys.lists.get(id).chunks.len());
    if count > 0 {
        let pages_max = plan.hold_pages_max();
        plan.keys.lists.plan_range(id, start, count, pages_max, plan.pages);
    }
}

/// See [`plan_lrange`].
pub fn lrange(context: &mut Context, args: &Args) -> Outcome {
    let (start, stop) = (context.integer(args, 2)?, context.integer(args, 3)?);
    let Some(target) = find_read(context, args.get(1))? else {
        context.reply.array(0);
        return Ok(());
    };
    let len = context.keys.shape_len(target.shape);
    let (start, count) = element_range(start, stop, len);
    context.reply.array(count as usize);
    if count == 0 {
        return Ok(());
    }
    with_slices(context, |context, slices| {
        context.keys.list_slices(target.shape, start, count, slices)?;
        reply_slices(context, slices)
    })
}

/// `LINDEX key index`: the pages of one element, if all in its chunk are of one length; else its chunk's.
pub fn plan_lindex(plan: &mut Plan, args: &Args) {
    let entry = plan.key(args.get(1));
    let Some(id) = directory_of(entry) else { return };
    let Some(index) = number::parse_i64(args.get(2)) else { return };
    if let Some(number) = element_number(index, plan.keys.lists.get(id).chunks.len()) {
        let pages_max = plan.hold_pages_max();
        plan.keys.lists.plan_range(id, number, 1, pages_max, plan.pages);
    }
}

/// See [`plan_lindex`].
pub fn lindex(context: &mut Context, args: &Args) -> Outcome {
    let Some(target) = find_read(context, args.get(1))? else {
        context.reply.null();
        return Ok(());
    };
    let index = context.integer(args, 2)?;
    match element_number(index, context.keys.shape_len(target.shape)) {
        Some(number) => {
            let slice = context.keys.list_element(target.shape, number)?;
            reply_slices(context, &[slice])
        }
        None => {
            context.reply.null();
            Ok(())
        }
    }
}

/// Runs `with` with the buffer that is kept for slices.
#[inline]
pub fn with_slices<T>(context: &mut Context, with: impl FnOnce(&mut Context, &mut Vec<FarSlice>) -> T) -> T {
    let mut slices = core::mem::take(&mut context.keys.lists.slices);
    slices.clear();
    let result = with(context, &mut slices);
    slices.shrink_to(SLICES_KEPT_MAX);
    context.keys.lists.slices = slices;
    result
}

/// Slices that the buffer keeps room for: 24 KiB.
const SLICES_KEPT_MAX: usize = 1024;

/// Appends elements to the reply as they lie in far memory.
pub fn reply_slices(context: &mut Context, slices: &[FarSlice]) -> Outcome {
    let (mut bytes, mut pages) = (0, 0);
    for slice in slices {
        bytes += slice.len;
        pages += PageRange::covering(slice.addr, slice.len).count;
    }
    context.server.stats.bytes_wanted += bytes as u64;
    let far = &mut context.keys.far;
    if bytes > COPY_MAX {
        let here = || slices.iter().all(|slice| far.all_resident(PageRange::covering(slice.addr, slice.len)));
        let allowed = bytes <= RANGE_COPY_MAX || far.hold_allowed(pages);
        if pages > far.hold_pages_max() || !allowed || !here() {
            stream_slices(context, slices);
            return Ok(());
        }
    }
    for slice in slices {
        if slice.len <= COPY_MAX || bytes <= RANGE_COPY_MAX {
            far.copy_out(slice.addr, slice.len, context.reply.output.near())?;
            continue;
        }
        let (mut at, mut left) = (slice.addr, slice.len);
        while left > 0 {
            let here = left.min(PAGE_SIZE - at.offset());
            let frame = far.pager.hold(at.page()).expect("asked for residency above");
            context.reply.output.push_frame(frame, at.offset(), here);
            at = at.plus(here);
            left -= here;
        }
    }
    Ok(())
}

/// Lets the elements leave as their pages land; what they are now is what leaves.
#[cold]
fn stream_slices(context: &mut Context, slices: &[FarSlice]) {
    let mut stream = Stream::default();
    for slice in slices {
        if slice.object != FarAddr::NULL {
            context.keys.far.borrow_object(slice.object);
        }
        stream.push(*slice);
    }
    context.reply.output.push_stream(stream);
}
