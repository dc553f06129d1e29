//! `/healthz`, `/readyz` and `/metrics`.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::metrics;

/// What the endpoint answers from.
#[derive(Clone, Debug)]
pub struct Answers {
    /// The metrics.
    pub registry: Arc<Registry>,
    /// Whether all watches have been filled once.
    pub ready: watch::Receiver<bool>,
}

/// Serves until `stop` ends.
pub async fn serve(listener: TcpListener, answers: Answers, stop: impl Future<Output = ()> + Send + 'static) {
    let router = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics_text))
        .with_state(answers);
    if let Err(error) = axum::serve(listener, router).with_graceful_shutdown(stop).await {
        tracing::error!(%error, "the HTTP endpoint ended");
    }
}

async fn readyz(State(answers): State<Answers>) -> impl IntoResponse {
    if *answers.ready.borrow() {
        (StatusCode::OK, "ok\n")
    } else {
        let why = "waiting for the first lists of ExportSources, ExportSinks, ExportJobs, Jobs and Pods: are the CRDs installed?\n";
        (StatusCode::SERVICE_UNAVAILABLE, why)
    }
}

async fn metrics_text(State(answers): State<Answers>) -> impl IntoResponse {
    let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, content_type)], metrics::encode(&answers.registry))
}
