//! Logs: JSON lines in a pod, plain text on a terminal.

use std::io::IsTerminal;

use tracing::Subscriber;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::{FilterExt as _, LevelFilter, Targets};
use tracing_subscriber::layer::{Filter, Layer as _, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;

/// tokio-postgres logs queries at debug by the `log` crate, the parameters' values included. No level of `RUST_LOG` may bring
/// them to light: all that `log` has below warnings is compiled out.
const _: () = assert!(matches!(log::STATIC_MAX_LEVEL, log::LevelFilter::Warn));

/// What these crates log below `info` has requests in it: bodies, and headers that sign them. They log by `tracing`, so
/// nothing is compiled out.
const TALKATIVE: [&str; 5] = ["aws_", "h2", "hyper", "rustls", "tower_http"];

/// What `RUST_LOG` asks for, as far as it may: no directive of it, however exact, overrides [`TALKATIVE`].
fn filter<S: Subscriber>(wanted: EnvFilter) -> impl Filter<S> {
    let allowed = TALKATIVE.map(|target| (target, LevelFilter::INFO));
    wanted.and(Targets::new().with_default(LevelFilter::TRACE).with_targets(allowed))
}

/// Begins logging to standard error. `RUST_LOG` chooses levels; the default is `info`.
pub(crate) fn init() {
    let wanted = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let layer = if std::io::stderr().is_terminal() {
        layer.with_target(false).boxed()
    } else {
        layer.json().flatten_event(true).with_current_span(false).boxed()
    };
    tracing_subscriber::registry().with(layer.with_filter(filter(wanted))).init();
    if pgexport_failpoint::ENABLED {
        tracing::warn!(
            "this build has failpoints, at which a test holds it or lets it die: it is for tests only"
        );
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::EnvFilter;
    use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn no_directive_brings_bodies_to_light() {
        let written = Written::default();
        let writer = written.clone();
        let layer = tracing_subscriber::fmt::layer().with_writer(move || writer.clone());
        let wanted = EnvFilter::new("trace,aws_smithy_runtime::client=trace,[{body}]=trace");
        let subscriber = tracing_subscriber::registry().with(layer.with_filter(super::filter(wanted)));
        tracing::subscriber::with_default(subscriber, || {
            tracing::trace!(target: "aws_smithy_runtime::client::orchestrator", body = "secret", "request");
            tracing::debug!(target: "aws_sigv4::http_request::sign", "secret");
            tracing::trace!(target: "h2::codec::framed_read", "secret");
            tracing::info!(target: "aws_config::profile", "plain");
            tracing::trace!(target: "pgexport_engine", "detail");
        });
        let written = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
        assert!(written.contains("plain") && written.contains("detail"), "{written}");
        assert!(!written.contains("secret"), "{written}");
    }
}
