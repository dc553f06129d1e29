#!/usr/bin/env python3
"""Weighs pgexport against others that export PostgreSQL, on the same table and in turn, and prints ratios."""

import argparse
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile

from measure import DATABASE, ROOT, STATE, load, manifest, measure, peers, pgexport

# What some of the peers or formats do not have is left out: infinite dates, arrays of several dimensions, numerics without a precision.
TABLE = "bench_findings"
COLUMNS = """id, seq, tenant_id, severity::text, status, title, description, score, round(cost, 4)::text AS cost,
  CASE WHEN array_ndims(tags) = 1 THEN tags END AS tags, attributes, first_seen, seen_at, CASE WHEN isfinite(due) THEN due END AS due,
  fixed, cvss, risk, fingerprint, host(source_ip) AS source_ip"""
FORMATS = {"csv": "CSV", "ndjson": "NDJSON", "parquet": "Parquet"}
LIMIT = "the limit: COPY BINARY to nowhere"
PEERS = {
    LIMIT: ("psql.py", ["csv", "ndjson", "parquet"]),
    "psql \\copy, one stream": ("psql.py", ["csv", "ndjson"]),
    "DuckDB": ("duckdb_scan.py", ["csv", "ndjson", "parquet"]),
    "ADBC, pyarrow": ("adbc.py", ["parquet"]),
    "connectorx, pyarrow": ("connectorx_read.py", ["parquet"]),
}


def python():
    """A Python with the peers in it."""
    folder = STATE / "bench"
    wanted = ROOT / "bench" / "requirements.txt"
    if not (folder / "bin" / "python").exists():
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    subprocess.run([folder / "bin" / "pip", "install", "--quiet", "--requirement", wanted], check=True)
    return folder / "bin" / "python"


def make_table(postgres):
    """Makes the table that all read."""
    host, port = postgres["host"].rsplit(":", 1)
    admin = postgres["admin"]
    where = f"host={host} port={port} dbname={DATABASE} user={admin['user']} sslmode=require"
    sql = f"""SET client_min_messages = warning; DROP TABLE IF EXISTS {TABLE}; CREATE TABLE {TABLE} AS SELECT {COLUMNS} FROM findings;
      GRANT SELECT ON {TABLE} TO {postgres['exporter']['user']}"""
    subprocess.run(["psql", "--no-psqlrc", "--quiet", where, "-v", "ON_ERROR_STOP=1", "-c", sql, "-c", f"VACUUM ANALYZE {TABLE}"], check=True,
                   env={**os.environ, "PGPASSWORD": admin["password"]})


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=500_000)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--parallelism", type=int, default=2)
    args = parser.parse_args()
    known = peers()
    postgres = known["postgres"]
    interpreter = python()
    load(args.rows)
    make_table(postgres)
    exporter = postgres["exporter"]
    # In the environment: command lines are everybody's to read.
    os.environ["BENCH_URI"] = f"postgresql://{exporter['user']}:{exporter['password']}@{postgres['host']}/{DATABASE}?sslmode=require"
    figures = {}
    with tempfile.TemporaryDirectory(prefix="pgexport-bench-") as work:
        out, file = pathlib.Path(work, "out"), pathlib.Path(work, "export.json")
        for _ in range(args.repeat):
            for form, format_type in FORMATS.items():
                file.write_text(manifest(known, args.parallelism, {"format": {"type": format_type}}, table=TABLE))
                commands = {"pgexport": pgexport(file, out)}
                for name, (script, formats) in PEERS.items():
                    if form in formats:
                        script = ROOT / "bench" / "peer" / script
                        commands[name] = [interpreter, script, "limit" if name == LIMIT else form, TABLE, out, str(args.parallelism)]
                for name, command in commands.items():
                    out.mkdir()
                    taken = measure(command)
                    taken["bytes"] = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
                    figures.setdefault((form, name), []).append(taken)
                    shutil.rmtree(out)
    rows = args.rows
    print(f"{rows} rows, {args.parallelism} connections where the peer has them, medians of {args.repeat}; in brackets: pgexport is 1\n")
    print("| format | who | thousand rows/s | client CPU s | database CPU s | peak MiB | MB written |\n|---|---|---|---|---|---|---|")
    median = {case: {key: statistics.median(run[key] for run in runs) for key in runs[0]} for case, runs in figures.items()}
    for (form, name), row in sorted(median.items(), key=lambda item: (list(FORMATS).index(item[0][0]), item[1]["wall"])):
        ours = median[form, "pgexport"]
        cells = [(rows / row["wall"] / 1000, rows / ours["wall"] / 1000, 0), (row["cpu"], ours["cpu"], 1), (row["database"], ours["database"], 1),
                 (row["mib"], ours["mib"], 0), (row["bytes"] / 1e6, ours["bytes"] / 1e6, 0)]
        shown = " | ".join(f"{value:.{digits}f} ({value / base:.2f})" for value, base, digits in cells)
        print(f"| {form} | {name} | {shown} |")


if __name__ == "__main__":
    main()
