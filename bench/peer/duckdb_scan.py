"""DuckDB's postgres extension: format, table, folder, threads."""

import importlib.resources
import os
import sys

import duckdb

form, table, folder, threads = sys.argv[1:]
uri = os.environ["BENCH_URI"]
options = {"csv": "FORMAT csv, HEADER", "ndjson": "FORMAT json", "parquet": "FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 1"}
extension = next((importlib.resources.files("duckdb_extension_postgres_scanner") / "extensions").rglob("*.duckdb_extension"))
database = duckdb.connect(config={"threads": int(threads), "allow_unsigned_extensions": "true"})
database.execute(f"LOAD '{extension}'")
database.execute(f"ATTACH '{uri}' AS source (TYPE postgres, READ_ONLY)")
database.execute(f"COPY (SELECT * FROM source.public.{table}) TO '{folder}/rows.{form}' ({options[form]})")
