"""A terminal over TCP that prints `tick N`: each number once, in order. With `--redraws` a full-screen program may draw what it has drawn before."""

import re
import socket

import counting

given = counting.arguments(("--redraws", {"action": "store_true"}))


class Terminal:
    def __init__(self):
        self.socket = socket.create_connection((given.host, given.port), counting.LIMIT)
        self.text, self.number = b"", None

    def tick(self):
        while not (found := re.search(rb"tick (\d+)[^\d]", self.text)):
            read = self.socket.recv(65536)
            if not read:
                raise counting.Wrong("the connection has ended")
            self.text += read
        self.text = self.text[found.end() - 1 :]
        number, before = int(found.group(1)), self.number
        if given.redraws and before is not None and number <= before:
            return self.tick()
        self.number = number
        if before is not None and number != before + 1:
            raise counting.Wrong(f"{number} after {before}")


counting.run(Terminal, Terminal.tick, last=lambda all: f"{all[0].number} ticks", pace=0)
