//! The user's SQL: placeholders and the queries that are made of it.
