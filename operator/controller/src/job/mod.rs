//! Kubernetes Jobs: how they are rendered, created and deleted, what is observed of them, and what their failures mean.
//! Shared by all kinds.

pub mod apply;
pub mod fact;
pub mod failure;
#[cfg(test)]
pub mod fixture;
pub mod mount;
pub mod observe;
pub mod order;
pub mod pod;
pub mod render;
pub mod trouble;
