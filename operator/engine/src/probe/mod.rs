//! Trying a source or a sink without changing it.

pub mod sink;
pub mod source;
