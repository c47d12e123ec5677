"""inotify, on a new file, on a file of the image, and on a directory: each request changes all three and reads the events."""

import ctypes
import os
import select
import shutil
import sys

from serve import serve

IN_ATTRIB = 4
libc = ctypes.CDLL(None, use_errno=True)
new = "/var/tmp/watched"
open(new, "w").close()
directory = "/var/tmp/watched.d"
os.makedirs(directory, exist_ok=True)
kinds = {"new": new, "image": "/etc/debian_version", "directory": directory}
paths = [kinds[kind] for kind in sys.argv[1:]]
watch = libc.inotify_init1(os.O_NONBLOCK)
for path in paths:
    assert libc.inotify_add_watch(watch, path.encode(), IN_ATTRIB) > 0
calls = 0


def say(_path):
    global calls
    calls += 1
    for path in paths:
        os.chmod(path, os.stat(path).st_mode & 0o7777)
        if not select.select([watch], [], [], 5)[0]:
            return f"BAD the watch on {path} says nothing"
        os.read(watch, 65536)
    return f"ok {calls}"


serve(say)
