//! The user's SQL: its tokens, its placeholders, and the quoting of what is put into it.

#[cfg(test)]
mod law;
mod lexer;
mod outline;
mod parameter;
mod quote;
mod type_name;

pub use outline::{Name, Outline, outline};
pub use parameter::{CHUNK, SNAPSHOT_TIME, Substituted, Values, substitute};
pub use quote::{cast, identifier, literal};
pub use type_name::TypeName;
