//! The `changed(…)` calls of a plan.
use pipekeeper_model::Plan;

/// The patterns of every `changed(…)` in the plan's expressions.
pub fn changed_patterns(_plan: &Plan) -> Vec<Vec<String>> {
    Vec::new()
}
