"""A server with a child that gdb has attached to and continued."""

import subprocess
import time

from serve import counter, serve

child = subprocess.Popen(["sleep", "100000"])
subprocess.Popen(["gdb", "-q", "-nx", "-p", str(child.pid), "-ex", "continue"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
while "TracerPid:\t0" in open(f"/proc/{child.pid}/status").read():
    time.sleep(0.1)
serve(counter())
