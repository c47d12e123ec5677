"""Dask: numbers are squared by the workers and gathered, by one client that stays connected."""

import counting
from distributed import Client

given = counting.arguments()


def square(number):
    return number * number


class Session:
    def __init__(self):
        self.client = Client(f"tcp://{given.host}:{given.port}", timeout=counting.LIMIT, set_as_default=False)
        self.client.wait_for_workers(2, timeout=60)
        self.begin = 0

    def step(self):
        self.begin += 10
        numbers = list(range(self.begin, self.begin + 10))
        squares = self.client.gather(self.client.map(lambda number: number * number, numbers, pure=False))
        if squares != [number * number for number in numbers]:
            raise counting.Wrong(f"the squares of {numbers[0]} and on are {squares}")


counting.run(Session, Session.step)
