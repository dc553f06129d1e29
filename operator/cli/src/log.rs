//! Logs: JSON lines in a pod, plain text on a terminal.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// tokio-postgres logs queries at debug by the `log` crate, the parameters' values included. No level of `RUST_LOG` may bring
/// them to light: all that `log` has below warnings is compiled out.
const _: () = assert!(matches!(log::STATIC_MAX_LEVEL, log::LevelFilter::Warn));

/// Begins logging to standard error. `RUST_LOG` chooses levels; the default is `info`.
pub(crate) fn init() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    if std::io::stderr().is_terminal() {
        builder.with_target(false).init();
    } else {
        builder.json().flatten_event(true).with_current_span(false).init();
    }
}
