#!/usr/bin/env python3
"""Times an ExportJob from `kubectl apply` to Complete, against a Kubernetes Job that does nothing, in turn."""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import time

from measure import RELEASE, peers

NAMESPACE = "bench-apply"
DATABASE = "bench_apply"
ROWS = 10_000
# How many times as long as the empty Job a delivery may take.
LIMITS = {"Direct": 1.3, "Staged": 2.3}
RESTRICTED = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}, "readOnlyRootFilesystem": True}


def kubectl(*arguments, documents=()):
    """What kubectl prints; `documents` are its input."""
    text = "---\n".join(json.dumps(document) + "\n" for document in documents)
    return subprocess.run(["kubectl", "-n", NAMESPACE, *arguments], input=text, stdout=subprocess.PIPE, text=True, check=True).stdout


def secret(name, values):
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": values}


def own(kind, name, spec):
    return {"apiVersion": "pgexport.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec}


def prepare(known):
    """Makes the data, the buckets, and a source and sinks that are Ready."""
    subprocess.run([RELEASE / "peers", "load", "--rows", str(ROWS), "--database", DATABASE], check=True)
    for bucket in ("bench-customer", "bench-staging"):
        subprocess.run([RELEASE / "peers", "bucket", bucket], check=True)
    postgres, s3 = known["postgres"], known["s3"]
    host, port = postgres["pod"].rsplit(":", 1)
    bucket = {"region": s3["region"], "endpoint": f"http://{s3['pod']}", "forcePathStyle": True, "credentialsSecretRef": {"name": "s3"}}
    source = {"postgres": {"host": host, "port": int(port), "database": DATABASE, "user": postgres["exporter"]["user"],
                           "passwordSecretRef": {"name": "db", "key": "password"}, "tls": {"caSecretRef": {"name": "db", "key": "ca.crt"}}},
              "staging": {"sinkRef": {"name": "staging"}}}
    subprocess.run(["kubectl", "create", "namespace", NAMESPACE], stdout=subprocess.DEVNULL, check=True)
    kubectl("apply", "-f", "-", documents=[
        secret("db", {"password": postgres["exporter"]["password"], "ca.crt": pathlib.Path(postgres["ca_file"]).read_text()}),
        secret("s3", {"AWS_ACCESS_KEY_ID": s3["admin"]["access_key"], "AWS_SECRET_ACCESS_KEY": s3["admin"]["secret_key"]}),
        own("ExportSink", "staging", {"s3": {"bucket": "bench-staging", **bucket}}),
        own("ExportSink", "customer", {"s3": {"bucket": "bench-customer", **bucket}}),
        own("ExportSource", "db", source)])
    kubectl("wait", "--for=condition=Ready", "--timeout=2m", "exportsource/db", "exportsink/customer", "exportsink/staging")


def empty_job(name, image):
    container = {"name": "nothing", "image": image, "args": ["--version"], "securityContext": RESTRICTED}
    pod = {"restartPolicy": "Never", "containers": [container], "automountServiceAccountToken": False,
           "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": {"template": {"spec": pod}, "backoffLimit": 0}}


def export_job(name, mode):
    return own("ExportJob", name, {"sourceRef": {"name": "db"}, "sinkRef": {"name": "customer"}, "path": "{uid}/",
                                   "datasets": [{"name": "findings", "sql": "SELECT * FROM findings"}],
                                   "format": {"type": "NDJSON"}, "delivery": {"mode": mode}})


def seconds(kind, document):
    """From before `kubectl apply` until `kubectl wait` has seen the end."""
    name = document["metadata"]["name"]
    started = time.monotonic()
    kubectl("apply", "-f", "-", documents=[document])
    kubectl("wait", "--for=condition=Complete", "--timeout=5m", f"{kind}/{name}")
    return time.monotonic() - started


def settle():
    """Waits until the cleanup of the export before has ended: it would slow down what comes next."""
    time.sleep(2)
    if kubectl("get", "jobs", "-o", "name"):
        kubectl("wait", "--for=condition=Complete", "--timeout=2m", "job", "--all")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=7)
    parser.add_argument("--keep", action="store_true", help=f"leave the namespace {NAMESPACE}, to look where the time goes")
    args = parser.parse_args()
    image = subprocess.check_output(["kubectl", "-n", "pgexport-system", "get", "deployment", "pgexport", "-o",
                                     "jsonpath={.spec.template.spec.containers[0].image}"], text=True)
    figures = {"an empty Job": [], "Direct": [], "Staged": []}
    try:
        prepare(peers())
        for turn in range(args.repeat):
            settle()
            figures["an empty Job"].append(seconds("job", empty_job(f"empty-{turn}", image)))
            for mode in LIMITS:
                settle()
                figures[mode].append(seconds("exportjob", export_job(f"{mode.lower()}-{turn}", mode)))
    finally:
        if not args.keep:
            subprocess.run(["kubectl", "delete", "namespace", NAMESPACE, "--ignore-not-found"], stdout=subprocess.DEVNULL, check=True)
    median = {name: statistics.median(runs) for name, runs in figures.items()}
    base = median["an empty Job"]
    print(f"from kubectl apply to Complete, {ROWS} rows, medians of {args.repeat}\n\n| what | s | ratio | wanted |\n|---|---|---|---|")
    broken = []
    for name, value in median.items():
        limit = LIMITS.get(name)
        broken += [name] if limit and value / base > limit else []
        print(f"| {name} | {value:.2f} | {value / base:.2f} | {f'≤ {limit}' if limit else '–'}{' **missed**' if name in broken else ''} |")
    if broken:
        sys.exit(f"too slow: {', '.join(broken)}")


if __name__ == "__main__":
    main()
