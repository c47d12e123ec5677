"""Shared memory of two processes: a child adds one to a number in it for each request, under a lock that both hold in turn."""

import multiprocessing
from multiprocessing import shared_memory

from serve import serve


def add(name, asked, done):
    memory = shared_memory.SharedMemory(name)
    while True:
        asked.acquire()
        number = int.from_bytes(memory.buf[:8], "little") + 1
        memory.buf[:8] = number.to_bytes(8, "little")
        done.release()


def main():
    context = multiprocessing.get_context("fork")
    memory = shared_memory.SharedMemory(create=True, size=16 << 20)
    asked, done = context.Semaphore(0), context.Semaphore(0)
    context.Process(target=add, args=(memory.name, asked, done), daemon=True).start()
    calls = 0

    def say(_path):
        nonlocal calls
        calls += 1
        asked.release()
        if not done.acquire(timeout=60):
            return "BAD the other process says nothing"
        number = int.from_bytes(memory.buf[:8], "little")
        return f"ok {calls}" if number == calls else f"BAD {number} in memory after {calls}"

    serve(say)


if __name__ == "__main__":
    main()
