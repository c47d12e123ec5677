"""gRPC: unary calls that are echoed, and a stream of numbers, each one more than the one before, on one channel."""

import counting
import grpc

given = counting.arguments()


class Calls:
    def __init__(self):
        self.channel = grpc.insecure_channel(f"{given.host}:{given.port}")
        grpc.channel_ready_future(self.channel).result(timeout=10)
        self.echo = self.channel.unary_unary("/counting.Counting/Echo")
        self.stream = self.channel.unary_stream("/counting.Counting/Numbers")(b"")
        self.sent, self.number = 0, None

    def step(self):
        self.sent += 1
        wanted = str(self.sent).encode()
        if self.echo(wanted, timeout=counting.LIMIT) != wanted:
            raise counting.Wrong(f"another answer than {wanted}")
        number, before = int(next(self.stream)), self.number
        self.number = number
        if before is not None and number != before + 1:
            raise counting.Wrong(f"{number} after {before}")


counting.run(Calls, Calls.step)
