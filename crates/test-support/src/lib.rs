//! Test support: the deterministic simulator of the controller.
//!
//! Nothing here is part of the product. Entry points: [`sim::simulate`] and [`sim::Options`].

pub mod sim;
