"""Where a peer writes: a path in a folder, a key of the S3 server's bucket, or nowhere."""

import os

import pyarrow.fs


def path(destination, file):
    """The place as a path or URI; `destination` is a folder, `s3` or `nowhere`."""
    if destination == "nowhere":
        return "/dev/null"
    return f"s3://{os.environ['BENCH_S3_BUCKET']}/{file}" if destination == "s3" else f"{destination}/{file}"


def opened(destination, file):
    """The place as a stream that pyarrow writes to."""
    if destination != "s3":
        return pyarrow.fs.LocalFileSystem().open_output_stream(path(destination, file))
    s3 = pyarrow.fs.S3FileSystem(access_key=os.environ["BENCH_S3_KEY"], secret_key=os.environ["BENCH_S3_SECRET"], scheme="http",
                                 region=os.environ["BENCH_S3_REGION"], endpoint_override=os.environ["BENCH_S3_HOST"])
    return s3.open_output_stream(f"{os.environ['BENCH_S3_BUCKET']}/{file}")
