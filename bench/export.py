#!/usr/bin/env python3
"""Weighs exports of the sample data against psql's \\copy in the same run, and against the limits on memory."""

import argparse
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile

from measure import RELEASE, load, manifest, measure, peers, pgexport

WORKER_LIMIT_MIB = 256
CONTROLLER_LIMIT_MIB = 64


def controller_peak_mib():
    """The peak of the controller's process, or None where none runs on this machine."""
    for process in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            if b"controller" in (process / "cmdline").read_bytes().split(b"\0")[1:2] and b"pgexport" in (process / "cmdline").read_bytes():
                status = (process / "status").read_text().splitlines()
                return next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmHWM"))
        except (OSError, StopIteration):
            continue
    return None


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=500_000)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--parallelism", type=int, default=4)
    args = parser.parse_args()
    known = peers()
    postgres = known["postgres"]
    load(args.rows)
    for bucket in ("bench-customer", "bench-staging"):
        subprocess.run([RELEASE / "peers", "bucket", bucket], check=True)
    host, port = postgres["host"].rsplit(":", 1)
    psql = ["psql", "--no-psqlrc", "--quiet", f"host={host} port={port} dbname=bench user={postgres['exporter']['user']} sslmode=require",
            "-c", r"\copy (SELECT * FROM findings) to '/dev/null' csv"]
    psql_env = {**os.environ, "PGPASSWORD": postgres["exporter"]["password"]}
    cases = [("CSV, Direct, folder", "CSV", "PerChunk", "folder"), ("NDJSON, Direct, folder", "NDJSON", "PerChunk", "folder"),
             ("CSV, Direct, S3", "CSV", "PerChunk", "s3"), ("JSON, Staged, S3, one document", "JSON", "Single", "s3")]
    figures = {"psql \\copy csv, one stream": []} | {case[0]: [] for case in cases}
    with tempfile.TemporaryDirectory(prefix="pgexport-bench-") as work:
        for _ in range(args.repeat):
            figures["psql \\copy csv, one stream"].append(measure(psql, psql_env))
            for name, format_type, layout, sink in cases:
                file = pathlib.Path(work, "export.json")
                job = {"format": {"type": format_type}, "files": {"layout": layout}}
                file.write_text(manifest(known, args.parallelism, job, sink=sink))
                out = pathlib.Path(work, "out")
                figures[name].append(measure(pgexport(file, out)))
                shutil.rmtree(out, ignore_errors=True)
    median = {name: {key: statistics.median(run[key] for run in runs) for key in ("wall", "cpu", "mib")} for name, runs in figures.items()}
    limit = median["psql \\copy csv, one stream"]["wall"]
    print(f"{args.rows} rows, parallelism {args.parallelism}, medians of {args.repeat}\n")
    print(f"| {'what':34} | wall s | client CPU s | peak MiB | rows/s to psql's |\n|{'-' * 36}|---|---|---|---|")
    for name, row in median.items():
        print(f"| {name:34} | {row['wall']:.2f} | {row['cpu']:.2f} | {row['mib']:.0f} | {limit / row['wall']:.2f} |")
    worst = max(run["mib"] for name, runs in figures.items() if not name.startswith("psql") for run in runs)
    controller = controller_peak_mib()
    print(f"\nworker: {worst:.0f} of {WORKER_LIMIT_MIB} MiB at the most")
    print(f"controller: {controller:.0f} of {CONTROLLER_LIMIT_MIB} MiB at the most" if controller else "controller: none runs here")
    if worst > WORKER_LIMIT_MIB or (controller or 0) > CONTROLLER_LIMIT_MIB:
        sys.exit("a limit is broken")


if __name__ == "__main__":
    main()
