"""
What all clients share. A client is `program ADDRESS:PORT [ARGUMENT ...]`. It prints `ok` for each operation that was answered as it has to be, `error TEXT`
for any other, and `end TEXT` after its last check, which it makes when its input ends. Its time limits are longer than any absence of a job.
"""

import argparse
import sys
import threading
import time

# Time limit of an answer.
LIMIT = 300
# Time limit of a server's start.
STARTS_WITHIN = 150
# Time limit of a further connection after an error.
AGAIN_WITHIN = 10
# The time between two operations.
PACE = 0.05
# Errors after which a client gives up.
MANY = 10

_output = threading.Lock()
_stop = threading.Event()


def say(line):
    with _output:
        print(line, flush=True)


def arguments(*options):
    """The address and the arguments: options are pairs of a name and the keywords of `add_argument`."""
    parser = argparse.ArgumentParser()
    parser.add_argument("address")
    for name, keywords in options:
        parser.add_argument(name, **keywords)
    given = parser.parse_args()
    host, port = given.address.rsplit(":", 1)
    given.host, given.port = host, int(port)
    return given


def told(error):
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]


class Wrong(Exception):
    """An answer that is not the one that it has to be."""


def begun(begin, ask, limit):
    """Begins, and asks once, until that succeeds: the server starts."""
    started = time.monotonic()
    while True:
        try:
            state = begin()
            ask(state)
            return state
        except Exception as error:
            print(told(error), file=sys.stderr, flush=True)
            if time.monotonic() - started > limit or _stop.is_set():
                raise error
            time.sleep(0.3)


def _counts(begin, ask, pace):
    errors = 0
    try:
        state = begun(begin, ask, STARTS_WITHIN)
        say("ok")
    except Exception as error:
        say(f"error it does not begin: {told(error)}")
        return None
    while not _stop.is_set():
        try:
            ask(state)
            say("ok")
        except Exception as error:
            say(f"error {told(error)}")
            errors += 1
            if errors == MANY or _stop.is_set():
                return None
            try:
                state = begun(begin, ask, AGAIN_WITHIN)
            except Exception as error:
                say(f"error it does not begin again: {told(error)}")
                return None
        _stop.wait(pace)
    return state


def run(begin, ask, last=None, connections=1, pace=PACE):
    """
    Asks on each of the connections until the input ends. `begin()` gives the state of a connection, `ask(state)` is one operation,
    `last(states)` is the last check and gives a sentence; without it the last check is one operation more on each connection.
    """
    states = [None] * connections

    def one(number):
        states[number] = _counts(begin, ask, pace)

    threads = [threading.Thread(target=one, args=(number,), daemon=True) for number in range(connections)]
    for thread in threads:
        thread.start()

    def wait_for_end():
        sys.stdin.read()
        _stop.set()

    threading.Thread(target=wait_for_end, daemon=True).start()
    for thread in threads:
        thread.join()
    if any(state is None for state in states):
        return
    try:
        if last:
            text = last(states)
        else:
            for state in states:
                ask(state)
            text = "answered"
        say(f"end {text}")
    except Exception as error:
        say(f"error in the last check: {told(error)}")
