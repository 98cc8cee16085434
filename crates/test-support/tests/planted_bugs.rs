//! Planted bugs: a simulator that does not find them is worth nothing. Seeds alone must find each one.

use pipekeeper_test_support::sim::{Bug, Options, simulate};

/// How many seeds a bug may hide from.
const SEEDS: u64 = 2_000;

#[expect(clippy::print_stdout, reason = "the run tells which seed found the bug")]
fn caught(bug: Bug) {
    for seed in 0..SEEDS {
        let report = simulate(&Options::draw(seed).with_bug(bug));
        if let Some(violation) = report.violation {
            println!(
                "{bug:?}: caught by seed {seed} after {} happenings: {} {}",
                report.happened, violation.invariant, violation.text
            );
            return;
        }
    }
    panic!("{bug:?} hides from {SEEDS} seeds");
}

macro_rules! bugs {
    ($($name:ident = $bug:ident),* $(,)?) => {
        $(
            #[test]
            fn $name() {
                caught(Bug::$bug);
            }
        )*

        #[test]
        fn every_bug_has_a_test() {
            let tested = [$(Bug::$bug),*];
            assert!(Bug::ALL.iter().all(|bug| tested.contains(bug)));
        }
    };
}

bugs!(
    approval_adopted = ApprovalAdopted,
    effect_before_commit = EffectBeforeCommit,
    skipped_gate_opens = SkippedGateOpens,
    second_ticket = SecondTicket,
    cancel_stops_nothing = CancelStopsNothing,
    late_approval = LateApproval,
    lost_compare = LostCompare,
    outbox_row_dropped = OutboxRowDropped,
    effects_forgotten = EffectsForgotten,
    delivery_without_runs = DeliveryWithoutRuns,
    node_reopened = NodeReopened,
    timeout_ignored = TimeoutIgnored,
    success_without_record = SuccessWithoutRecord,
    record_of_any_holder = RecordOfAnyHolder,
    finally_skipped = FinallySkipped,
    one_place_too_many = OnePlaceTooMany,
    one_attempt_too_many = OneAttemptTooMany,
    one_try_too_many = OneTryTooMany,
    free_tries_forever = FreeTriesForever,
    subject_unchecked = SubjectUnchecked,
    rejection_approves = RejectionApproves,
    supersede_past_gate = SupersedePastGate,
    same_person_twice = SamePersonTwice,
    need_forgotten = NeedForgotten,
    failure_stops_nothing = FailureStopsNothing,
    turn_ignored = TurnIgnored,
    secret_told = SecretTold,
    other_inputs_reused = OtherInputsReused,
    approver_unchecked = ApproverUnchecked,
    rejecter_unchecked = RejecterUnchecked,
    own_approval = OwnApproval,
    identities_count_twice = IdentitiesCountTwice,
    stranger_trusted = StrangerTrusted,
    silent_rejection = SilentRejection,
    approval_forever = ApprovalForever,
    void_keeps_all = VoidKeepsAll,
    bypass_by_anybody = BypassByAnybody,
    epoch_unchecked = EpochUnchecked,
    locks_ignored = LocksIgnored,
    locks_kept = LocksKept,
    locks_given_back = LocksGivenBack,
    locks_yield_early = LocksYieldEarly,
    one_slot_too_many = OneSlotTooMany,
    one_lock_of_several = OneLockOfSeveral,
    holders_forgotten = HoldersForgotten,
    line_reversed = LineReversed,
    environment_ungated = EnvironmentUngated,
    environment_asked_early = EnvironmentAskedEarly,
    window_ignored = WindowIgnored,
    window_forgotten_at_ticket = WindowForgottenAtTicket,
    window_opens_after_failure = WindowOpensAfterFailure,
    branch_ignored = BranchIgnored,
    refused_passes = RefusedPasses,
    gates_mixed_up = GatesMixedUp,
    gate_kept = GateKept,
    confirmed_by_same = ConfirmedBySame,
    confirmed_by_other_name = ConfirmedByOtherName,
);
