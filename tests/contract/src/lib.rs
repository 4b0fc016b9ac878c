//! The contract of every pager, as a suite that runs wherever a pager does: under `cargo test` on Linux, and on the bare
//! machine.
//!
//! Refuses threads, clocks and files: `no_std + alloc`. A sentence that does not hold panics.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod pager_contract;
pub mod scripted_link;

/// The sentences, in the form that the arm named first wants them in: `pager_contract!(factory)` makes a test of each,
/// `pager_contract!(@sentences)` a list of [`Sentence`].
#[macro_export]
macro_rules! pager_contract {
    (@tests $factory:expr; $($sentence:ident,)*) => {
        $(
            #[test]
            fn $sentence() {
                $crate::pager_contract::$sentence(&$factory);
            }
        )*
    };
    (@list; $($sentence:ident,)*) => {
        &[$((stringify!($sentence), $crate::pager_contract::$sentence as fn(&$crate::pager_contract::Factory)),)*]
    };
    (@all [$($form:tt)*]) => {
        $crate::pager_contract! { $($form)*;
            a_written_page_comes_back_from_far_memory,
            an_untouched_page_reads_as_zeros_and_costs_nothing,
            a_wait_pins_nothing_and_ends_when_all_its_pages_landed,
            a_needed_page_leaves_before_an_older_guess,
            a_wrong_guess_never_delays_the_needed_page,
            a_guess_under_way_serves_the_one_who_needs_it,
            a_held_frame_stays_as_it_was_under_writes_and_drops,
            a_write_during_a_write_back_is_not_lost,
            dropped_pages_are_never_written_back,
            a_page_dropped_on_its_way_is_not_resurrected,
            a_page_rewritten_after_a_drop_is_not_trimmed,
            an_overwritten_page_is_never_fetched,
            a_wrong_checksum_is_an_error_and_the_next_try_works,
            what_comes_wrong_once_is_fetched_again_and_written_back,
            a_failing_fetch_is_reported_once_and_then_retried,
            a_value_whose_pages_all_fail_is_one_failure,
            failing_write_backs_are_retried_and_lose_nothing,
            who_needs_a_frame_of_a_full_far_memory_is_told_so_until_it_takes_pages_again,
            no_wait_is_for_ever_beside_a_full_node,
            a_policy_that_waits_is_told_of_a_full_far_memory_too,
            eviction_takes_no_pinned_held_or_dirty_frame,
            tiny_budgets_make_progress,
            a_plan_beyond_the_frames_is_refused,
            fresh_frames_are_there_when_a_command_runs,
            a_reservation_keeps_what_has_landed,
            a_cancelled_wait_leaves_no_pin,
            background_work_leaves_what_has_landed_to_who_waited_for_it,
            a_smaller_budget_gives_frames_back,
            a_slightly_smaller_budget_gives_back_the_last_frames,
            a_smaller_budget_loses_no_write,
            an_unplanned_touch_works_and_is_counted,
            a_full_pager_writes_back_for_a_command_that_cannot_wait,
            the_policy_none_fetches_one_page_at_a_time,
            the_policy_sequential_reads_ahead_of_a_scan,
            the_policy_guided_asks_for_the_plan_at_once,
            dead_far_pages_are_trimmed_in_runs,
        }
    };
    (@sentences) => {
        $crate::pager_contract! { @all [@list] }
    };
    ($factory:expr) => {
        $crate::pager_contract! { @all [@tests $factory] }
    };
}

/// What the suite says of a pager, and how it finds out.
pub type Sentence = (&'static str, fn(&pager_contract::Factory));

/// All of the contract.
pub const SENTENCES: &[Sentence] = pager_contract!(@sentences);
