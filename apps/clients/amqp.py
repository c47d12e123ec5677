"""AMQP with confirms: numbers are published to a queue, confirmed, consumed in order and acknowledged."""

import counting
import pika

given = counting.arguments()


class Channel:
    def __init__(self):
        self.number = 0
        parameters = pika.ConnectionParameters(given.host, given.port, heartbeat=0, socket_timeout=counting.LIMIT, blocked_connection_timeout=counting.LIMIT)
        self.connection = pika.BlockingConnection(parameters)
        self.channel = self.connection.channel()
        self.channel.confirm_delivery()
        self.channel.queue_declare("numbers", durable=True)
        self.channel.queue_purge("numbers")

    def publish(self):
        self.number += 1
        self.channel.basic_publish("", "numbers", str(self.number).encode(), mandatory=True)
        method, _, body = self.channel.basic_get("numbers")
        if method is None or int(body) != self.number:
            raise counting.Wrong(f"{body!r} to {self.number}")
        self.channel.basic_ack(method.delivery_tag)


counting.run(Channel, Channel.publish)
