"""ADBC and pyarrow, which read over one connection: format, table, destination."""

import os
import sys

import adbc_driver_postgresql.dbapi
import place
import pyarrow.parquet

_, table, destination, _ = sys.argv[1:]
uri = os.environ["BENCH_URI"]
with adbc_driver_postgresql.dbapi.connect(uri) as connection, connection.cursor() as cursor, place.opened(destination, "rows.parquet") as file:
    cursor.execute(f"SELECT * FROM {table}")
    rows = cursor.fetch_record_batch()
    with pyarrow.parquet.ParquetWriter(file, rows.schema, compression="zstd", compression_level=1) as writer:
        for batch in rows:
            writer.write_batch(batch)
