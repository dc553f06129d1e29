"""DuckDB's postgres extension: format, table, destination, threads."""

import importlib.resources
import os
import sys

import duckdb
import place

form, table, destination, threads = sys.argv[1:]
options = {"csv": "FORMAT csv, HEADER", "ndjson": "FORMAT json", "json": "FORMAT json, ARRAY true",
           "parquet": "FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 1"}
database = duckdb.connect(config={"threads": int(threads), "allow_unsigned_extensions": "true"})
for name in ["postgres_scanner"] + ["httpfs"] * (destination == "s3"):
    extension = next((importlib.resources.files(f"duckdb_extension_{name}") / "extensions").rglob("*.duckdb_extension"))
    database.execute(f"LOAD '{extension}'")
if destination == "s3":
    values = {name: os.environ[f"BENCH_S3_{name}"] for name in ("KEY", "SECRET", "REGION", "HOST")}
    database.execute("CREATE SECRET (TYPE s3, KEY_ID '{KEY}', SECRET '{SECRET}', REGION '{REGION}', ENDPOINT '{HOST}', "
                     "URL_STYLE 'path', USE_SSL false)".format(**values))
database.execute(f"ATTACH '{os.environ['BENCH_URI']}' AS source (TYPE postgres, READ_ONLY)")
database.execute(f"COPY (SELECT * FROM source.public.{table}) TO '{place.path(destination, f'rows.{form}')}' ({options[form]})")
