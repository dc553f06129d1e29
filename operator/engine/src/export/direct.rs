//! Direct: one pod streams each chunk to a file of its own in the sink; all of them become visible at the end.

use std::sync::Arc;

use jiff::Timestamp;
use pgexport_api::report::Delivered;

use super::chunk_file::StoredChunk;
use super::share::{self, Destination};
use super::{Context, begin, expect, export_while_held, interrupted};
use crate::error::Result;
use crate::manifest::{Arrival, DeliveredFile, Delivery, Export, arrive};
use crate::output::{FileWriter, Packer, Role, file_name, media_type};
use crate::plan::Plan;
use crate::store::{self, Store};

pub(super) async fn run(context: &Context) -> Result<Delivered> {
    let order = &context.order;
    let sink = store::open(&order.sink.target, Arc::clone(&context.secrets), &context.volumes)?;
    let earlier = match arrive(sink.as_ref(), order).await? {
        Arrival::Delivered(delivered) => return Ok(delivered),
        Arrival::Open(earlier) => earlier,
    };
    let (holder, plan) = begin(context).await?;
    let all: Vec<u32> = (0..).zip(&plan.chunks).map(|(chunk, _)| chunk).collect();
    let delivery = Delivery::new(Arc::clone(&sink), order, earlier, None);
    let destination = Sink { context, plan: &plan, store: sink.as_ref(), delivery: &delivery };
    let stop = context.cancel.child_token();
    let export = share::export(context, &plan, &all, &destination, &stop);
    let exported = export_while_held(&holder, &stop, export).await;
    holder.finish().await;
    let exported = if context.cancel.is_cancelled() { Err(interrupted()) } else { exported };
    let exported = exported.and_then(|kept| {
        expect::check_rows(order, &plan, kept.iter().map(|(chunk, kept)| (*chunk, kept.rows)))?;
        Ok(kept)
    });
    match exported {
        Ok(kept) => {
            let started = kept.iter().map(|(_, kept)| kept.started).min().unwrap_or(plan.time);
            let finished = kept.iter().map(|(_, kept)| kept.finished).max().unwrap_or(plan.time);
            let chunks = u32::try_from(plan.chunks.len()).unwrap_or(u32::MAX);
            let export = Export { chunks, started, finished };
            let delivered = delivery.commit(order, &plan, export, &context.cancel).await?;
            Ok(Delivered { chunking: plan.chunking(), ..delivered })
        }
        Err(error) => {
            delivery.abort().await;
            Err(error)
        }
    }
}

/// What is known of a file that is stored.
struct Kept {
    rows: u64,
    started: Timestamp,
    finished: Timestamp,
}

/// Files in the sink.
struct Sink<'a> {
    context: &'a Context,
    plan: &'a Plan,
    store: &'a dyn Store,
    delivery: &'a Delivery,
}

impl Destination for Sink<'_> {
    type Kept = Kept;

    async fn begin(&self, chunk: u32) -> Result<(FileWriter, Packer)> {
        let (planned, dataset) = self.plan.chunk(chunk)?;
        let order = &self.context.order;
        let (format, compression) = (order.format.format_type, order.compression);
        let (part, value) = (planned.part, dataset.value(planned.part));
        let name = file_name(&order.files, format, compression, &dataset.name, part, value, &order.token());
        let packer = Packer::new(&order.format, compression, dataset, Role::Delivered)?;
        let media_type = media_type(format, compression);
        let writer = FileWriter::begin(self.store, &self.delivery.key(&name), media_type).await?;
        Ok((writer, packer))
    }

    async fn keep(&self, chunk: u32, stored: StoredChunk) -> Result<Self::Kept> {
        let StoredChunk { file, rows, started, finished, .. } = stored;
        let planned = match self.plan.chunk(chunk) {
            Ok((planned, _)) => planned,
            Err(error) => {
                file.pending.abort().await;
                return Err(error);
            }
        };
        self.delivery.add(DeliveredFile { dataset: planned.dataset, part: planned.part, rows, file });
        Ok(Kept { rows, started, finished })
    }
}
