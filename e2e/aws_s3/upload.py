"""What the stand-in for aws_s3 runs on the database's host to reach S3. Only Python's standard library is needed.

    upload.py begin  SCRATCH REQUEST   uploads standard input, all but the completion of the last file
    upload.py finish SCRATCH           completes it and writes SCRATCH/result.json
    upload.py abort  SCRATCH           aborts it

COPY … TO PROGRAM closes the program's input in the same way whether it is done or was cancelled, so only a second call tells that
the rows are complete. REQUEST is JSON. What fails is written to SCRATCH/error.txt, as AWS's client words it.
"""

import datetime
import hashlib
import hmac
import json
import os
import re
import signal
import sys
import urllib.parse

PART = 8 << 20  # bytes of a part of a multipart upload; S3 wants 5 MiB or more of all but the last


class UploadError(Exception):
    pass


class S3:
    """Requests to one bucket, signed (AWS Signature Version 4), by path-style addresses."""

    def __init__(self, request):
        with open(request["role_file"]) as file:
            self.role = json.load(file)
        self.bucket = request["bucket"]
        self.region = request["region"] or self.role["region"]
        url = urllib.parse.urlsplit(self.role["endpoint"])
        self.host, self.scheme = url.netloc, url.scheme

    def request(self, method, key, query=(), body=b"", headers=()):
        path = "/" + urllib.parse.quote(f"{self.bucket}/{key}", safe="/-_.~")
        query = "&".join(f"{name}={urllib.parse.quote(value, safe='')}" for name, value in sorted(query))
        headers = {name.lower(): value for name, value in headers} | self.signed_headers(body)
        headers["authorization"] = self.authorization(method, path, query, headers)
        # Imported where it is used, since many calls make no request and it takes a while.
        import http.client

        connect = http.client.HTTPSConnection if self.scheme == "https" else http.client.HTTPConnection
        try:
            connection = connect(self.host, timeout=60)
            connection.request(method, path + (f"?{query}" if query else ""), body, headers)
            response = connection.getresponse()
            answer = response.read()
        except OSError:
            raise UploadError("Unable to connect to endpoint") from None
        if response.status >= 300:
            raise UploadError(tag(answer, "Message") or f"HTTP response code: {response.status}")
        return response, answer

    def signed_headers(self, body):
        now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y%m%dT%H%M%SZ")
        return {"host": self.host, "x-amz-date": now, "x-amz-content-sha256": hashlib.sha256(body).hexdigest()}

    def authorization(self, method, path, query, headers):
        names = ";".join(sorted(headers))
        lines = [method, path, query, *(f"{name}:{headers[name]}" for name in sorted(headers)), "", names]
        lines.append(headers["x-amz-content-sha256"])
        time = headers["x-amz-date"]
        scope = f"{time[:8]}/{self.region}/s3/aws4_request"
        text = "\n".join(["AWS4-HMAC-SHA256", time, scope, hashlib.sha256("\n".join(lines).encode()).hexdigest()])
        key = f"AWS4{self.role['secret_key']}".encode()
        for part in scope.split("/"):
            key = hmac.digest(key, part.encode(), "sha256")
        signature = hmac.digest(key, text.encode(), "sha256").hex()
        return f"AWS4-HMAC-SHA256 Credential={self.role['access_key']}/{scope}, SignedHeaders={names}, Signature={signature}"


def tag(document, name):
    """The text of an element, whatever its namespace."""
    import xml.etree.ElementTree

    try:
        elements = xml.etree.ElementTree.fromstring(document).iter()
    except xml.etree.ElementTree.ParseError:
        return None
    return next((element.text for element in elements if element.tag.rpartition("}")[2] == name), None)


class File:
    """One object, uploaded in parts while it grows, or at once when it stays small."""

    def __init__(self, s3, key, headers, upload=None, etags=()):
        self.s3, self.key, self.headers = s3, key, headers
        self.upload, self.etags = upload, list(etags)
        self.rest = bytearray()
        self.size = 0

    def write(self, data):
        self.rest += data
        self.size += len(data)
        while len(self.rest) >= PART:
            self.part(bytes(self.rest[:PART]))
            del self.rest[:PART]

    def part(self, data):
        if self.upload is None:
            _, answer = self.s3.request("POST", self.key, [("uploads", "")], headers=self.headers)
            self.upload = tag(answer, "UploadId")
        query = [("partNumber", str(len(self.etags) + 1)), ("uploadId", self.upload)]
        response, _ = self.s3.request("PUT", self.key, query, data)
        self.etags.append(response.headers["ETag"])

    def complete(self):
        if self.upload is None:
            self.s3.request("PUT", self.key, body=bytes(self.rest), headers=self.headers)
            return
        if self.rest:
            self.part(bytes(self.rest))
        parts = "".join(
            f"<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>" for number, etag in enumerate(self.etags, 1)
        )
        body = f"<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>".encode()
        _, answer = self.s3.request("POST", self.key, [("uploadId", self.upload)], body)
        # S3 may answer 200 and still have failed.
        if tag(answer, "ETag") is None:
            raise UploadError(tag(answer, "Message") or "the upload was not completed")

    def abort(self):
        if self.upload is not None:
            self.s3.request("DELETE", self.key, [("uploadId", self.upload)])


def option(options, name, default):
    """The value of one of COPY's options, as far as files are concerned."""
    found = re.search(rf"\b{name}\b\s*(e?'(?:[^']|'')*'|\w+)?", options, re.IGNORECASE)
    if not found:
        return default
    value = found[1] or "true"
    escaped = value[:1] in "eE" and value[1:2] == "'"
    value = value.lstrip("eE").strip("'") if escaped else value.strip("'")
    return value.encode().decode("unicode_escape") if escaped else value


def pieces(stream, options, limit, split_rows):
    """The input in pieces that stay together in one file: rows, or anything up to the limit."""
    form = option(options, "format", "text").lower()
    if split_rows or form == "binary":
        while block := stream.read(min(limit, 1 << 20)):
            yield block
        return
    quote = option(options, "quote", '"').encode() if form == "csv" else None
    row = bytearray()
    for line in stream:
        row += line
        # In CSV a line may end within quotes, of which there is then an odd number. (With an escape character of its own this counts
        # wrong where it stands before a quote, and rows stay together that need not.)
        if quote is None or row.count(quote) % 2 == 0:
            yield bytes(row)
            row.clear()
    if row:
        yield bytes(row)


def begin(scratch, request):
    os.mkdir(scratch, 0o700)
    s3, headers = S3(request), []
    if request["kms_key"]:
        headers = [
            ("x-amz-server-side-encryption", "aws:kms"),
            ("x-amz-server-side-encryption-aws-kms-key-id", request["kms_key"]),
        ]
    options, limit, cut = request["options"] or "", request["file_bytes"], request["split_rows"]
    has_header = option(options, "header", "false").lower() in ("true", "on", "1")
    header = None
    files, total = 1, 0
    file = File(s3, request["key"], headers)
    try:
        for piece in pieces(sys.stdin.buffer, options, limit, cut):
            if has_header and header is None:
                header = piece if request["repeat_header"] and not cut else b""
            while piece:
                space = limit - file.size
                if file.size and (space <= 0 or (len(piece) > space and not cut)):
                    file.complete()
                    total += file.size
                    files += 1
                    file = File(s3, f"{request['key']}_part{files}", headers)
                    file.write(header or b"")
                    continue
                head, piece = (piece[:space], piece[space:]) if cut else (piece, b"")
                file.write(head)
        with open(f"{scratch}/rest", "wb", opener=private) as out:
            out.write(file.rest)
    finally:
        state = {"request": request, "key": file.key, "headers": headers, "upload": file.upload, "etags": file.etags}
        state |= {"files": files, "bytes": total + file.size}
        with open(f"{scratch}/state.json", "w", opener=private) as out:
            json.dump(state, out)


def private(path, flags):
    return os.open(path, flags, 0o600)


def pending(scratch):
    """The last file, as `begin` left it."""
    with open(f"{scratch}/state.json") as file:
        state = json.load(file)
    return state, File(S3(state["request"]), state["key"], state["headers"], state["upload"], state["etags"])


def finish(scratch):
    state, file = pending(scratch)
    empty = state["bytes"] == 0 and not state["request"]["empty_file"]
    with open(f"{scratch}/rest", "rb") as rest:
        file.rest = rest.read()
    if not empty:
        file.complete()
    with open(f"{scratch}/result.json", "w") as out:
        json.dump({"files": 0 if empty else state["files"], "bytes": state["bytes"]}, out)


def abort(scratch):
    try:
        _, file = pending(scratch)
    except FileNotFoundError:
        return  # it never began
    file.abort()


def main():
    # A cancel of the backend is sent to its whole process group.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    action, scratch = sys.argv[1:3]
    try:
        if action == "begin":
            begin(scratch, json.loads(sys.argv[3]))
        elif action == "finish":
            finish(scratch)
        else:
            abort(scratch)
    except UploadError as error:
        with open(f"{scratch}/error.txt", "w") as out:
            out.write(str(error))
        sys.exit(1)


main()
