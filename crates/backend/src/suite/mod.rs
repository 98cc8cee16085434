//! The contract suite: what every backend promises, as cases that any of them can run.
//!
//! It is no test itself: a backend implements [`World`] and lists the cases it runs with
//! [`backend_contract!`](crate::backend_contract), each of which becomes a test. The cases that a backend with a life
//! beyond its process must pass are in [`durable`].

mod cases;
pub mod durable;
mod session;

pub use cases::{
    an_ended_attempt_is_told_again, an_unknown_attempt_is_gone, exit_codes_are_told,
    forgotten_attempts_are_not_listed, many_attempts_at_once, nothing_runs_without_a_ticket,
    repeated_launches_are_one_run, repeated_tickets_start_once, stopped_before_launch_never_runs,
    stopped_before_the_ticket_never_runs, stopped_while_running_is_cancelled, tickets_of_others_are_ignored,
};
pub use session::{Act, Session, World, attempt, launch_of, placement};

/// Makes a test of each case of the suite: `backend_contract!(MyWorld::new(); repeated_launches_are_one_run, …)`. With
/// `some` in front the world is an option, and none skips the test.
#[macro_export]
macro_rules! backend_contract {
    (some $world:expr; $($case:ident),+ $(,)?) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                if let Some(world) = $world {
                    $crate::suite::$case(&world).await;
                }
            }
        )+
    };
    (some $world:expr; durable: $($case:ident),+ $(,)?) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                if let Some(world) = $world {
                    $crate::suite::durable::$case(&world).await;
                }
            }
        )+
    };
    ($world:expr; $($case:ident),+ $(,)?) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                let world = $world;
                $crate::suite::$case(&world).await;
            }
        )+
    };
    ($world:expr; durable: $($case:ident),+ $(,)?) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                let world = $world;
                $crate::suite::durable::$case(&world).await;
            }
        )+
    };
}
