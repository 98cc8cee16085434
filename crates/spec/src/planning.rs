//! Definition to plan.
use pipekeeper_model::Plan;

use crate::{definition::Definition, request::{PlanError, PlanRequest}};

pub(crate) fn plan(_definition: &Definition, _request: &PlanRequest<'_>) -> Result<Plan, Vec<PlanError>> {
    Err(Vec::new())
}
