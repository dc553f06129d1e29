//! What `EXPLAIN (VERBOSE, FORMAT JSON)` says of a query.

use serde::Deserialize;

use crate::sql::identifier;

/// A node of a plan.
#[derive(Deserialize, Debug, Default, Clone)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Node {
    #[serde(rename = "Node Type")]
    pub(super) kind: String,
    #[serde(rename = "Parent Relationship")]
    pub(super) parent_relationship: Option<String>,
    #[serde(rename = "Join Type")]
    pub(super) join_type: Option<String>,
    pub(super) schema: Option<String>,
    #[serde(rename = "Relation Name")]
    pub(super) relation: Option<String>,
    pub(super) alias: Option<String>,
    pub(super) filter: Option<String>,
    pub(super) output: Vec<String>,
    #[serde(rename = "TID Cond")]
    pub(super) tid_condition: Option<String>,
    #[serde(rename = "One-Time Filter")]
    pub(super) one_time_filter: Option<String>,
    #[serde(rename = "Total Cost")]
    pub(super) total_cost: f64,
    pub(super) plans: Vec<Node>,
}

/// An element of EXPLAIN's output.
#[derive(Deserialize, Debug)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Explained {
    pub(super) plan: Node,
}

impl Node {
    /// This node and all below it.
    fn all(&self) -> Box<dyn Iterator<Item = &Self> + '_> {
        Box::new(std::iter::once(self).chain(self.plans.iter().flat_map(Self::all)))
    }

    /// Whether running it would write: rows, or locks on rows.
    pub(super) fn writes(&self) -> bool {
        self.all().any(|node| matches!(node.kind.as_str(), "ModifyTable" | "LockRows"))
    }

    /// Whether a LIMIT stands at the top of the query.
    pub(super) fn is_limited(&self) -> bool {
        match (self.kind.as_str(), self.plans.first()) {
            ("Limit", _) => true,
            ("Gather" | "Gather Merge" | "Result" | "ProjectSet" | "Subquery Scan", Some(child)) => {
                child.is_limited()
            }
            _ => false,
        }
    }

    /// Whether nothing below is ever run: some servers keep a scan under a condition that is
    /// constantly false.
    pub(super) fn is_never_run(&self) -> bool {
        self.one_time_filter.as_deref() == Some("false")
    }

    /// The ways from here to the scans of a table under an alias. PostgreSQL numbers aliases that occur more than once
    /// (`f_1`); those count too.
    pub(super) fn ways_to(&self, schema: &str, relation: &str, alias: &str) -> Vec<Vec<&Self>> {
        let here = self.schema.as_deref() == Some(schema)
            && self.relation.as_deref() == Some(relation)
            && self.has_alias(alias);
        let mut ways: Vec<_> = if here { vec![vec![self]] } else { Vec::new() };
        for child in &self.plans {
            for mut way in child.ways_to(schema, relation, alias) {
                way.insert(0, self);
                ways.push(way);
            }
        }
        ways
    }

    /// Whether it is called so, or so with a number.
    fn has_alias(&self, alias: &str) -> bool {
        self.alias.as_deref().and_then(|name| name.strip_prefix(alias)).is_some_and(|rest| {
            rest.is_empty()
                || rest.strip_prefix('_').is_some_and(|number| {
                    !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
                })
        })
    }

    /// The scans of the table under an alias, or of its partitions, where they are all that the plan reads and each row of
    /// the result comes from one row of theirs. Otherwise, what else stands in the plan.
    pub(super) fn sole_scans(&self, alias: &str) -> Result<Vec<&Self>, String> {
        let subquery =
            |node: &Self| matches!(node.parent_relationship.as_deref(), Some("InitPlan" | "SubPlan"));
        if self.plans.iter().any(subquery) {
            return Err("a subquery in an expression, or a materialized WITH query".to_owned());
        }
        match self.kind.as_str() {
            "Seq Scan" | "Index Scan" | "Index Only Scan" | "Bitmap Heap Scan" | "Tid Scan"
            | "Tid Range Scan" | "Foreign Scan"
                if self.has_alias(alias) =>
            {
                Ok(vec![self])
            }
            // What is made without a table would be made for each chunk.
            "Result" if self.plans.is_empty() && !self.is_never_run() => Err("rows of no table".to_owned()),
            "Gather" | "Gather Merge" | "Sort" | "Incremental Sort" | "Result" | "ProjectSet"
            | "Subquery Scan" | "Append" | "Merge Append" => {
                let below = self.plans.iter().map(|child| child.sole_scans(alias));
                Ok(below.collect::<Result<Vec<_>, _>>()?.concat())
            }
            other => Err(other.to_owned()),
        }
    }

    /// What keeps rows that may be other ones the next time: a LIMIT, a sample, a window.
    pub(super) fn arbitrary(&self) -> Option<&str> {
        let kinds = ["Limit", "Sample Scan", "WindowAgg"];
        self.all().map(|node| node.kind.as_str()).find(|kind| kinds.contains(kind))
    }

    /// Whether an expression has a row of a table in it, as a whole: VERBOSE writes that as `alias.*`.
    pub(super) fn names_rows(&self) -> bool {
        self.all().filter_map(|node| node.alias.as_deref()).any(|alias| {
            let row = format!("{alias}.*");
            let quoted = format!("{}.*", identifier(alias));
            self.all()
                .flat_map(|node| node.output.iter().chain(&node.filter))
                .any(|text| text.contains(&row) || text.contains(&quoted))
        })
    }
}

/// What on the way to a table's scan makes the result of the whole differ from the union of the results of its parts:
/// the name of the first such node. `None`: nothing does, each row of the result comes from one row of the table.
pub(super) fn obstacle(way: &[&Node]) -> Option<String> {
    way.iter().zip(way.iter().skip(1)).find_map(|(node, child)| {
        let relationship = child.parent_relationship.as_deref().unwrap_or_default();
        let join = node.join_type.as_deref().unwrap_or("Inner");
        match (node.kind.as_str(), relationship) {
            (_, "InitPlan" | "SubPlan") => {
                Some("a subquery in an expression, or a materialized WITH query".to_owned())
            }
            ("Nested Loop" | "Hash Join" | "Merge Join", side) => match (join, side) {
                ("Inner", _)
                | ("Left" | "Semi" | "Anti", "Outer")
                | ("Right" | "Right Semi" | "Right Anti", "Inner") => None,
                ("Left" | "Right" | "Full", _) => {
                    Some(format!("{join} Join, on the side that may be missing"))
                }
                _ => Some(format!("{join} Join, on the side that is only looked up")),
            },
            (
                "Gather" | "Gather Merge" | "Sort" | "Incremental Sort" | "Result" | "ProjectSet"
                | "Subquery Scan" | "Hash" | "Materialize" | "Memoize",
                _,
            ) => None,
            (other, _) => Some(other.to_owned()),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::{Node, obstacle};

    fn node(json: &str) -> Node {
        serde_json::from_str(json).unwrap()
    }

    const SCAN: &str = r#"{"Node Type":"Seq Scan","Schema":"public","Relation Name":"findings","Alias":"f","Parent Relationship":"SIDE"}"#;

    fn obstacle_under(above: &str, side: &str) -> Option<String> {
        let scan = SCAN.replace("SIDE", side);
        let tree = node(&above.replace("SCAN", &format!(r#""Plans":[{scan}]"#)));
        let ways = tree.ways_to("public", "findings", "f");
        assert_eq!(ways.len(), 1);
        obstacle(&ways[0])
    }

    #[test]
    fn each_row_must_come_from_one_row_of_the_table() {
        for (above, side, passes) in [
            (r#"{"Node Type":"Sort",SCAN}"#, "Outer", true),
            (r#"{"Node Type":"Gather",SCAN}"#, "Outer", true),
            (r#"{"Node Type":"Hash Join","Join Type":"Inner",SCAN}"#, "Inner", true),
            (r#"{"Node Type":"Hash Join","Join Type":"Left",SCAN}"#, "Outer", true),
            (r#"{"Node Type":"Hash Join","Join Type":"Left",SCAN}"#, "Inner", false),
            (r#"{"Node Type":"Hash Join","Join Type":"Right",SCAN}"#, "Inner", true),
            (r#"{"Node Type":"Hash Join","Join Type":"Right",SCAN}"#, "Outer", false),
            (r#"{"Node Type":"Merge Join","Join Type":"Full",SCAN}"#, "Outer", false),
            (r#"{"Node Type":"Nested Loop","Join Type":"Semi",SCAN}"#, "Outer", true),
            (r#"{"Node Type":"Nested Loop","Join Type":"Semi",SCAN}"#, "Inner", false),
            (r#"{"Node Type":"Nested Loop","Join Type":"Anti",SCAN}"#, "Inner", false),
            (r#"{"Node Type":"Hash Join","Join Type":"Right Anti",SCAN}"#, "Inner", true),
            (r#"{"Node Type":"Hash Join","Join Type":"Right Anti",SCAN}"#, "Outer", false),
            (r#"{"Node Type":"Limit",SCAN}"#, "Outer", false),
            (r#"{"Node Type":"Aggregate",SCAN}"#, "Outer", false),
            (r#"{"Node Type":"Unique",SCAN}"#, "Outer", false),
            (r#"{"Node Type":"WindowAgg",SCAN}"#, "Outer", false),
            (r#"{"Node Type":"Append",SCAN}"#, "Member", false),
            (r#"{"Node Type":"SetOp",SCAN}"#, "Outer", false),
            (r#"{"Node Type":"Recursive Union",SCAN}"#, "Outer", false),
            (r#"{"Node Type":"Seq Scan",SCAN}"#, "SubPlan", false),
            (r#"{"Node Type":"CTE Scan",SCAN}"#, "InitPlan", false),
        ] {
            assert_eq!(obstacle_under(above, side).is_none(), passes, "{above} {side}");
        }
    }

    #[test]
    fn writes_and_limits_are_found() {
        assert!(node(r#"{"Node Type":"CTE Scan","Plans":[{"Node Type":"ModifyTable"}]}"#).writes());
        assert!(node(r#"{"Node Type":"LockRows"}"#).writes());
        assert!(!node(r#"{"Node Type":"Seq Scan"}"#).writes());
        assert!(node(r#"{"Node Type":"Gather","Plans":[{"Node Type":"Limit"}]}"#).is_limited());
        assert!(!node(r#"{"Node Type":"Hash Join","Plans":[{"Node Type":"Limit"}]}"#).is_limited());
    }

    #[test]
    fn numbered_aliases_are_the_same_alias() {
        let tree = node(
            r#"{"Node Type":"Nested Loop","Plans":[
                {"Node Type":"Seq Scan","Schema":"public","Relation Name":"t","Alias":"t"},
                {"Node Type":"Seq Scan","Schema":"public","Relation Name":"t","Alias":"t_1"},
                {"Node Type":"Seq Scan","Schema":"public","Relation Name":"t","Alias":"t_x"},
                {"Node Type":"Seq Scan","Schema":"other","Relation Name":"t","Alias":"t"}]}"#,
        );
        assert_eq!(tree.ways_to("public", "t", "t").len(), 2);
    }
}
