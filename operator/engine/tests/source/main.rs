//! The engine against a real PostgreSQL: `make peers-up` starts it.

mod chunking;
mod copying;
mod login;
mod parameters;
mod queries;
mod snapshot;
mod world;
