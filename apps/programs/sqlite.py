"""
A SQLite database that stays open, and a second connection for each request: it is refused the write lock that the first one holds, in the journal mode of the
argument. Each request writes a row; the answer ends with their number, and the database is whole.
"""

import os
import sqlite3
import sys

from serve import serve

DIRECTORY = "/var/tmp/books"
PATH = f"{DIRECTORY}/accounts.db"
os.makedirs(DIRECTORY, exist_ok=True)
first = sqlite3.connect(PATH, isolation_level=None, check_same_thread=False)
first.execute(f"pragma journal_mode={sys.argv[1]}")
first.execute("create table entries (number integer)")
held = open(PATH, "rb")  # never closed: closing it would drop the process's locks


def numbers():
    opened, named, directory = os.fstat(held.fileno()), os.stat(PATH), os.stat(DIRECTORY)
    return opened.st_dev, opened.st_ino, named.st_dev, named.st_ino, directory.st_dev, directory.st_ino


BEGUN = numbers()


def say(_path):
    first.execute("begin immediate")
    second = sqlite3.connect(PATH, isolation_level=None, timeout=0)
    try:
        second.execute("begin immediate")
        return "BAD two connections hold the write lock"
    except sqlite3.OperationalError as error:
        if "locked" not in str(error):
            return f"BAD {error}"
    finally:
        second.close()
    first.execute("insert into entries values (1)")
    first.execute("commit")
    if numbers() != BEGUN:
        return f"BAD device and inode were {BEGUN} and are {numbers()}"
    if first.execute("pragma quick_check").fetchone() != ("ok",):
        return "BAD the database is damaged"
    return f"ok {first.execute('select count(*) from entries').fetchone()[0]}"


serve(say)
