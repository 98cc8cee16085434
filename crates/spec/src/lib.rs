//! Pipeline files: text to checked definition, diagnostics and [`Plan`](pipekeeper_model::Plan). Also the documents of a server.
//!
//! Nothing here does I/O or decides anything about a run. Entries: [`check`], [`document::check_documents`].

mod changed;
mod clash;
mod codes;
mod definition;
mod diagnostic;
mod dialect;
pub mod document;
mod environments;
mod grammar;
mod graph;
mod lower;
mod outline;
mod pipeline;
mod planning;
mod render;
mod request;
mod schema;
mod shape;
mod source;
mod starter;
mod suggest;
mod template;
mod triggers;
mod yaml;

pub use changed::changed_patterns;
pub use clash::{NameClash, name_clashes};
pub use codes::{codes, explain};
pub use diagnostic::{Code, Diagnostic, Diagnostics, Label, Severity};
pub use environments::changed_rules;
pub use grammar::Treatment;
pub use pipeline::{Pipeline, check};
pub use render::Color;
pub use request::{PlanError, PlanRequest};
pub use schema::{key_table, schema};
pub use source::SourceFile;
pub use starter::{ProjectKind, starter};
pub use triggers::{Admission, ChangedPaths, CronTrigger, Triggers};
