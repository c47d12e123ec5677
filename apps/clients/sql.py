"""
Transactions on kept connections to PostgreSQL or MariaDB: each inserts the next number of its connection, and reads their count and sum. The last check adds up
what all connections wrote.
"""

import itertools

import counting

given = counting.arguments(("kind", {"choices": ["postgresql", "mariadb"]}), ("--user", {"default": "postgres"}), ("--connections", {"type": int, "default": 4}))
names = itertools.count(1)


def connect():
    if given.kind == "postgresql":
        import psycopg

        return psycopg.connect(host=given.host, port=given.port, user=given.user, dbname="postgres", connect_timeout=counting.LIMIT)
    import pymysql

    return pymysql.connect(host=given.host, port=given.port, user=given.user, database="test", read_timeout=counting.LIMIT, write_timeout=counting.LIMIT)


class Writer:
    def __init__(self):
        self.name = next(names)
        self.count = 0
        self.connection = connect()
        with self.connection.cursor() as cursor:
            cursor.execute("create table if not exists written (who integer, number bigint)")
            cursor.execute("delete from written where who = %s", (self.name,))
        self.connection.commit()

    def transaction(self):
        self.count += 1
        with self.connection.cursor() as cursor:
            cursor.execute("insert into written values (%s, %s)", (self.name, self.count))
            seen = self.read(cursor)
        self.connection.commit()
        if seen != (self.count, self.count * (self.count + 1) // 2):
            raise counting.Wrong(f"count and sum are {seen} after {self.count} rows")

    def read(self, cursor):
        cursor.execute("select count(*), sum(number) from written where who = %s", (self.name,))
        count, total = cursor.fetchone()
        return int(count), int(total)


def last(writers):
    fresh = connect()
    with fresh.cursor() as cursor:
        for writer in writers:
            if writer.read(cursor) != (writer.count, writer.count * (writer.count + 1) // 2):
                raise counting.Wrong(f"{writer.read(cursor)} of {writer.count}")
    return f"{sum(writer.count for writer in writers)} rows"


counting.run(Writer, Writer.transaction, last=last, connections=given.connections)
