"""Reads deliveries with readers that are not pgexport's, and compares each value with what the database says.

    read_back.py CHECK TRUTH FILE...

CHECK is csv, json, ndjson, parquet, or partitions-{parquet,csv,ndjson}. TRUTH holds the columns' names, each value's text, and each
row as PostgreSQL's own JSON.
"""

import csv
import datetime
import decimal
import json
import math
import subprocess
import sys
import uuid

csv.field_size_limit(1 << 30)


def main():
    check, truth, files = sys.argv[1], json.load(open(sys.argv[2], encoding="utf-8")), sys.argv[3:]
    if check.startswith("partitions-"):
        count = partitions(truth, files[0], check.removeprefix("partitions-"))
    else:
        count = {"csv": csv_files, "json": json_files, "ndjson": ndjson_files, "parquet": parquet_files}[check](truth, files)
    assert count > 0, "nothing was compared"
    print(f"{count} values are equal")


def compare(reader, columns, found, wanted):
    """Compares rows of equal columns, whatever their order, by their first column."""
    def key(row):
        return str(row[0])
    found, wanted = sorted(found, key=key), sorted(wanted, key=key)
    assert len(found) == len(wanted), f"{reader}: {len(found)} rows of {len(wanted)}"
    for one, other in zip(found, wanted):
        assert len(one) == len(other) == len(columns), f"{reader}: {one}"
        for column, value, right in zip(columns, one, other):
            assert same(value, right), f"{reader}, row {one[0]}, column {column}: {value!r} is not {right!r}"
    return len(found) * len(columns)


def same(value, right):
    if isinstance(right, (list, tuple)):
        return isinstance(value, (list, tuple)) and len(value) == len(right) and all(map(same, value, right))
    if isinstance(right, dict):
        return isinstance(value, dict) and list(value) == list(right) and all(same(value[name], right[name]) for name in right)
    if isinstance(right, float):
        return isinstance(value, float) and (value == right and math.copysign(1, value) == math.copysign(1, right) or math.isnan(value) and math.isnan(right))
    return type(value) is type(right) and value == right


def csv_files(truth, files):
    rows = []
    for name in files:
        with open(name, encoding="utf-8", newline="") as file:
            header, *data = csv.reader(file, strict=True)
        assert header == truth["columns"], header
        rows += data
    wanted = [[truth["null"] if value is None else value for value in row] for row in truth["rows"]]
    return compare("Python's csv", truth["columns"], rows, wanted)


def exactly(text):
    """JSON with its numbers as they are written."""
    return json.loads(text, parse_float=decimal.Decimal)


def json_files(truth, files):
    documents = [open(name, encoding="utf-8").read() for name in files]
    rows = [row for document in documents for row in exactly(document)]
    return python_json(truth, rows) + jq(truth, files, ".[]")


def ndjson_files(truth, files):
    rows = []
    for name in files:
        with open(name, encoding="utf-8", newline="\n") as file:
            rows += [exactly(line) for line in file]
    return python_json(truth, rows) + jq(truth, files, ".")


def python_json(truth, rows):
    assert all(list(row) == truth["columns"] for row in rows), "names, in their order"
    wanted = [list(exactly(row).values()) for row in truth["json"]]
    return compare("Python's json", truth["columns"], [list(row.values()) for row in rows], wanted)


def jq(truth, files, rows):
    # A number is a double for jq: what has more digits is compared as such.
    answer = subprocess.run(["jq", "-c", rows, *files], check=True, capture_output=True, text=True, encoding="utf-8").stdout
    found = [list(json.loads(line, parse_int=float).values()) for line in answer.split("\n") if line]
    wanted = [list(json.loads(row, parse_int=float).values()) for row in truth["json"]]
    return compare("jq", truth["columns"], found, wanted)


def timestamp(text):
    return datetime.datetime.fromisoformat(text)


# How a text of PostgreSQL's is to be found in Parquet, where it is no text.
TYPED = {
    "id": int, "odd": "t".__eq__, "flag": "t".__eq__, "i2": int, "i8": int, "f8": float, "money_like": decimal.Decimal,
    "raw": lambda text: bytes.fromhex(text[2:]), "id128": uuid.UUID, "day": datetime.date.fromisoformat, "clock": datetime.time.fromisoformat,
    "local": timestamp, "moment": timestamp,
}


def single(text):
    """The double that a float of four bytes is."""
    import struct
    return struct.unpack("f", struct.pack("f", float(text)))[0]


def parquet_files(truth, files):
    import duckdb
    import pyarrow
    import pyarrow.parquet

    columns = truth["columns"]
    from_json = [exactly(row) for row in truth["json"]]

    def right(name, text, row):
        if text is None:
            return None
        if name in ("numbers", "names"):
            return row[name]
        return {**TYPED, "f4": single}.get(name, str)(text)

    wanted = [[right(*value) for value in zip(columns, texts, [row] * len(columns))] for texts, row in zip(truth["rows"], from_json)]
    tables = [pyarrow.parquet.read_table(name) for name in files]
    assert all(table.column_names == columns for table in tables)
    rows = [list(row.values()) for table in tables for row in table.to_pylist()]
    count = compare("pyarrow", columns, rows, wanted)
    types = {field.name: field.type for field in tables[0].schema}
    assert types["money_like"] == pyarrow.decimal128(20, 4), types
    assert types["moment"] == pyarrow.timestamp("us", "UTC") and types["local"] == pyarrow.timestamp("us"), types

    connection = duckdb.connect()
    # The client for Python wants one more package to return moments.
    relation = connection.execute("SELECT * REPLACE (moment AT TIME ZONE 'UTC' AS moment) FROM read_parquet($1)", [files])
    assert [name for name, *_ in relation.description] == columns
    aware = columns.index("moment")
    rows = [list(row) for row in relation.fetchall()]
    for row in rows:
        row[aware] = row[aware] and row[aware].replace(tzinfo=datetime.timezone.utc)
    kinds = dict(connection.execute("SELECT column_name, column_type FROM (DESCRIBE SELECT * FROM read_parquet($1))", [files]).fetchall())
    assert kinds["docb"] == "JSON" and kinds["id128"] == "UUID" and kinds["moment"] == "TIMESTAMP WITH TIME ZONE", kinds
    return count + compare("DuckDB", columns, rows, wanted)


def partitions(truth, folder, form):
    import duckdb

    read, pattern = {"parquet": ("read_parquet", "parquet"), "csv": ("read_csv", "csv"), "ndjson": ("read_json", "ndjson")}[form]
    is_day = all(value[:3] == "202" for _, value in truth["rows"])
    types = "" if is_day else ", hive_types = {'value': VARCHAR}"
    sql = f"SELECT id, value FROM {read}($1, hive_partitioning = true{types})"
    found = duckdb.connect().execute(sql, [f"{folder}/*/*.{pattern}"]).fetchall()
    # An empty text has no folder of its own: Hive's for "no value" stands for it.
    convert = datetime.date.fromisoformat if is_day else lambda text: text or None
    wanted = [(int(id), convert(value)) for id, value in truth["rows"]]
    return compare(f"DuckDB, {form}", ["id", "value"], found, wanted)


main()
