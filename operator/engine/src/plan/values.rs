//! Chunks by values of a placeholder: those that the order gives, which the plan tells by their places, or those that a query
//! gives, which the plan holds. Messages hold none.

use pgexport_api::job::{DatasetChunking, ParameterValue, Strategy, ValuesChunking};
use pgexport_api::order::{DatasetOrder, ParameterOrder};
use pgexport_api::reason::Reason;

use super::describe::{describe, explain};
use super::query::type_name;
use super::{ItemValue, Rows, parameter};
use crate::error::{Error, Result};
use crate::source::Session;
use crate::source::error::{ServerMessage, Stage, reason};
use crate::sql::{Substituted, TypeName, Values, cast, substitute};

/// More chunks than this, nobody wants: each is an object and a sidecar.
const MAX_ITEMS: usize = 10_000;

/// How many values are tried by one statement.
const BATCH: usize = 200;

/// Whether planning has locked a table with partitions or children: which of them, depends on the value.
const HAS_CHILDREN: &str = "
SELECT EXISTS (SELECT FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_class c ON c.oid = l.relation
WHERE l.locktype = 'relation' AND l.pid = pg_catalog.pg_backend_pid() AND l.granted
  AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())
  AND (c.relkind = 'p' OR EXISTS (SELECT FROM pg_catalog.pg_inherits i WHERE i.inhparent = c.oid)))";

/// The values that a data set is split by.
#[derive(Clone, Debug)]
pub(super) struct Items<'a> {
    chunking: &'a ValuesChunking,
    type_name: TypeName,
    texts: Vec<String>,
}

impl<'a> Items<'a> {
    /// Those of a data set of strategy Values. `given` are those that a query gave.
    pub(super) fn of(chunking: &'a DatasetChunking, given: &[ItemValue]) -> Result<Option<Self>> {
        let Some(chunking) = chunking.values.as_ref().filter(|_| chunking.strategy == Strategy::Values)
        else {
            return Ok(None);
        };
        let texts = if chunking.items_from.is_some() {
            given.iter().map(|value| value.as_str().to_owned()).collect()
        } else {
            chunking
                .texts()
                .map_err(|error| Error::new(Reason::InvalidParameter, format!("chunking.values: {error}")))?
        };
        let type_name = type_name(&parameter(chunking, ParameterValue::Null))?;
        Ok(Some(Self { chunking, type_name, texts }))
    }

    /// Those of a data set of strategy Values; where a query gives them, it is run.
    pub(super) async fn find(
        session: &Session,
        doing: &str,
        chunking: &'a DatasetChunking,
        values: &Values,
    ) -> Result<Option<Self>> {
        let Some(mut items) = Self::of(chunking, &[])? else { return Ok(None) };
        if let Some(query) = &items.chunking.items_from {
            let doing = format!("{doing}: chunking.values.itemsFrom");
            items.texts = run(session, &doing, &substitute(query, values)).await?;
        }
        Ok(Some(items))
    }

    /// What a query gave, for the plan.
    pub(super) fn is_asked_for(&self) -> bool {
        self.chunking.items_from.is_some()
    }

    /// Puts NULL in the place of the placeholder.
    pub(super) fn insert_null(&self, values: &mut Values) {
        values.insert(self.chunking.parameter.clone(), cast(None, self.type_name.as_str()));
    }

    /// The query of the first chunk, or of the only one where there is no value.
    pub(super) fn insert_first(&self, values: &mut Values) -> Result<()> {
        if self.texts.is_empty() {
            self.insert_null(values);
            return Ok(());
        }
        self.insert(0, values)
    }

    /// Puts the value at `place` in the place of the placeholder.
    pub(super) fn insert(&self, place: usize, values: &mut Values) -> Result<()> {
        let text = self.texts.get(place).ok_or_else(|| {
            let message =
                format!("the plan names item {place} of chunking.values, which the order does not have");
            Error::new(Reason::InternalError, message)
        })?;
        values.insert(self.chunking.parameter.clone(), cast(Some(text), self.type_name.as_str()));
        Ok(())
    }

    /// Checks that the type exists, and that each item is a value of it that no other item is. Gives the values as the
    /// server writes them.
    pub(super) async fn check(&self, session: &Session, doing: &str) -> Result<Vec<ItemValue>> {
        let refused = |why: String| {
            Err(Error::new(Reason::ChunkingRefused, format!("{doing}: chunking.values: {why}")))
        };
        if self.texts.is_empty() && !self.is_asked_for() {
            return refused("give at least one item".to_owned());
        }
        if self.texts.len() > MAX_ITEMS {
            return refused(format!(
                "{} items; {MAX_ITEMS} are the most, split them over several data sets",
                self.texts.len()
            ));
        }
        let first =
            self.texts.first().map_or(ParameterValue::Null, |text| ParameterValue::Text(text.clone()));
        parameter::check(session, &parameter(self.chunking, first)).await?;
        let mut written = Vec::with_capacity(self.texts.len());
        for (batch, texts) in self.texts.chunks(BATCH).enumerate() {
            written.extend(self.outputs(session, doing, batch * BATCH, texts).await?);
        }
        let mut sorted: Vec<(&String, usize)> = written.iter().zip(0..).collect();
        sorted.sort_unstable();
        let twice = sorted.iter().zip(sorted.iter().skip(1)).find(|(one, other)| one.0 == other.0);
        match twice {
            Some((one, other)) => refused(format!(
                "items[{}] and items[{}] are the same value of type {}, and its rows would be there twice",
                one.1, other.1, self.type_name
            )),
            None => Ok(written.into_iter().map(ItemValue::new).collect()),
        }
    }

    /// The values as the server writes them.
    async fn outputs(
        &self,
        session: &Session,
        doing: &str,
        from: usize,
        texts: &[String],
    ) -> Result<Vec<String>> {
        session.batch(Stage::Plan, doing, "SAVEPOINT items").await?;
        match self.written(session, texts).await {
            Ok(outputs) => {
                session.batch(Stage::Plan, doing, "RELEASE SAVEPOINT items").await?;
                return Ok(outputs);
            }
            Err(error) if !is_bad_value(&error) => return Err(session.error(error, Stage::Plan, doing)),
            Err(_) => session.batch(Stage::Plan, doing, "ROLLBACK TO SAVEPOINT items").await?,
        }
        // One of them is bad: which?
        for (place, text) in (from..).zip(texts) {
            if let Err(error) = self.written(session, std::slice::from_ref(text)).await {
                let sql_state = ServerMessage::of(&error).map(|said| said.sql_state).unwrap_or_default();
                let message = format!(
                    "{doing}: chunking.values: items[{place}] is not a value of type {}",
                    self.type_name
                );
                return Err(Error::new(Reason::InvalidParameter, message).with_sql_state(sql_state));
            }
        }
        let message = format!("{doing}: chunking.values: items {from} and following are refused");
        Err(Error::new(Reason::InvalidParameter, message))
    }

    async fn written(
        &self,
        session: &Session,
        texts: &[String],
    ) -> Result<Vec<String>, tokio_postgres::Error> {
        let casts: Vec<String> = texts
            .iter()
            .map(|text| format!("{}::pg_catalog.text", cast(Some(text), self.type_name.as_str())))
            .collect();
        let sql = format!("SELECT {}", casts.join(", "));
        let rows = session.watched(session.client().query_typed(&sql, &[])).await?;
        rows.iter().flat_map(|row| (0..row.len()).map(|index| row.try_get(index))).collect()
    }

    /// Checks that the query names the placeholder: without it, each chunk would be the whole.
    pub(super) fn check_placeholder(&self, doing: &str, query: &Substituted) -> Result<()> {
        let name = &self.chunking.parameter;
        // In brackets, the server's refusal comes with what to do about it.
        if query.replaced.contains_key(name) || query.bracketed.contains(name) {
            return Ok(());
        }
        let message = format!(
            "{doing}: strategy Values needs the placeholder :{name} in the query, as in WHERE … = :{name}; without it each chunk would hold all rows"
        );
        Err(Error::new(Reason::ChunkingRefused, message))
    }

    /// A chunk for each value. What is locked for one value may not be all that is read for another: then each is planned.
    pub(super) async fn rows(
        &self,
        session: &Session,
        doing: &str,
        dataset: &DatasetOrder,
        values: &Values,
    ) -> Result<Vec<Rows>> {
        if self.texts.is_empty() {
            return Ok(vec![Rows::OfNothing]);
        }
        let row = session.one(Stage::Plan, doing, HAS_CHILDREN, &[]).await?;
        if row.try_get(0).map_err(|error| session.error(error, Stage::Plan, doing))? {
            let mut values = values.clone();
            for place in 1..self.texts.len() {
                self.insert(place, &mut values)?;
                explain(session, doing, &substitute(&dataset.sql, &values).sql).await?;
            }
        }
        Ok((0_u32..).zip(&self.texts).map(|(item, _)| Rows::OfValue { item }).collect())
    }
}

/// The values that a query gives.
async fn run(session: &Session, doing: &str, query: &Substituted) -> Result<Vec<String>> {
    let refused = |why: String| Error::new(Reason::ChunkingRefused, format!("{doing}: {why}"));
    let described = describe(session, doing, query).await?;
    if described.columns.len() != 1 {
        return Err(refused(format!("it gives {} columns; give one, the values", described.columns.len())));
    }
    let sql = format!("SELECT i.v::pg_catalog.text FROM (\n{}\n) AS i(v) LIMIT {}", query.sql, MAX_ITEMS + 1);
    let rows = session.watched(session.client().query_typed(&sql, &[])).await;
    let rows = rows.map_err(|error| session.error(error, Stage::Run, doing))?;
    if rows.len() > MAX_ITEMS {
        return Err(refused(format!(
            "it gives more than {MAX_ITEMS} values; split them over several data sets"
        )));
    }
    let text = |row: &tokio_postgres::Row| {
        let text: Option<String> = row.try_get(0).map_err(|error| session.error(error, Stage::Run, doing))?;
        text.ok_or_else(|| {
            refused("it gives NULL, which no comparison holds for: add WHERE … IS NOT NULL, and export rows without a value by a data set of their own".to_owned())
        })
    };
    rows.iter().map(text).collect()
}

fn parameter(chunking: &ValuesChunking, value: ParameterValue) -> ParameterOrder {
    ParameterOrder {
        name: chunking.parameter.clone(),
        parameter_type: chunking.parameter_type.clone(),
        value,
        sensitive: true,
    }
}

fn is_bad_value(error: &tokio_postgres::Error) -> bool {
    ServerMessage::of(error).is_some_and(|said| {
        matches!(reason(&said.sql_state, Stage::Plan), Reason::InvalidQuery | Reason::DataError)
    })
}

#[cfg(test)]
mod tests {
    use pgexport_api::job::{DatasetChunking, Strategy};
    use serde_json::json;

    use super::super::query::values;
    use super::Items;
    use crate::sql::substitute;

    #[test]
    fn each_item_stands_for_the_placeholder_as_a_cast() {
        let chunking = DatasetChunking {
            strategy: Strategy::Values,
            values: Some(
                serde_json::from_value(json!({"parameter": "day", "type": "date", "items": ["it's", 7]}))
                    .unwrap(),
            ),
            ..DatasetChunking::default()
        };
        let items = Items::of(&chunking, &[]).unwrap().unwrap();
        let mut values = values(&[], jiff::Timestamp::UNIX_EPOCH).unwrap();
        for (place, wanted) in [(0, "(CAST('it''s' AS date))"), (1, "(CAST('7' AS date))")] {
            items.insert(place, &mut values).unwrap();
            assert_eq!(substitute("SELECT :day", &values).sql, format!("SELECT {wanted}"));
        }
        assert!(items.insert(2, &mut values).is_err());
        let none = DatasetChunking { strategy: Strategy::None, ..chunking };
        assert!(Items::of(&none, &[]).unwrap().is_none(), "the block of another strategy does not count");
    }
}
