//! `--dry-run`: the plan, as people read it.

use pgexport_api::job::{DEFAULT_MEMORY_LIMIT, ExportJobSpec};
use pgexport_api::order::{DeliveryPath, RunOrder};
use pgexport_api::size::quantity_bytes;
use pgexport_api::source::Method;
use pgexport_engine::memory::Memory;
use pgexport_engine::{Error, export};
use tokio_util::sync::CancellationToken;

use super::prepare::Prepared;

/// Connects, plans, and prints the plan with the chunks' queries. Parameters stay placeholders.
pub(crate) async fn print(
    prepared: &Prepared,
    job: &ExportJobSpec,
    cancel: &CancellationToken,
) -> Result<(), Error> {
    let order = &prepared.order;
    let preview = export::preview(order, prepared.secrets.clone(), cancel).await?;
    let plan = &preview.plan;
    println!("ExportJob {}/{}", order.run.namespace, order.run.name);
    println!("  server    PostgreSQL {} ({:?})", plan.server.version, plan.server.role);
    println!("  location  {}", order.location());
    let delivery = match &order.delivery {
        DeliveryPath::Direct => "Direct".to_owned(),
        DeliveryPath::Staged { staging } => format!("Staged by way of {}", staging.target.location()),
    };
    println!("  delivery  {delivery}");
    println!("  chunks    {}, {} at a time", plan.chunks.len(), order.parallelism);
    print_memory(job, order);
    for (number, dataset) in plan.datasets.iter().enumerate() {
        println!("\ndata set {} ({:?})", dataset.name, dataset.strategy);
        if let Some(reason) = &dataset.reason {
            println!("  Auto: {reason}");
        }
        for column in &dataset.columns {
            println!("  {}  {}", column.name, column.column_type);
        }
        for (chunk, query) in
            plan.chunks.iter().zip(&preview.queries).filter(|(chunk, _)| chunk.dataset as usize == number)
        {
            println!("\n-- chunk {:05}\n{}", chunk.part, query.trim_end());
        }
    }
    Ok(())
}

/// The memory that the job's pods need, and whether they get that.
fn print_memory(job: &ExportJobSpec, order: &RunOrder) {
    let (method, parallelism) = (order.source.method, job.chunking.parallelism);
    // Where the database exports by itself, the one pod of the transfer encodes.
    let workers = if method == Method::AuroraS3 { 1 } else { job.workers };
    let encoding = Memory::of(&job.format, job.compression, parallelism, workers);
    let is_transferred = method == Method::Copy && matches!(order.delivery, DeliveryPath::Staged { .. });
    let transfer = is_transferred.then(|| Memory::of_transfer(parallelism));
    println!("  memory    {encoding}");
    if let Some(transfer) = transfer {
        println!("            {transfer}");
    }
    let needed = encoding.bytes().max(transfer.map_or(0, |transfer| transfer.bytes()));
    let resources = job.pod_template.as_ref().and_then(|template| template.resources.as_ref());
    let limit = match resources {
        // Resources of the job's own take the place of the installation's as a whole.
        Some(resources) => {
            resources.limits.as_ref().and_then(|limits| limits.get("memory")).map(|limit| limit.0.as_str())
        }
        None => Some(DEFAULT_MEMORY_LIMIT),
    };
    match limit {
        None => println!("            podTemplate.resources sets no limit"),
        Some(limit) if quantity_bytes(limit).is_some_and(|limit| limit < needed) => println!(
            "            warning: more than its limit of {limit}: raise podTemplate.resources.limits.memory, or lower chunking.parallelism"
        ),
        Some(limit) => println!("            within its limit of {limit}"),
    }
}
