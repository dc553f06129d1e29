//! Probes: whether a source or a sink can really be used is tried by a pod, before any ExportJob depends on it. Shared by
//! both kinds.

pub mod apply;
pub mod decide;
pub mod observe;
