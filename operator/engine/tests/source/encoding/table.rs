//! Tables of random values.

use std::fmt::Write as _;

use super::kind::Kind;
use super::random::Random;

pub(super) const ROWS: usize = 40;

/// The table of a type: values of it, and of types over it.
pub(super) fn table(number: usize, kind: &Kind, random: &mut Random) -> (String, Vec<&'static str>) {
    let (name, own) = (kind.name, number.to_string());
    let mut sql = format!(
        "CREATE DOMAIN domain{own} AS {name}; CREATE TYPE row{own} AS (v {name}, \"w \"\"\\\" {name}[], d domain{own}); CREATE TYPE outer{own} AS (r row{own}, rs row{own}[]);
         CREATE TABLE t{own} (i int, v {name}, a {name}[], m {name}[], d domain{own}, ds domain{own}[], r row{own}, rs row{own}[], o outer{own}"
    );
    let mut columns = vec!["v", "a", "m", "d", "ds", "r", "rs", "o"];
    if kind.ordered {
        let create = format!(
            "CREATE TYPE range{own} AS RANGE (SUBTYPE = {name}, MULTIRANGE_TYPE_NAME = ranges{own});\n"
        );
        sql.insert_str(0, &create);
        write!(sql, ", g range{own}, gs range{own}[], mg ranges{own}, gr ranges{own}[]").unwrap();
        columns.extend(["g", "gs", "mg", "gr"]);
    }
    sql += ");\n";
    for row in 0..ROWS {
        let null_in = if row == 0 { 1 } else { 6 };
        let mut value = || if random.one_in(null_in) { "NULL".to_owned() } else { kind.value(random) };
        let (v, a, b, c) = (value(), value(), value(), value());
        let array = match row % 4 {
            0 => format!("ARRAY[]::{name}[]"),
            1 => format!("ARRAY[{a}, {b}, {c}]::{name}[]"),
            // Bounds other than 1.
            _ => format!("('[-1:1]=' || ARRAY[{a}, {b}, {c}]::{name}[]::text)::{name}[]"),
        };
        let matrix = format!("ARRAY[[{a}, {b}], [{c}, {v}]]::{name}[]");
        let inner = format!("ROW({a}, ARRAY[{b}, {c}]::{name}[], {c}::domain{own})::row{own}");
        let rows = format!("ARRAY[{inner}, NULL, ROW(NULL, NULL, NULL)::row{own}]");
        write!(sql, "INSERT INTO t{own} VALUES ({row}, {v}, {array}, {matrix}, {a}::domain{own}, ARRAY[{b}, {c}]::domain{own}[], {inner}, {rows}, ROW({inner}, {rows})::outer{own}").unwrap();
        if kind.ordered {
            let bounds = ["[]", "()", "[)", "(]"][row % 4];
            let sorted = format!("least({a}, {b})::{name}, greatest({a}, {b})::{name}, '{bounds}'");
            let (one, point) = (format!("range{own}({sorted})"), format!("range{own}({c}, {c}, '[]')"));
            write!(sql, ", {one}, ARRAY[{one}, NULL, {point}], ranges{own}({one}, {point}), ARRAY[ranges{own}({one}), ranges{own}()]").unwrap();
        }
        sql += ");\n";
    }
    (sql, columns)
}
