//! The rows of the table, one module each.

mod action;
mod engine;
pub(crate) mod logs;
mod memory;
mod pages;
mod pods;
mod push;
mod replicas;
mod scheduling;
mod start;
mod step;
mod webhook;

use anyhow::Result;

use crate::figure::Figure;

/// A row's name and how it is measured.
pub(crate) type Row = (&'static str, fn() -> Result<Vec<Figure>>);

/// Every row, in the order of the paper.
pub(crate) const ROWS: &[Row] = &[
    ("step", step::measure),
    ("action", action::measure),
    ("start", start::measure),
    ("engine", engine::measure),
    ("webhook", webhook::measure),
    ("webhook-postgres", webhook::measure_postgres),
    ("push", push::measure),
    ("scheduling", scheduling::measure),
    ("scheduling-postgres", scheduling::measure_postgres),
    ("replicas", replicas::measure),
    ("pods", pods::measure),
    ("pods-many", pods::measure_many),
    ("logs", logs::measure),
    ("pages", pages::measure),
    ("memory", memory::measure),
];
