"""`tail -F` of a log to which each request appends a line: it prints each line once. `tail.py -f` follows the descriptor instead."""

import subprocess
import sys
import threading

from serve import serve

PATH = "/var/tmp/followed.log"
open(PATH, "w").close()
printed = []
arrived = threading.Condition()
follower = subprocess.Popen(["tail", "-n", "+1", sys.argv[1] if len(sys.argv) > 1 else "-F", PATH], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def read():
    for line in follower.stdout:
        with arrived:
            printed.append(line.strip())
            arrived.notify()


threading.Thread(target=read, daemon=True).start()
written = 0


def say(_path):
    global written
    written += 1
    with open(PATH, "a") as log:
        log.write(f"{written}\n")
    with arrived:
        arrived.wait_for(lambda: len(printed) >= written, 60)
        wanted = [str(number) for number in range(1, written + 1)]
        if printed != wanted:
            return f"BAD {printed[-5:]} were printed after {written} lines, {len(printed)} in all"
    return f"ok {written}"


serve(say)
