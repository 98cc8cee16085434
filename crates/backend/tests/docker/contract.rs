//! The contract suite on real engines.

macro_rules! contract_on {
    ($engine:ident, $name:ident) => {
        mod $name {
            use crate::world::{Engine, EngineWorld};

            pipekeeper_backend::backend_contract!(some EngineWorld::new(Engine::$engine);
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

            pipekeeper_backend::backend_contract!(some EngineWorld::new(Engine::$engine); durable:
                running_attempts_are_adopted,
                waiting_attempts_are_adopted,
                records_outlive_the_server,
                voids_outlive_the_server,
                two_servers_run_it_once,
            );
        }
    };
}

contract_on!(Docker, docker);
contract_on!(Podman, podman);
