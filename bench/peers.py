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

import target
from measure import DATABASE, RELEASE, ROOT, STATE, load, manifest, measure, peers, pgexport
from target import DUCKDB, LIMIT, PGEXPORT, PSQL

# What some of the peers or formats do not have is left out: infinite dates, arrays of several dimensions, numerics without a precision.
TABLE = "bench_findings"
COLUMNS = """id, seq, tenant_id, severity::text, status, title, description, score, round(cost, 4)::text AS cost,
  CASE WHEN array_ndims(tags) = 1 THEN tags END AS tags, attributes, first_seen, seen_at, CASE WHEN isfinite(due) THEN due END AS due,
  fixed, cvss, risk, fingerprint, host(source_ip) AS source_ip"""
FORMATS = {"csv": "CSV", "ndjson": "NDJSON", "json": "JSON", "parquet": "Parquet"}
DESTINATIONS = ("file", "s3", "nowhere")
BUCKET = "bench-customer"
# The S3 server keeps a bucket as a folder.
S3_FOLDER = STATE / "peers" / "s3" / BUCKET
# Script, formats, destinations, and whether it has more streams than one.
PEERS = {
    PSQL: ("psql.py", ("csv", "ndjson"), ("file", "nowhere"), False),
    DUCKDB: ("duckdb_scan.py", tuple(FORMATS), DESTINATIONS, True),
    "ADBC, pyarrow": ("adbc.py", ("parquet",), DESTINATIONS, False),
    "connectorx, pyarrow": ("connectorx_read.py", ("parquet",), DESTINATIONS, True),
    "sling": ("sling_run.py", ("csv", "ndjson"), ("file",), False),
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


def commands(args, known, interpreter, destination, streams, form, work):
    """What is run in turn: who, and how. A `limit` has no format, and what has one stream is weighed once."""
    out = work / "out"
    where = str(out) if destination == "file" else destination
    script = lambda name, form: [interpreter, ROOT / "bench" / "peer" / name, form, TABLE, where, str(streams)]
    if form == "limit":
        return {LIMIT: script("psql.py", "limit")} if destination == "nowhere" else {}
    if destination == "nowhere":
        ours = [RELEASE / "examples" / "nowhere", FORMATS[form], DATABASE, TABLE, str(streams)]
    else:
        file = work / "export.json"
        job = {"format": {"type": FORMATS[form]}, "delivery": {"mode": "Direct"}}
        file.write_text(manifest(known, streams, job, table=TABLE, sink="folder" if destination == "file" else "s3"))
        ours = pgexport(file, out)
    theirs = {who: script(name, form) for who, (name, formats, destinations, parallel) in PEERS.items()
              if who in args.peers and form in formats and destination in destinations and (parallel or streams == args.streams[0])}
    return {PGEXPORT: ours} | theirs


def written(folder):
    """The bytes of what was exported into a folder. In the S3 server's it would fill the disk: it is removed there."""
    total = 0
    for path in folder.rglob("*"):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.is_file() and not hidden:
            total += path.stat().st_size
            if folder == S3_FOLDER:
                path.unlink()
    return total


def weigh(args, known, interpreter):
    """The figures of each case: destination, streams, format, who."""
    figures = {}
    with tempfile.TemporaryDirectory(prefix="pgexport-bench-", dir=args.folder) as work:
        work = pathlib.Path(work)
        out = work / "out"
        for _ in range(args.repeat):
            for destination in args.destinations:
                for streams in args.streams:
                    for form in [*args.formats, "limit"]:
                        for who, command in commands(args, known, interpreter, destination, streams, form, work).items():
                            out.mkdir()
                            taken = measure(command)
                            taken["bytes"] = written(S3_FOLDER if destination == "s3" else out)
                            figures.setdefault((destination, streams, form, who), []).append(taken)
                            shutil.rmtree(out)
    median = {case: {key: statistics.median(run[key] for run in runs) for key in runs[0]} for case, runs in figures.items()}
    # What has one stream is as fast beside more.
    for (destination, streams, form, who), run in list(median.items()):
        if who in PEERS and not PEERS[who][3]:
            median.update({(destination, other, form, who): run for other in args.streams})
    return median


def show(args, median):
    for destination in args.destinations:
        for streams in args.streams:
            print(f"\n## {destination}, {streams} stream{'s' * (streams > 1)}\n\n"
                  "| format | who | thousand rows/s | client CPU s | database CPU s | peak MiB | MB written |\n|---|---|---|---|---|---|---|")
            for form in [*args.formats, "limit"]:
                cases = sorted(((who, run) for (*where, who), run in median.items() if where == [destination, streams, form]),
                               key=lambda case: case[1]["wall"])
                ours = median.get((destination, streams, form, PGEXPORT))
                for who, row in cases:
                    base = ours or row
                    cells = [(args.rows / row["wall"] / 1000, args.rows / base["wall"] / 1000, 0), (row["cpu"], base["cpu"], 1),
                             (row["database"], base["database"], 1), (row["mib"], base["mib"], 0), (row["bytes"] / 1e6, base["bytes"] / 1e6, 0)]
                    shown = " | ".join(f"{value:.{digits}f} ({value / base:.2f})" if base else "–" for value, base, digits in cells)
                    print(f"| {'any' if form == 'limit' else form} | {who} | {shown} |")
                cannot = [who for who, (_, formats, destinations, _) in PEERS.items()
                          if who in args.peers and form in formats and destination not in destinations]
                for who in cannot:
                    print(f"| {form} | {who} | cannot write there | | | | |")
    for streams in args.streams:
        lines = target.table(median, streams)
        if lines:
            print(f"\n## What is wanted, {streams} stream{'s' * (streams > 1)}\n\n" + "\n".join(lines))


def main():
    some = lambda kind: lambda text: [kind(item) for item in text.split(",")]
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=500_000)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--streams", type=some(int), default=[2], help="such as 1,2,4 (default 2)")
    parser.add_argument("--formats", type=some(str), default=list(FORMATS), help=f"of {','.join(FORMATS)} (default all)")
    parser.add_argument("--destinations", type=some(str), default=list(DESTINATIONS), help=f"of {','.join(DESTINATIONS)} (default all)")
    parser.add_argument("--peers", type=some(str), default=[who for who in PEERS if who != "sling"],
                        help=f"of {'; '.join(PEERS)} (default all but sling, which takes ten times as long), with a comma between")
    parser.add_argument("--folder", help="where files are written (default the system's for temporary ones)")
    args = parser.parse_args()
    # Names of peers may hold commas themselves.
    args.peers = [who for who in PEERS if who in ",".join(args.peers)]
    known = peers()
    postgres, s3 = known["postgres"], known["s3"]
    interpreter = python()
    load(args.rows)
    make_table(postgres)
    if "s3" in args.destinations:
        for bucket in (BUCKET, "bench-staging"):
            subprocess.run([RELEASE / "peers", "bucket", bucket], check=True)
        written(S3_FOLDER)
    exporter = postgres["exporter"]
    # In the environment: command lines are everybody's to read.
    os.environ |= {"BENCH_URI": f"postgresql://{exporter['user']}:{exporter['password']}@{postgres['host']}/{DATABASE}?sslmode=require",
                   "BENCH_S3_BUCKET": BUCKET, "BENCH_S3_HOST": s3["host"], "BENCH_S3_REGION": s3["region"],
                   "BENCH_S3_KEY": s3["admin"]["access_key"], "BENCH_S3_SECRET": s3["admin"]["secret_key"]}
    print(f"{args.rows} rows, medians of {args.repeat}; in brackets: pgexport is 1. Peers of one stream are the same at any number of streams.")
    show(args, weigh(args, known, interpreter))


if __name__ == "__main__":
    main()
