"""sling, which reads over one connection: format, table, destination."""

import importlib.resources
import os
import sys

form, table, destination, _ = sys.argv[1:]
program = str(importlib.resources.files("sling_linux_amd64") / "bin" / "sling-linux-amd64")
suffix = {"csv": "csv", "ndjson": "jsonl"}[form]
# It keeps a folder of its own in the home.
os.environ["HOME"] = destination
os.execv(program, [program, "run", "--src-conn", os.environ["BENCH_URI"], "--src-stream", f"public.{table}", "--tgt-object",
                   f"file://{destination}/rows.{suffix}"])
