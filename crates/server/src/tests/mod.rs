//! The server over a memory store, a real controller and a scripted backend, asked through real sockets.

mod access;
mod api;
mod artifacts;
mod caches;
mod documents;
mod environments;
mod gates;
mod harness;
mod hooks;
mod inbox;
mod issuer;
mod kept;
mod live;
mod locks;
mod oidc;
mod pages;
mod people;
mod plans;
mod records;
mod roles;
mod secrets;
mod settings;
mod terminals;
mod tls;
