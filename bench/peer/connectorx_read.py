"""connectorx and pyarrow, which hold the whole result: format, table, destination, connections."""

import os
import sys

import connectorx
import place
import pyarrow.parquet

_, table, destination, connections = sys.argv[1:]
uri = os.environ["BENCH_URI"]
rows = connectorx.read_sql(uri, f"SELECT * FROM {table}", partition_on="seq", partition_num=int(connections), return_type="arrow")
with place.opened(destination, "rows.parquet") as file:
    pyarrow.parquet.write_table(rows, file, compression="zstd", compression_level=1)
