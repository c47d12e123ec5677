"""DuckDB: each request writes rows and sorts more than fits into its memory limit, so that files are spilled."""

import os

import duckdb
from serve import serve

os.makedirs("/var/tmp/duck", exist_ok=True)
database = duckdb.connect("/var/tmp/duck/data.db")
database.execute("set memory_limit='60MB'; set threads=1; set temp_directory='/var/tmp/duck/spill'")
database.execute("create table entries (number bigint)")
database.execute("create table many as select hash(range) as number, repeat('x', 40) as text from range(700000)")
calls = 0


def say(_path):
    global calls
    calls += 1
    database.execute("insert into entries values (?)", [calls])
    if calls % 20 == 1:
        database.execute("create or replace table sorted as select * from many order by text, number")
        count = database.execute("select count(*) from sorted").fetchone()[0]
        if count != 700000:
            return f"BAD {count} rows were sorted"
    count, total = database.execute("select count(*), sum(number) from entries").fetchone()
    return f"ok {count}" if total == calls * (calls + 1) // 2 else f"BAD the sum is {total} after {calls}"


serve(say)
