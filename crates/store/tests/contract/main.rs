//! What every store promises. A new store adds one `suite!` line and runs all of it unchanged.

mod concurrency;
mod data;
#[path = "../common/postgres.rs"]
mod database;
mod deliveries;
mod effects;
mod estates;
mod ledger;
mod registry;
mod runs;
mod successes;

use std::error::Error;

use database::TestDatabase;
use pipekeeper_store::{MemoryStore, PostgresStore, SqliteStore, Store as _};

type TestResult = Result<(), Box<dyn Error>>;

macro_rules! suite {
    ($store:ident, $with:path) => {
        mod $store {
            use crate::TestResult;

            suite!(@cases $with, deliveries: [
                one_is_stored_once_per_project_and_forge_id,
                bodies_come_back_byte_for_byte,
                the_first_settlement_stands,
                settling_an_unknown_one_changes_nothing,
                every_outcome_round_trips,
                pending_ones_come_oldest_first_without_bodies,
                lists_come_newest_first_without_bodies,
                a_reopened_one_waits_again,
                a_commit_settles_its_delivery,
                a_settled_one_makes_no_second_run,
                one_that_makes_two_runs_makes_both_or_none,
                the_newest_refusals_are_kept,
            ]);
            suite!(@cases $with, ledger: [
                the_same_move_is_found,
                other_projects_refs_and_kinds_are_other_moves,
                a_force_push_back_and_forth_is_no_duplicate,
                a_late_copy_of_an_old_push_is_a_duplicate,
                an_older_push_that_was_never_seen_is_its_own,
                a_branch_made_anew_after_its_deletion_is_no_duplicate,
                a_reopened_delivery_leaves_the_ledger,
            ]);
            suite!(@cases $with, runs: [
                a_run_is_created_and_goes_on,
                a_run_is_created_once,
                a_new_run_comes_after_all_others,
                active_runs_are_listed_with_their_versions,
                an_unknown_run_cannot_go_on,
                a_stale_commit_changes_nothing,
                events_come_in_order_and_in_pages,
                texts_survive_unchanged,
                a_snapshot_cuts_the_tail,
                a_newer_snapshot_replaces_the_older,
                a_finished_run_stays_finished,
                a_run_may_be_created_finished,
                what_a_run_is_does_not_change,
                a_list_of_commits_names_each_run_once,
                a_refused_commit_takes_the_others_with_it,
                lists_are_filtered,
                lists_may_be_of_several_projects,
                lists_are_paged,
                unknown_things_are_none,
            ]);
            suite!(@cases $with, effects: [
                they_come_in_order_after_a_cursor,
                one_key_waits_once,
                a_settled_key_may_come_again_in_the_same_commit,
                they_are_settled_without_their_run,
                quarantine_hides_them,
            ]);
            suite!(@cases $with, successes: [
                each_digest_of_inputs_has_its_own,
                the_newest_run_stands,
                all_of_it_comes_back,
            ]);
            suite!(@cases $with, estates: [
                only_what_ended_leaves_one,
                parts_go_once_and_successes_with_them,
                ended_runs_go_whole,
                what_somebody_keeps_stays_whoever_has_judged_it,
                old_deliveries_go_but_the_ledger_stays_true,
            ]);
            suite!(@cases $with, registry: [
                a_record_is_made_changed_and_removed_in_versions,
                kinds_with_secrets_keep_no_history,
                changes_are_made_together_or_not_at_all,
                records_are_listed_by_name_and_owner,
                what_is_over_goes,
                the_audit_log_is_searched_and_paged,
            ]);
            suite!(@cases $with, concurrency: [
                of_many_commits_to_one_version_one_wins,
                no_accepted_delivery_is_lost,
                copies_at_the_same_time_are_stored_once,
                a_caller_that_gives_up_leaves_nothing_half_done,
                a_closed_store_refuses_everything,
            ]);
        }
    };
    (@cases $with:path, $module:ident: [$($case:ident),* $(,)?]) => {
        mod $module {
            $(
                #[tokio::test]
                async fn $case() -> super::TestResult {
                    $with(async |store| crate::$module::$case(store).await).await
                }
            )*
        }
    };
}

suite!(memory, crate::with_memory);
suite!(sqlite, crate::with_sqlite);
suite!(postgres, crate::with_postgres);

async fn with_memory(case: impl AsyncFnOnce(&MemoryStore) -> TestResult) -> TestResult {
    case(&MemoryStore::new()).await
}

async fn with_sqlite(case: impl AsyncFnOnce(&SqliteStore) -> TestResult) -> TestResult {
    let folder = tempfile::tempdir()?;
    let store = SqliteStore::open(folder.path().join("pipe.db")).await?;
    case(&store).await?;
    store.close().await;
    Ok(())
}

async fn with_postgres(case: impl AsyncFnOnce(&PostgresStore) -> TestResult) -> TestResult {
    let Some(database) = TestDatabase::make().await else {
        return Ok(());
    };
    let store = PostgresStore::open(&database.address().parse()?).await?;
    case(&store).await?;
    store.close().await;
    Ok(())
}
