//! The server over a memory store, a real controller and a scripted backend, asked through real sockets.

mod access;
mod api;
mod caches;
mod documents;
mod gates;
mod harness;
mod hooks;
mod live;
mod pages;
mod people;
mod plans;
mod records;
mod roles;
mod terminals;
