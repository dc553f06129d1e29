//! What a delivery finds at its location, before anything is written there.

use pgexport_api::job::IfExists;
use pgexport_api::order::RunOrder;
use pgexport_api::reason::Reason;
use pgexport_api::report::Delivered;

use super::{MANIFEST, SUCCESS, Success, replace};
use crate::error::{Error, Result};
use crate::store::{Document, Store};

/// What is at the location.
#[derive(Clone, Debug)]
pub enum Arrival {
    /// This ExportJob's own finished delivery, or that of a former one of the same name and spec: nothing is left to do.
    Delivered(Delivered),
    /// There is something to do. With [`IfExists::Replace`], what is to be replaced, if anything is seen; where the sink
    /// does not let us look, [`super::seal`] will notice.
    Open(Option<Earlier>),
}

/// What was at the location when a delivery began that is to replace it. Nothing newer is replaced: whoever comes late finds
/// other versions, and fails.
#[derive(Clone, Debug)]
pub struct Earlier {
    pub(super) success: Option<Document>,
    pub(super) manifest: Option<Document>,
}

/// Looks at the location.
///
/// # Errors
/// [`Reason::OutputExists`]: it holds a finished delivery that is not to be replaced, or whose files are not known.
pub async fn arrive(store: &dyn Store, order: &RunOrder) -> Result<Arrival> {
    let path = &order.path;
    let success = match look(store, &format!("{path}{SUCCESS}")).await? {
        Look::Refused => return Ok(Arrival::Open(None)),
        Look::Nothing => None,
        Look::Found(document) => Some(document),
    };
    let replaces = order.if_exists == IfExists::Replace;
    if let Some(document) = &success {
        match Success::read(&document.body) {
            Some(success) if success.uid == order.run.uid => {
                if replaces {
                    replace::finish(store, path, &success).await?;
                }
                return Ok(Arrival::Delivered(success.delivered(store, path, false)));
            }
            Some(_) if replaces => {}
            // What Git declares is created again where somebody removes it: the same name and spec, and nothing to do.
            Some(success) if success.is_same_job(order) => {
                return Ok(Arrival::Delivered(success.delivered(store, path, true)));
            }
            other => return Err(taken(store, path, other.as_ref())),
        }
    }
    if !replaces {
        return Ok(Arrival::Open(None));
    }
    let manifest = match look(store, &format!("{path}{MANIFEST}")).await? {
        Look::Found(document) => Some(document),
        Look::Nothing | Look::Refused => None,
    };
    Ok(Arrival::Open(Some(Earlier { success, manifest })))
}

/// The finished delivery of another attempt of this run, if it is at the location.
pub(super) async fn delivered_by_another(store: &dyn Store, order: &RunOrder) -> Option<Delivered> {
    let path = &order.path;
    let Ok(Look::Found(document)) = look(store, &format!("{path}{SUCCESS}")).await else { return None };
    let own = Success::read(&document.body).filter(|success| success.uid == order.run.uid)?;
    Some(own.delivered(store, path, false))
}

pub(super) enum Look {
    Nothing,
    Found(Document),
    Refused,
}

pub(super) async fn look(store: &dyn Store, key: &str) -> Result<Look> {
    match store.document(key).await {
        Ok(None) => Ok(Look::Nothing),
        Ok(Some(document)) => Ok(Look::Found(document)),
        Err(error) if error.reason() == Reason::AccessDenied => Ok(Look::Refused),
        Err(error) => Err(error),
    }
}

/// It is another one's.
pub(super) fn taken(store: &dyn Store, path: &str, success: Option<&Success>) -> Error {
    let whose = success.map_or_else(
        || "something else".to_owned(),
        |Success { namespace, name, uid, attempt, .. }| {
            format!("ExportJob {namespace}/{name} ({uid}, attempt {attempt})")
        },
    );
    Error::new(Reason::OutputExists, format!("{} holds a finished delivery of {whose}", store.uri(path)))
}

/// Something else was written there since this delivery began.
pub(super) fn changed(store: &dyn Store, path: &str) -> Error {
    let message = format!("{} was written to while this delivery was on its way", store.uri(path));
    Error::new(Reason::StoreError, message)
        .with_hint("look for whoever else delivers there; the next try looks anew")
}
