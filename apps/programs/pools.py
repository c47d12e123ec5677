"""Pools of processes: each request has one of them compute. The argument is how they are made: `fork`, `spawn`, `forkserver`, `executor`, `joblib`."""

import multiprocessing
import sys

from serve import serve


def square(number):
    return number * number


def main():
    kind = sys.argv[1]
    if kind == "joblib":
        import joblib

        def compute(numbers):
            return joblib.Parallel(n_jobs=2)(joblib.delayed(square)(number) for number in numbers)

    elif kind == "executor":
        from concurrent.futures import ProcessPoolExecutor

        pool = ProcessPoolExecutor(2)

        def compute(numbers):
            return list(pool.map(square, numbers))

    else:
        pool = multiprocessing.get_context(kind).Pool(2)

        def compute(numbers):
            return pool.map(square, numbers)

    lock = multiprocessing.get_context("spawn" if kind == "joblib" else kind if kind != "executor" else "fork").Lock()
    calls = 0

    def say(_path):
        nonlocal calls
        calls += 1
        with lock:
            if list(compute(range(20))) != [number * number for number in range(20)]:
                return "BAD the squares are others"
        return f"ok {calls}"

    compute(range(2))
    serve(say)


if __name__ == "__main__":
    main()
