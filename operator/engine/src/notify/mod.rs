//! Telling a receiver that a run has failed: one POST of a JSON document, signed in the manner of Standard Webhooks
//! (<https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md>). Redirects are not followed, and
//! what the receiver answers is neither kept nor logged, but for its status.

mod connection;
mod signature;

use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue, USER_AGENT};
use hyper::{Request, StatusCode};
use jiff::Timestamp;
use pgexport_api::order::{NamedReceiver, NotifyOrder};
use pgexport_api::reason::Reason;
use pgexport_api::source::SecretKeyRef;
use tokio_util::sync::CancellationToken;

use crate::error::{Error, Result};
use crate::secret::Secrets;
use connection::Address;
use signature::SigningKeys;

/// Sends the message of `order` and returns the status of the answer, from 200 to 299.
pub async fn send(order: &NotifyOrder, secrets: &dyn Secrets, cancel: &CancellationToken) -> Result<u16> {
    let address = Address::of(&order.receiver)?;
    let request = request(order, &address, secrets)?;
    let answer = within(&order.receiver, async {
        connection::open(&address, &order.receiver, secrets).await?.post(request).await
    });
    let status = tokio::select! {
        status = answer => status?,
        () = cancel.cancelled() => {
            return Err(Error::new(Reason::Interrupted, "stopped before the receiver had answered"));
        }
    };
    if status.is_success() {
        tracing::info!(receiver = %address, status = status.as_u16(), id = order.id, "the receiver was told");
        return Ok(status.as_u16());
    }
    Err(refused(&address, &order.receiver, status))
}

/// Looks whether a message could be sent, without sending one: Secrets are read, and a connection is made, over TLS where the
/// URL says so. No request is sent, which might be taken for an alarm.
pub async fn probe(receiver: &NamedReceiver, secrets: &dyn Secrets) -> Result<()> {
    let address = Address::of(receiver)?;
    SigningKeys::read(&receiver.http.signing_secret_ref, secrets)?;
    bearer(receiver, secrets)?;
    within(receiver, async { connection::open(&address, receiver, secrets).await.map(drop) }).await
}

async fn within<T>(receiver: &NamedReceiver, work: impl Future<Output = Result<T>>) -> Result<T> {
    let timeout = Duration::from(receiver.http.timeout);
    tokio::time::timeout(timeout, work).await.unwrap_or_else(|_| {
        let message = format!("{} did not answer within {timeout:?}", receiver.http.origin());
        Err(Error::new(Reason::ReceiverUnreachable, message).with_hint(format!(
            "look why it is slow, check DNS, firewalls and NetworkPolicies, or raise spec.http.timeout of ExportSink {}",
            receiver.name
        )))
    })
}

fn request(order: &NotifyOrder, address: &Address, secrets: &dyn Secrets) -> Result<Request<Full<Bytes>>> {
    let internal = |error: hyper::http::Error| {
        Error::new(Reason::InternalError, "the message is no valid request").with_source(error)
    };
    let body = serde_json::to_vec(&order.message).map_err(|error| {
        Error::new(Reason::InternalError, "the message cannot be written as JSON").with_source(error)
    })?;
    let seconds = Timestamp::now().as_second();
    let keys = SigningKeys::read(&order.receiver.http.signing_secret_ref, secrets)?;
    let mut request = Request::post(address.path())
        .header(HOST, address.authority())
        .header(USER_AGENT, concat!("pgexport/", env!("CARGO_PKG_VERSION")))
        .header(CONTENT_TYPE, "application/json")
        .header("webhook-id", &order.id)
        .header("webhook-timestamp", seconds)
        .header("webhook-signature", keys.sign(&order.id, seconds, &body))
        .body(Full::new(Bytes::from(body)))
        .map_err(internal)?;
    if let Some(bearer) = bearer(&order.receiver, secrets)? {
        request.headers_mut().insert(AUTHORIZATION, bearer);
    }
    Ok(request)
}

fn bearer(receiver: &NamedReceiver, secrets: &dyn Secrets) -> Result<Option<HeaderValue>> {
    let Some(SecretKeyRef { name, key }) = &receiver.http.token_secret_ref else { return Ok(None) };
    let token = secrets.read_text(name, key)?;
    let mut value = HeaderValue::try_from(format!("Bearer {token}")).map_err(|_| {
        Error::new(
            Reason::SecretInvalid,
            format!("key {key} of Secret {name} holds characters that no token can have"),
        )
    })?;
    value.set_sensitive(true);
    Ok(Some(value))
}

fn refused(address: &Address, receiver: &NamedReceiver, status: StatusCode) -> Error {
    let sink = &receiver.name;
    let error =
        Error::new(Reason::ReceiverRefused, format!("{address} answers with status {}", status.as_u16()));
    match status.as_u16() {
        300..=399 => error.with_hint(format!(
            "redirects are not followed: write the URL that it leads to in spec.http.url of ExportSink {sink}"
        )),
        401 | 403 => error.with_hint(format!(
            "check that the receiver knows the signing key and the token of ExportSink {sink} (spec.http.signingSecretRef and tokenSecretRef)"
        )),
        404 | 405 | 410 => error.with_hint(format!("correct spec.http.url of ExportSink {sink}")),
        _ => error,
    }
}
