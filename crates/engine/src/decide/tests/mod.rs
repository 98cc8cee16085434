//! Tables of the rules: given a plan and inputs, then these events and effects.

mod attempts;
mod fixture;
mod gates;
mod order;
mod reference;
mod reuse;
mod stopping;
