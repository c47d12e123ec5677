# What programs hold in the kernel: a busy terminal, a full connection to itself, record locks,
# files without a name, unix sockets under other names, forked workers, watches of directories.
# Each part checks itself. Prints `line N` as long as all is as it was, and `BAD` once it is not.
# program.py LINES
import collections, ctypes, fcntl, mmap, os, pty, select, socket, struct, sys, tempfile, threading, time

LINES = int(sys.argv[1])
PLACE = tempfile.mkdtemp(dir="/var/tmp")
PATIENCE = 30
faults, rounds = [], collections.Counter()


def wrong(part, what):
    faults.append(f"{part}: {what}")


def part(turn):
    """Has a thread take turns for as long as nothing is wrong."""
    def run():
        try:
            for _ in turn():
                rounds[turn.__name__] += 1
                if faults:
                    return
        except Exception as error:
            wrong(turn.__name__, repr(error))
    rounds[turn.__name__] = 0
    threading.Thread(target=run, daemon=True).start()


def child(work):
    """A forked process that answers each number it is sent; its end of the pair is a file."""
    ours, its = socket.socketpair()
    if os.fork() == 0:
        ours.close()
        try:
            for text in its.makefile():
                its.sendall(f"{work(int(text))}\n".encode())
        finally:
            os._exit(0)
    its.close()
    answers = ours.makefile()

    def ask(number):
        ours.sendall(f"{number}\n".encode())
        return int(answers.readline())
    return ask


def expect(part, found, wanted):
    if found != wanted:
        wrong(part, f"{found!r}, and not {wanted!r}")


# Processes are forked before there are threads.
locked = open(f"{PLACE}/locked", "w+b", buffering=0)
locked.write(bytes(4096))


def is_locked_to_others(start):
    with open(f"{PLACE}/locked", "r+b") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 100, start)
            return 0
        except OSError:
            return 1


workers = [child(lambda number: number * number) for _ in range(2)]
prober = child(is_locked_to_others)
shell, terminal = pty.fork()
if shell == 0:
    os.execvp("sh", ["sh", "-c", "n=0; while :; do n=$((n+1)); printf '\\033[32mstep %d of many\\033[0m\\n' $n; done"])


@part
def reads_terminal():
    rest, number = b"", 0
    while True:
        rest += os.read(terminal, 3000)
        *lines, rest = rest.split(b"\n")
        for line in lines:
            number += 1
            expect("terminal", line, b"\x1b[32mstep %d of many\x1b[0m\r" % number)
        yield time.sleep(0.05)


listener = socket.create_server(("127.0.0.1", 0))
sender, receiver = socket.create_connection(listener.getsockname()), listener.accept()[0]


@part
def fills_connection():
    for number in range(1 << 40):
        yield sender.sendall(b"".join(struct.pack(">Q", word) for word in range(number * 8192, (number + 1) * 8192)))


@part
def drains_connection():
    for number in range(1 << 40):
        block = receiver.recv(65536, socket.MSG_WAITALL)
        expect("connection", (len(block), block[:8], block[-8:]),
               (65536, struct.pack(">Q", number * 8192), struct.pack(">Q", number * 8192 + 8191)))
        yield time.sleep(0.05)


@part
def keeps_locks():
    mapped = mmap.mmap(locked.fileno(), 4096)
    fcntl.lockf(locked, fcntl.LOCK_EX, 100, 0)
    fcntl.lockf(locked, fcntl.LOCK_EX, 100, 200)
    number = 0
    while True:
        number += 1
        mapped[300:308] = struct.pack(">Q", number)
        expect("locks", [prober(start) for start in (0, 100, 200)], [1, 0, 1])
        expect("mapping", os.pread(locked.fileno(), 8, 300), struct.pack(">Q", number))
        yield time.sleep(0.1)


unix = socket.socket(socket.AF_UNIX)
unix.bind(f"{PLACE}/new")
unix.listen()
os.rename(f"{PLACE}/new", f"{PLACE}/socket")
os.mkdir(f"{PLACE}/watched")


@part
def keeps_removed_files():
    nameless = open(f"{PLACE}/nameless", "w+b", buffering=0)
    renamed = open(f"{PLACE}/removed", "w+b", buffering=0)
    for file in nameless, renamed:
        file.write(os.urandom(1 << 20))
    os.link(f"{PLACE}/removed", f"{PLACE}/other")
    os.unlink(f"{PLACE}/nameless")
    os.unlink(f"{PLACE}/removed")
    before = [os.pread(file.fileno(), 1 << 20, 0) for file in (nameless, renamed)]
    names = ["locked", "other", "socket", "watched"]
    while True:
        now = [os.pread(file.fileno(), 1 << 20, 0) for file in (nameless, renamed)]
        expect("removed files", now == before, True)
        here, there = os.fstat(renamed.fileno()), os.stat(f"{PLACE}/other")
        expect("other name", (here.st_ino, here.st_nlink, sorted(os.listdir(PLACE))), (there.st_ino, 1, names))
        yield time.sleep(0.1)


@part
def accepts():
    while True:
        connection, _ = unix.accept()
        connection.sendall(connection.recv(100))
        yield connection.close()


@part
def connects():
    for number in range(1 << 40):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(f"{PLACE}/socket")
            connection.sendall(b"%d" % number)
            expect("unix socket", connection.recv(100), b"%d" % number)
        yield time.sleep(0.1)


@part
def asks_workers():
    for number in range(1 << 40):
        expect("workers", [ask(number) for ask in workers], [number * number] * 2)
        yield time.sleep(0.05)


@part
def is_told_of_files():
    libc = ctypes.CDLL(None)
    watch = libc.inotify_init()
    IN_CREATE = 0x100
    libc.inotify_add_watch(watch, f"{PLACE}/watched".encode(), IN_CREATE)
    for number in range(1 << 40):
        name = f"{PLACE}/watched/{number}"
        open(name, "w").close()
        if not select.select([watch], [], [], PATIENCE)[0]:
            wrong("watch", f"it did not tell of {number}")
            return
        event = os.read(watch, 4096)
        _, mask, _, length = struct.unpack_from("iIII", event)
        told = (mask, event[16:16 + length].rstrip(b"\0"), len(event))
        expect("watch", told, (IN_CREATE, b"%d" % number, 16 + length))
        os.unlink(name)
        yield time.sleep(0.1)


before, since = collections.Counter(), time.monotonic()
for line in range(LINES):
    time.sleep(0.2)
    if time.monotonic() - since > PATIENCE:
        idle = [name for name in rounds if rounds[name] == before[name]]
        if idle:
            wrong("standstill", f"{idle} after {dict(rounds)}")
        before, since = rounds.copy(), time.monotonic()
    if faults:
        print("BAD", *faults[:3], flush=True)
        sys.exit(1)
    print("line", line, flush=True)
