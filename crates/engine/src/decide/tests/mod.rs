//! Tables of the rules: given a plan and inputs, then these events and effects.

mod approvers;
mod attempts;
mod fixture;
mod gates;
mod order;
mod recheck;
mod reference;
mod reuse;
mod stopping;
