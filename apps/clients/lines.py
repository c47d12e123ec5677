r"""
A line protocol over TCP. `--first LINE` is sent once and answered by one line. `--ask LINE` is answered by one line that matches `--answer`, in which `{n}` is
a number, one more than the one before. `{sent}` in both is the number of the request. `\n` and `\r` in them are line ends.
"""

import re
import socket

import counting

given = counting.arguments(
    ("--first", {"action": "append", "default": []}),
    ("--ask", {"required": True}),
    ("--answer", {"required": True}),
    ("--end", {"help": "the last request, and"}),
    ("--end-answer", {"help": "the regular expression that its answer matches", "default": ""}),
    ("--connections", {"type": int, "default": 1}),
)


def bytes_of(text):
    return text.replace("\\r", "\r").replace("\\n", "\n").encode() + b"\r\n"


class Connection:
    def __init__(self):
        self.socket = socket.create_connection((given.host, given.port), counting.LIMIT)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.input = self.socket.makefile("rb")
        self.number = None
        self.sent = 0
        for first in given.first:
            self.answer(first)

    def answer(self, text):
        self.socket.sendall(bytes_of(text))
        line = self.input.readline()
        if not line:
            raise counting.Wrong("the connection has ended")
        return line.decode("utf-8", "replace").rstrip("\r\n")

    def ask(self):
        self.sent += 1
        line = self.answer(given.ask.replace("{sent}", str(self.sent)))
        found = re.fullmatch(given.answer.replace("{sent}", str(self.sent)).replace("{n}", r"(\d+)"), line)
        if not found:
            raise counting.Wrong(f"`{line}` to request {self.sent}")
        if found.groups():
            number, before = int(found.group(1)), self.number
            self.number = number
            if before is not None and number != before + 1:
                raise counting.Wrong(f"{number} after {before}")

    def end(self):
        self.ask()
        if not given.end:
            return f"{self.number or self.sent} at the end"
        line = self.answer(given.end)
        if not re.fullmatch(given.end_answer, line):
            raise counting.Wrong(f"`{line}` to `{given.end}`")
        return line


counting.run(Connection, Connection.ask, last=lambda all: ", ".join(one.end() for one in all), connections=given.connections)
