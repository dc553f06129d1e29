"""ADBC and pyarrow, which read over one connection: format, table, folder."""

import os
import sys

import adbc_driver_postgresql.dbapi
import pyarrow.parquet

_, table, folder, _ = sys.argv[1:]
uri = os.environ["BENCH_URI"]
with adbc_driver_postgresql.dbapi.connect(uri) as connection, connection.cursor() as cursor:
    cursor.execute(f"SELECT * FROM {table}")
    rows = cursor.fetch_record_batch()
    with pyarrow.parquet.ParquetWriter(f"{folder}/rows.parquet", rows.schema, compression="zstd", compression_level=1) as writer:
        for batch in rows:
            writer.write_batch(batch)
