"""Runs a command on a terminal of its own for the client that connects to port 8080: what it prints goes to the client, what the client sends is typed."""

import fcntl
import os
import pty
import select
import socket
import struct
import sys
import termios

listener = socket.create_server(("", 8080))
while True:
    client, _ = listener.accept()
    if os.fork():
        client.close()
        continue
    child, terminal = pty.fork()
    if child == 0:
        os.environ.update(TERM="xterm", LANG="C.UTF-8")
        os.execvp(sys.argv[1], sys.argv[1:])
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    while True:
        ready, _, _ = select.select([terminal, client], [], [])
        if terminal in ready:
            client.sendall(os.read(terminal, 65536))
        if client in ready:
            typed = client.recv(65536)
            if not typed:
                os._exit(0)
            os.write(terminal, typed)
