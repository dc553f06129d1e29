//! What a result must be like, as far as it shows only when all is read: its rows.

use pgexport_api::order::RunOrder;
use pgexport_api::reason::Reason;

use crate::error::{Error, Result};
use crate::plan::Plan;

/// Checks each data set's number of rows, from those of all chunks by their indices.
pub(crate) fn check_rows(
    order: &RunOrder,
    plan: &Plan,
    chunks: impl IntoIterator<Item = (u32, u64)>,
) -> Result<()> {
    let mut found = vec![0_u64; order.datasets.len()];
    for (chunk, rows) in chunks {
        let (chunk, _) = plan.chunk(chunk)?;
        if let Some(sum) = found.get_mut(chunk.dataset as usize) {
            *sum = sum.saturating_add(rows);
        }
    }
    for (dataset, found) in order.datasets.iter().zip(found) {
        let wanted = dataset.expect.as_ref().and_then(|expect| expect.min_rows).unwrap_or_default();
        if found < wanted {
            let message = format!(
                "data set {}: expect.minRows is {wanted}, and the query returned {found}",
                dataset.name
            );
            return Err(Error::new(Reason::ExpectationUnmet, message));
        }
    }
    Ok(())
}
