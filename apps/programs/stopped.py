"""
A child that counts and is stopped beside the server: it never counts on. After a restore it is stopped by a signal that it takes before its first instruction,
which may wait for a processor, so its state gets a moment.
"""

import mmap
import os
import signal
import time

from serve import serve

memory = mmap.mmap(-1, 8)
child = os.fork()
if child == 0:
    while True:
        memory[:8] = (int.from_bytes(memory[:8], "little") + 1).to_bytes(8, "little")
time.sleep(0.1)
os.kill(child, signal.SIGSTOP)
os.waitpid(child, os.WUNTRACED)
counted = memory[:8]
calls = 0


def state():
    return open(f"/proc/{child}/stat").read().split()[2]


def say(_path):
    global calls
    calls += 1
    until = time.monotonic() + 5
    while state() != "T" and time.monotonic() < until:
        time.sleep(0.01)
    if state() != "T":
        return f"BAD the child's state is {state()}"
    return f"ok {calls}" if memory[:8] == counted else "BAD the child counts"


serve(say)
