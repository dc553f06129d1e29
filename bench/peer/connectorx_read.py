"""connectorx and pyarrow, which hold the whole result: format, table, folder, connections."""

import os
import sys

import connectorx
import pyarrow.parquet

_, table, folder, connections = sys.argv[1:]
uri = os.environ["BENCH_URI"]
rows = connectorx.read_sql(uri, f"SELECT * FROM {table}", partition_on="seq", partition_num=int(connections), return_type="arrow")
pyarrow.parquet.write_table(rows, f"{folder}/rows.parquet", compression="zstd", compression_level=1)
