"""What pgexport wants to reach against others, as ratios within one run of peers.py."""

PGEXPORT, LIMIT, PSQL, DUCKDB = "pgexport", "the limit: COPY BINARY", "psql \\copy", "DuckDB"


def rows(run):
    return 1 / run["wall"]


def cpu(run):
    return run["cpu"] + run["database"]


# What, of pgexport to whom, where, the least or the most, by format. psql has no array and no Parquet: those are weighed against its lines and its CSV.
TARGETS = [
    ("rows/s", rows, DUCKDB, "file", "≥", {"csv": 1.5, "ndjson": 1.8, "json": 1.8, "parquet": 1.3}),
    ("CPU s, client and database", cpu, DUCKDB, "file", "≤", {"csv": 0.75, "ndjson": 0.6, "json": 0.6, "parquet": 0.85}),
    ("peak memory", lambda run: run["mib"], DUCKDB, "file", "≤", {"csv": 0.5, "ndjson": 0.4, "json": 0.4, "parquet": 0.5}),
    ("rows/s", rows, PSQL, "file", "≥", {"csv": 1.8, "ndjson": 3, "json": 3}),
    ("rows/s", rows, LIMIT, "nowhere", "≥", {"csv": 0.85, "ndjson": 0.85, "json": 0.85, "parquet": 0.66}),
    ("database CPU s", lambda run: run["database"], PSQL, "file", "≤", {"csv": 0.7, "ndjson": 0.4, "json": 0.4, "parquet": 0.7}),
]
STAND_INS = {LIMIT: {form: "limit" for form in ("csv", "ndjson", "json", "parquet")}, PSQL: {"json": "ndjson", "parquet": "csv"}}


def table(median, streams):
    """Lines of a table of ratios at so many streams, with what was wanted, for those that were measured."""
    lines = []
    for what, value, peer, destination, sign, wanted in TARGETS:
        for form, bound in wanted.items():
            theirs = median.get((destination, streams, STAND_INS.get(peer, {}).get(form, form), peer))
            ours = median.get((destination, streams, form, PGEXPORT))
            if ours is None or theirs is None:
                continue
            ratio = value(ours) / value(theirs)
            met = ratio >= bound if sign == "≥" else ratio <= bound
            lines.append(f"| {what}, to {peer}'s, {destination} | {form} | {ratio:.2f} | {sign} {bound} | {'met' if met else '**missed**'} |")
    return ["| what | format | ratio | wanted | |", "|---|---|---|---|---|", *lines] if lines else []
