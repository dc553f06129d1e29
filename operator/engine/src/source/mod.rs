//! PostgreSQL: connections, the snapshot, and rows.
