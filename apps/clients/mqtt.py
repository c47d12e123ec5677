"""MQTT with QoS 1: a client publishes numbers and gets each of them back by its subscription, in order."""

import queue

import counting
import paho.mqtt.client as mqtt

given = counting.arguments()


class Loop:
    def __init__(self):
        self.number = 0
        self.arrived = queue.Queue()
        self.client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
        self.client.on_message = lambda _client, _data, message: self.arrived.put(int(message.payload))
        self.client.on_disconnect = lambda *_: self.arrived.put(None)
        self.client.connect(given.host, given.port, keepalive=counting.LIMIT)
        self.client.loop_start()
        self.client.subscribe("numbers", qos=1)

    def publish(self):
        self.number += 1
        self.client.publish("numbers", str(self.number), qos=1)
        number = self.arrived.get(timeout=counting.LIMIT)
        if number != self.number:
            raise counting.Wrong(f"{number} to {self.number}")


counting.run(Loop, Loop.publish)
