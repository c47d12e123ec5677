"""A gRPC server without generated code: `Echo`, and `Numbers`, a stream."""

import time
from concurrent import futures

import grpc


def numbers(_request, context):
    number = 0
    while context.is_active():
        number += 1
        yield str(number).encode()
        time.sleep(0.05)


handlers = {
    "Echo": grpc.unary_unary_rpc_method_handler(lambda request, _: request),
    "Numbers": grpc.unary_stream_rpc_method_handler(numbers),
}
server = grpc.server(futures.ThreadPoolExecutor(8))
server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("counting.Counting", handlers),))
server.add_insecure_port("0.0.0.0:8080")
server.start()
server.wait_for_termination()
