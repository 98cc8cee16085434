//! Real supervisors with real processes, driven as a controller drives them.

mod files;
mod life;
mod output;
mod processes;
mod support;
