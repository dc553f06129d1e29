//! `--dry-run`: the plan, as people read it.

use pgexport_api::order::DeliveryPath;
use pgexport_engine::{Error, export};
use tokio_util::sync::CancellationToken;

use super::prepare::Prepared;

/// Connects, plans, and prints the plan with the chunks' queries. Parameters stay placeholders.
pub(crate) async fn print(prepared: &Prepared, cancel: &CancellationToken) -> Result<(), Error> {
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
