"""Redis: `INCR` in order on one connection, and each number published and received on another one."""

import counting
import redis

given = counting.arguments()


class Numbers:
    def __init__(self):
        options = {"host": given.host, "port": given.port, "socket_timeout": counting.LIMIT, "socket_connect_timeout": counting.LIMIT}
        self.redis = redis.Redis(single_connection_client=True, **options)
        self.subscription = redis.Redis(**options).pubsub(ignore_subscribe_messages=True)
        self.subscription.subscribe("numbers")
        self.subscription.get_message(timeout=counting.LIMIT)
        self.number = None

    def step(self):
        number, before = self.redis.incr("counter"), self.number
        self.number = number
        if before is not None and number != before + 1:
            raise counting.Wrong(f"{number} after {before}")
        self.redis.publish("numbers", number)
        message = self.subscription.get_message(timeout=counting.LIMIT)
        if not message or int(message["data"]) != number:
            raise counting.Wrong(f"{message} to {number}")


def last(states):
    one = states[0]
    one.redis.bgrewriteaof()
    if int(one.redis.get("counter")) != one.number or not one.redis.config_get("appendonly"):
        raise counting.Wrong(f"the counter is {one.redis.get('counter')}")
    return f"counter at {one.number}"


counting.run(Numbers, Numbers.step, last=last)
