"""What the benchmarks share: the servers, a run's manifests, and what a command costs."""

import json
import os
import pathlib
import resource
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
STATE = pathlib.Path(os.environ.get("PGEXPORT_STATE", ROOT / ".state"))
RELEASE = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release"
DATABASE = "bench"


def peers():
    with open(STATE / "peers" / "peers.json", encoding="utf-8") as file:
        return json.load(file)


def load(rows):
    """Puts the sample data into the database, unless it is there."""
    subprocess.run([RELEASE / "peers", "load", "--rows", str(rows), "--database", DATABASE], check=True)


def database_seconds():
    """CPU seconds of the database server and all that it has started, those that have ended too."""
    postmaster = int((STATE / "peers" / "postgres" / "postmaster.pid").read_text().splitlines()[0])
    ticks = 0
    for process in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            fields = (process / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if postmaster in (int(process.name), int(fields[1])):
            # Of itself; and of its children, once they have ended.
            ticks += sum(int(field) for field in fields[11:15])
    return ticks / os.sysconf("SC_CLK_TCK")


def measure(command, env=None):
    """Wall seconds, CPU seconds of the command and of the database, and peak memory (MiB), as the kernel accounts for them."""
    before = database_seconds()
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
    return figures | {"database": database_seconds() - before}


def manifest(known, parallelism, job, table="findings", sink="folder"):
    """A run's manifests: the sink is `folder` or `s3`."""
    postgres, s3 = known["postgres"], known["s3"]
    host, port = postgres["host"].rsplit(":", 1)
    secrets = [
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "db"},
         "stringData": {"password": postgres["exporter"]["password"], "ca.crt": pathlib.Path(postgres["ca_file"]).read_text()}},
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s3"},
         "stringData": {"AWS_ACCESS_KEY_ID": s3["admin"]["access_key"], "AWS_SECRET_ACCESS_KEY": s3["admin"]["secret_key"]}},
    ]
    bucket = {"region": s3["region"], "endpoint": f"http://{s3['host']}", "forcePathStyle": True, "credentialsSecretRef": {"name": "s3"}}
    source = {"postgres": {"host": host, "port": int(port), "database": DATABASE, "user": postgres["exporter"]["user"],
                           "passwordSecretRef": {"name": "db", "key": "password"},
                           "tls": {"caSecretRef": {"name": "db", "key": "ca.crt"}}}}
    if sink == "s3":
        source["staging"] = {"sinkRef": {"name": "staging"}}
    sinks = {"folder": {"volume": {"claimName": "out"}}, "s3": {"s3": {"bucket": "bench-customer", **bucket}},
             "staging": {"s3": {"bucket": "bench-staging", **bucket}}}
    spec = {"sourceRef": {"name": "db"}, "sinkRef": {"name": sink}, "path": "{uid}/",
            "datasets": [{"name": "findings", "sql": f"SELECT f.* FROM {table} f WHERE :chunk"}],
            "chunking": {"strategy": "Table", "table": {"name": table, "alias": "f"}, "parallelism": parallelism}} | job
    own = [{"apiVersion": "pgexport.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec}
           for kind, name, spec in [("ExportSource", "db", source), *(("ExportSink", name, spec) for name, spec in sinks.items()),
                                    ("ExportJob", "bench", spec)]]
    return "---\n".join(json.dumps(document) + "\n" for document in secrets + own)


def pgexport(file, out):
    return [RELEASE / "pgexport", "run", "-f", file, "--volume", f"out={out}"]
