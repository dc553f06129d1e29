//! The worker's HTTP endpoint: counters, never data.

use std::convert::Infallible;
use std::net::Ipv6Addr;
use std::sync::Arc;

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use pgexport_api::progress::{PATH, WorkerProgress};
use pgexport_engine::progress::Progress;

/// Serves until the process ends. A port that cannot be had is logged: only the display of progress is lost.
pub(crate) async fn serve(port: u16, progress: Arc<Progress>) -> Infallible {
    let router = Router::new()
        .route(PATH, get(show))
        .route("/metrics", get(metrics))
        .route("/healthz", get(async || "ok"))
        .with_state(progress);
    let error = match listen(port).await {
        Ok(listener) => axum::serve(listener, router).await.err(),
        Err(error) => Some(error),
    };
    if let Some(error) = error {
        tracing::warn!(port, %error, "progress is not served");
    }
    std::future::pending().await
}

/// On all addresses: the pod's IPv6 and IPv4 ones where there are both.
async fn listen(port: u16) -> std::io::Result<tokio::net::TcpListener> {
    match tokio::net::TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).await {
        Ok(listener) => Ok(listener),
        Err(_) => tokio::net::TcpListener::bind(("0.0.0.0", port)).await,
    }
}

async fn show(State(progress): State<Arc<Progress>>) -> Json<WorkerProgress> {
    Json(progress.snapshot())
}

async fn metrics(State(progress): State<Arc<Progress>>) -> String {
    let now = progress.snapshot();
    [
        ("pgexport_worker_chunks", "gauge", u64::from(now.chunks)),
        ("pgexport_worker_chunks_exported_total", "counter", u64::from(now.chunks_exported)),
        ("pgexport_worker_chunks_transferred_total", "counter", u64::from(now.chunks_transferred)),
        ("pgexport_worker_rows_total", "counter", now.rows),
        ("pgexport_worker_bytes_total", "counter", now.bytes),
        ("pgexport_worker_bytes_copied_total", "counter", progress.bytes_copied()),
    ]
    .map(|(name, kind, value)| format!("# TYPE {name} {kind}\n{name} {value}\n"))
    .concat()
}
