"""
Keep-alive HTTP: GET of each path in turn, on connections that are never opened again.

`--counter`: the answer ends with a number, one more than the one before. `--echo`: the answer has the number of the query. `--same`: the answer is always that
of the first time. `--expect TEXT`: the answer has this text. `--close`: a new connection for each request. `--post BYTES`: POST, and the answer is its SHA-256.
"""

import hashlib
import http.client
import itertools
import os
import re

import counting

given = counting.arguments(
    ("paths", {"nargs": "*", "default": ["/"]}),
    ("--counter", {"action": "store_true"}),
    ("--echo", {"action": "store_true"}),
    ("--same", {"action": "store_true"}),
    ("--close", {"action": "store_true"}),
    ("--expect", {"default": ""}),
    ("--post", {"type": int}),
    ("--connections", {"type": int, "default": 1}),
    ("--pace", {"type": float, "default": counting.PACE}),
)
numbers = itertools.count(1)


class Connection:
    def __init__(self):
        self.http = http.client.HTTPConnection(given.host, given.port, timeout=counting.LIMIT)
        self.http.connect()
        if not given.close:
            self.http.auto_open = 0
        self.count = None
        self.first = {}

    def ask(self):
        for path in given.paths:
            self.get(path)

    def get(self, path):
        number = next(numbers)
        if given.close:
            self.http.close()
        body = os.urandom(given.post) if given.post else None
        url = f"{path}{'&' if '?' in path else '?'}n={number}" if given.echo else path
        self.http.request("POST" if body else "GET", url, body)
        answer = self.http.getresponse()
        text = answer.read()
        if answer.status != 200:
            raise counting.Wrong(f"{answer.status} to {url}: {text[:200]!r}")
        self.check(path, number, body, text)

    def check(self, path, number, body, text):
        if body and hashlib.sha256(body).hexdigest().encode() not in text:
            raise counting.Wrong(f"another hash than that of what was sent: {text[:100]!r}")
        if given.echo and str(number).encode() not in text:
            raise counting.Wrong(f"{text[:100]!r} to number {number}")
        if given.expect.encode() not in text:
            raise counting.Wrong(f"`{given.expect}` is not in {text[:200]!r}")
        if given.same and self.first.setdefault(path, text) != text:
            raise counting.Wrong(f"{path} has another content: {text[:100]!r}")
        if given.counter:
            count = int(re.search(rb"(\d+)\s*$", text).group(1))
            before, self.count = self.count, count
            if before is not None and count != before + 1:
                raise counting.Wrong(f"{count} after {before}")


counting.run(Connection, Connection.ask, connections=given.connections, pace=given.pace)
