"""Server-sent events over one connection: `data: N`, each number one more than the one before. Another path is asked meanwhile with `--beside PATH`."""

import http.client

import counting

given = counting.arguments(("path", {"nargs": "?", "default": "/events"}), ("--beside", {}))


class Stream:
    def __init__(self):
        self.http = http.client.HTTPConnection(given.host, given.port, timeout=counting.LIMIT)
        self.http.request("GET", given.path, headers={"Accept": "text/event-stream"})
        self.answer = self.http.getresponse()
        if self.answer.status != 200:
            raise counting.Wrong(f"{self.answer.status}")
        self.number = None

    def event(self):
        while True:
            line = self.answer.readline()
            if not line:
                raise counting.Wrong("the stream has ended")
            if line.startswith(b"data:"):
                number = int(line[5:])
                before, self.number = self.number, number
                if before is not None and number != before + 1:
                    raise counting.Wrong(f"{number} after {before}")
                return

    def end(self):
        return f"{self.number} events"


counting.run(Stream, Stream.event, last=lambda streams: streams[0].end(), pace=0)
