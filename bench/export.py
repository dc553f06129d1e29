#!/usr/bin/env python3
"""Weighs exports of the sample data against psql's \\copy in the same run, and against the limits on memory."""

import argparse
import json
import os
import pathlib
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
STATE = pathlib.Path(os.environ.get("PGEXPORT_STATE", ROOT / ".state"))
WORKER_LIMIT_MIB = 256
CONTROLLER_LIMIT_MIB = 64


def peers():
    with open(STATE / "peers" / "peers.json", encoding="utf-8") as file:
        return json.load(file)


def measure(command, env=None):
    """Wall seconds, CPU seconds and peak memory (MiB) of a command, as the kernel accounts for it."""
    # A child of its own, so that the peak is this command's and not that of an earlier one.
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(read)
        started = time.monotonic()
        done = subprocess.run(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False)
        wall = time.monotonic() - started
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        if done.returncode:
            sys.stderr.write(done.stderr.decode())
        figures = {"code": done.returncode, "wall": wall, "cpu": usage.ru_utime + usage.ru_stime, "mib": usage.ru_maxrss / 1024}
        os.write(write, json.dumps(figures).encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        figures = json.load(pipe)
    os.waitpid(pid, 0)
    if figures["code"]:
        sys.exit(f"{command[0]} ended with {figures['code']}")
    return figures


def manifest(postgres, s3, parallelism, format_type, layout, sink):
    host, port = postgres["host"].rsplit(":", 1)
    secrets = [
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "db"},
         "stringData": {"password": postgres["exporter"]["password"], "ca.crt": pathlib.Path(postgres["ca_file"]).read_text()}},
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s3"},
         "stringData": {"AWS_ACCESS_KEY_ID": s3["admin"]["access_key"], "AWS_SECRET_ACCESS_KEY": s3["admin"]["secret_key"]}},
    ]
    bucket = {"region": s3["region"], "endpoint": f"http://{s3['host']}", "forcePathStyle": True, "credentialsSecretRef": {"name": "s3"}}
    source = {"postgres": {"host": host, "port": int(port), "database": "bench", "user": postgres["exporter"]["user"],
                           "passwordSecretRef": {"name": "db", "key": "password"},
                           "tls": {"caSecretRef": {"name": "db", "key": "ca.crt"}}}}
    if sink == "s3":
        source["staging"] = {"sinkRef": {"name": "staging"}}
    sinks = {"folder": {"volume": {"claimName": "out"}}, "s3": {"s3": {"bucket": "bench-customer", **bucket}},
             "staging": {"s3": {"bucket": "bench-staging", **bucket}}}
    job = {"sourceRef": {"name": "db"}, "sinkRef": {"name": sink}, "path": "{uid}/",
           "datasets": [{"name": "findings", "sql": "SELECT f.* FROM findings f WHERE :chunk"}],
           "chunking": {"strategy": "Table", "table": {"name": "findings", "alias": "f"}, "parallelism": parallelism},
           "format": {"type": format_type}, "files": {"layout": layout}}
    own = [{"apiVersion": "pgexport.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec}
           for kind, name, spec in [("ExportSource", "db", source), *(("ExportSink", name, spec) for name, spec in sinks.items()),
                                    ("ExportJob", "bench", job)]]
    return "---\n".join(json.dumps(document) + "\n" for document in secrets + own)


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
    postgres, s3 = known["postgres"], known["s3"]
    release = ROOT / "target" / "release"
    subprocess.run([release / "peers", "load", "--rows", str(args.rows), "--database", "bench"], check=True)
    for bucket in ("bench-customer", "bench-staging"):
        subprocess.run([release / "peers", "bucket", bucket], check=True)
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
                file.write_text(manifest(postgres, s3, args.parallelism, format_type, layout, sink))
                out = pathlib.Path(work, "out")
                figures[name].append(measure([release / "pgexport", "run", "-f", file, "--volume", f"out={out}"]))
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
