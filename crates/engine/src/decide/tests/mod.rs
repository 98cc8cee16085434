//! Tables of the rules: given a plan and inputs, then these events and effects.

mod approvers;
mod attempts;
mod environments;
mod fixture;
mod gates;
mod locks;
mod order;
mod recheck;
mod reference;
mod reuse;
mod stopping;
