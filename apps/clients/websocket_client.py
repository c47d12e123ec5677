"""
A WebSocket that stays open (RFC 6455, without extensions).

`ping`: a ping, and its pong, in order; messages are read and left alone. `echo`: each text comes back. `numbers`: the server sends numbers, each one more than
the one before. `ask`: `--send TEXT` is answered with a text that ends with a number, one more than the one before.
"""

import base64
import os
import re
import socket
import struct

import counting

given = counting.arguments(
    ("mode", {"choices": ["ping", "echo", "numbers", "ask"]}),
    ("path", {"nargs": "?", "default": "/"}),
    ("--send", {"default": "more"}),
    ("--page", {"help": "a page that is loaded first; `{1}` in the other arguments is the group of --token in it"}),
    ("--token", {}),
    ("--protocol", {}),
    ("--header", {"action": "append", "default": []}),
)
TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10


class WebSocket:
    def __init__(self):
        self.number = None
        self.sent = 0
        token = self.token() if given.page else ""
        path, protocol = given.path.replace("{1}", token), (given.protocol or "").replace("{1}", token)
        self.socket = socket.create_connection((given.host, given.port), counting.LIMIT)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.input = self.socket.makefile("rb")
        key = base64.b64encode(os.urandom(16)).decode()
        head = [f"GET {path} HTTP/1.1", f"Host: {given.host}:{given.port}", "Upgrade: websocket", "Connection: Upgrade"]
        head += [f"Sec-WebSocket-Key: {key}", "Sec-WebSocket-Version: 13", f"Origin: http://{given.host}:{given.port}", *given.header]
        if protocol:
            head.append(f"Sec-WebSocket-Protocol: {protocol}")
        self.socket.sendall(("\r\n".join(head) + "\r\n\r\n").encode())
        status = self.input.readline()
        if b" 101 " not in status:
            raise counting.Wrong(f"no WebSocket: {status!r}")
        while self.input.readline().strip():
            pass

    @staticmethod
    def token():
        import http.client

        connection = http.client.HTTPConnection(given.host, given.port, timeout=counting.LIMIT)
        connection.request("GET", given.page)
        page = connection.getresponse().read().decode("utf-8", "replace")
        found = re.search(given.token, page) if given.token else None
        if given.token and not found:
            raise counting.Wrong(f"`{given.token}` is not in the page")
        return found.group(1) if found else ""

    def send(self, kind, payload):
        mask = os.urandom(4)
        length = len(payload)
        head = bytes([0x80 | kind])
        head += bytes([0x80 | length]) if length < 126 else bytes([0xFE]) + struct.pack(">H", length)
        self.socket.sendall(head + mask + bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload)))

    def exactly(self, length):
        read = self.input.read(length)
        if len(read) < length:
            raise counting.Wrong("the WebSocket has ended")
        return read

    def frame(self):
        """The next frame that is no ping: its kind and payload."""
        while True:
            first, second = self.exactly(2)
            length = second & 0x7F
            if length == 126:
                (length,) = struct.unpack(">H", self.exactly(2))
            elif length == 127:
                (length,) = struct.unpack(">Q", self.exactly(8))
            payload = self.exactly(length)
            if first & 0x0F == PING:
                self.send(PONG, payload)
            elif first & 0x0F == CLOSE:
                raise counting.Wrong(f"closed with {payload!r}")
            else:
                return first & 0x0F, payload

    def text(self):
        while True:
            kind, payload = self.frame()
            if kind in (TEXT, BINARY):
                return payload.decode()

    def step(self):
        getattr(self, given.mode)()

    def ping(self):
        self.sent += 1
        wanted = f"ping {self.sent}".encode()
        self.send(PING, wanted)
        while True:
            kind, payload = self.frame()
            if kind == PONG:
                if payload != wanted:
                    raise counting.Wrong(f"pong {payload!r} to {wanted!r}")
                return

    def echo(self):
        self.sent += 1
        wanted = f"text {self.sent}"
        self.send(TEXT, wanted.encode())
        text = self.text()
        if text != wanted:
            raise counting.Wrong(f"`{text}` to `{wanted}`")

    def numbers(self):
        self.follows(self.text())

    def ask(self):
        self.send(TEXT, given.send.encode())
        self.follows(self.text())

    def follows(self, text):
        number = int(re.search(r"(\d+)\s*$", text).group(1))
        before, self.number = self.number, number
        if before is not None and number != before + 1:
            raise counting.Wrong(f"{number} after {before}")


if __name__ == "__main__":
    counting.run(WebSocket, WebSocket.step, pace=0 if given.mode == "numbers" else counting.PACE)
