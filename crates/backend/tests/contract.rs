//! The contract suite, run by the backends of this crate.

#![cfg(test)]

mod common;

mod local {
    use super::common::LocalWorld;

    pipekeeper_backend::backend_contract!(LocalWorld::new();
        repeated_launches_are_one_run,
        nothing_runs_without_a_ticket,
        repeated_tickets_start_once,
        tickets_of_others_are_ignored,
        exit_codes_are_told,
        stopped_before_the_ticket_never_runs,
        stopped_before_launch_never_runs,
        stopped_while_running_is_cancelled,
        an_unknown_attempt_is_gone,
        an_ended_attempt_is_told_again,
        forgotten_attempts_are_not_listed,
        many_attempts_at_once,
    );

    pipekeeper_backend::backend_contract!(LocalWorld::new(); durable:
        running_attempts_are_adopted,
        waiting_attempts_are_adopted,
        records_outlive_the_server,
        voids_outlive_the_server,
        two_servers_run_it_once,
    );
}

mod dummy {
    use std::{
        path::Path,
        sync::{Arc, OnceLock},
    };

    use pipekeeper_backend::{
        Backend, DummyBackend, Observation,
        suite::{Act, World},
    };
    use pipekeeper_model::AttemptId;
    use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

    /// A dummy's attempts live as long as it does, so it is opened once.
    #[derive(Default)]
    struct DummyWorld(OnceLock<Arc<DummyBackend>>);

    impl World for DummyWorld {
        fn open(&self) -> (Arc<dyn Backend>, UnboundedReceiver<Observation>) {
            let (sender, receiver) = unbounded_channel();
            let backend = self.0.get_or_init(|| Arc::new(DummyBackend::new(sender)));
            (Arc::<DummyBackend>::clone(backend), receiver)
        }

        fn folder(&self) -> &Path {
            Path::new("/nonexistent")
        }

        fn text(&self, act: Act) -> String {
            match act {
                Act::Succeed => "true".to_owned(),
                Act::Fail(code) => format!("fail {code}"),
                Act::Hang => "hang".to_owned(),
            }
        }

        fn starts(&self, attempt: AttemptId) -> u32 {
            self.0.get().map_or(0, |backend| backend.starts(attempt))
        }
    }

    pipekeeper_backend::backend_contract!(DummyWorld::default();
        repeated_launches_are_one_run,
        nothing_runs_without_a_ticket,
        repeated_tickets_start_once,
        tickets_of_others_are_ignored,
        exit_codes_are_told,
        stopped_before_the_ticket_never_runs,
        stopped_before_launch_never_runs,
        stopped_while_running_is_cancelled,
        an_unknown_attempt_is_gone,
        an_ended_attempt_is_told_again,
        forgotten_attempts_are_not_listed,
        many_attempts_at_once,
    );
}
