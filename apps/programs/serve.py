"""Answers GET on port 8080, or `$PORT`, by HTTP/1.1: 200 with what a function says, and 500 once that begins with BAD."""

import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
import threading


def serve(say):
    one_at_a_time = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            try:
                with one_at_a_time:
                    text = say(self.path)
            except Exception as error:
                text = f"BAD {error!r}"
            body = f"{text}\n".encode("utf-8", "backslashreplace")
            self.send_response(500 if text.startswith("BAD") else 200)
            self.send_header("Content-Type", "text/plain; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    ThreadingHTTPServer.request_queue_size = 64
    ThreadingHTTPServer(("", int(os.environ.get("PORT", "8080"))), Handler).serve_forever()


def counter():
    """A function that says `ok` and the number of calls."""
    calls = 0

    def say(_path):
        nonlocal calls
        calls += 1
        return f"ok {calls}"

    return say


if __name__ == "__main__":
    serve(counter())
