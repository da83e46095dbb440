"""An S3 API of one process: enough of the protocol to see what a client does with each answer.

The real object store is in the end-to-end tests; this one answers what a real one cannot be made to answer.
"""

import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ERROR = '<?xml version="1.0"?><Error><Code>{code}</Code><Message>{code}</Message></Error>'
EMPTY = b'<?xml version="1.0"?><ListBucketResult><KeyCount>0</KeyCount></ListBucketResult>'


class Bucket:
    """Objects by path, and answers that are forced: a list of (status, code) used up one by one."""

    def __init__(self):
        self.objects = {}
        self.forced = []
        self.requests = []
        self.conditional = True
        self.always = None

    def answer(self, method, path, query, headers, body):
        """Return status, body and headers of the answer."""
        self.requests.append((method, path))
        forced = self.always or (self.forced.pop(0) if self.forced else None)
        if forced is not None:
            return self.error(*forced)
        if method == "PUT":
            return self.put(path, headers, body)
        if path in self.objects:
            return 200, self.objects[path], {"ETag": '"x"'}
        if "list-type=" in query:
            return 200, EMPTY, {"Content-Type": "application/xml"}
        return self.error(404, "NoSuchKey")

    def put(self, path, headers, body):
        if headers.get("If-None-Match"):
            if not self.conditional:
                return self.error(501, "NotImplemented")
            if path in self.objects:
                return self.error(412, "PreconditionFailed")
        self.objects[path] = body
        return 200, b"", {"ETag": '"x"'}

    @staticmethod
    def error(status, code):
        return status, ERROR.format(code=code).encode(), {"Content-Type": "application/xml"}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    bucket: Bucket

    def handle_method(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path, _, query = self.path.partition("?")
        status, answer, headers = self.bucket.answer(self.command, path, query, self.headers, body)
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer)

    def __getattr__(self, name):
        if name in {"do_GET", "do_PUT", "do_HEAD"}:
            return self.handle_method
        raise AttributeError(name)

    def log_message(self, *_):
        pass


@contextmanager
def serving():
    """Serve a Bucket on the loopback; yield it and its URL."""
    bucket = Bucket()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("BucketHandler", (Handler,), {"bucket": bucket}))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield bucket, f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
