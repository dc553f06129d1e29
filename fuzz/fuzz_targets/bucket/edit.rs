//! What somebody may make of a document.

use libfuzzer_sys::arbitrary::{Result, Unstructured};
use serde_json::{Value, json};

/// Changes a document: a value of its JSON, or its bytes.
pub fn edit(text: &mut Vec<u8>, input: &mut Unstructured<'_>) -> Result<()> {
    if input.ratio(3, 4)? && let Ok(mut json) = serde_json::from_slice::<Value>(text) {
        let count = nodes(&json);
        let mut place = input.choose_index(count)?;
        let new = value(input)?;
        change(&mut json, &mut place, &new);
        *text = json.to_string().into_bytes();
        return Ok(());
    }
    let from = input.int_in_range(0..=text.len())?;
    let to = input.int_in_range(from..=text.len())?;
    let new = input.int_in_range(0..=32)?;
    let new = input.bytes(new.min(input.len()))?.to_vec();
    text.splice(from..to, new);
    Ok(())
}

/// A value that is seldom meant.
fn value(input: &mut Unstructured<'_>) -> Result<Value> {
    Ok(match input.int_in_range(0..=17)? {
        0 => Value::Null,
        1 => json!(u64::MAX),
        2 => json!(u32::MAX),
        3 => json!(i64::MIN),
        4 => json!(-1),
        5 => json!(0),
        6 => json!(1),
        7 => json!(1e300),
        8 => json!(""),
        9 => json!([]),
        10 => json!({}),
        11 => json!("../../canary"),
        12 => json!("/canary"),
        13 => json!("a/b"),
        14 => json!("-009999-01-01T00:00:00Z"),
        15 => json!(input.arbitrary::<u16>()?),
        16 => json!(input.arbitrary::<&str>()?.chars().take(40).collect::<String>()),
        _ => json!({"version": 1}),
    })
}

/// Counts the values of a JSON, itself included.
fn nodes(json: &Value) -> usize {
    let inside: usize = match json {
        Value::Array(items) => items.iter().map(nodes).sum(),
        Value::Object(fields) => fields.values().map(nodes).sum(),
        _ => 0,
    };
    inside + 1
}

/// Puts a value in the place of another, counted from front to back; the document itself is the last one.
fn change(json: &mut Value, place: &mut usize, new: &Value) -> bool {
    let done = match json {
        Value::Array(items) => items.iter_mut().any(|item| change(item, place, new)),
        Value::Object(fields) => fields.values_mut().any(|field| change(field, place, new)),
        _ => false,
    };
    if done {
        return true;
    }
    if *place == 0 {
        *json = new.clone();
        return true;
    }
    *place -= 1;
    false
}
