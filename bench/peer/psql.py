"""psql: format, table, destination, streams. `limit` drains ranges of pages in COPY's binary format to nowhere: nothing that reads by COPY is
faster."""

import os
import subprocess
import sys

form, table, destination, streams = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
PSQL = ["psql", "--no-psqlrc", "--quiet", "--set", "ON_ERROR_STOP=1", os.environ["BENCH_URI"]]


def copy(query, options=""):
    file = "/dev/null" if destination == "nowhere" else f"{destination}/rows.{form}"
    return subprocess.Popen([*PSQL, "--command", f"\\copy ({query}) TO '{file}' {options}"])


if form == "limit":
    pages = int(subprocess.check_output([*PSQL, "--tuples-only", "--no-align", "--command",
                                         f"SELECT pg_relation_size('{table}') / current_setting('block_size')::int8"]))
    bounds = [pages * stream // streams for stream in range(1, streams)]
    ranges = zip([None, *bounds], [*bounds, None])
    where = [" AND ".join([f"ctid >= '({low},0)'"] * (low is not None) + [f"ctid < '({high},0)'"] * (high is not None)) or "true" for low, high in ranges]
    running = [copy(f"SELECT * FROM {table} WHERE {condition}", "(FORMAT binary)") for condition in where]
elif form == "csv":
    running = [copy(f"SELECT * FROM {table}", "(FORMAT csv, HEADER)")]
else:
    running = [copy(f"SELECT row_to_json(t) FROM {table} t")]
sys.exit(max(process.wait() for process in running))
