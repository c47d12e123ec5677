"""A Celery task that adds one to a number in Redis. As a program: each request has one task run, and says the number."""

import celery

app = celery.Celery("tasks", broker="redis://127.0.0.1:6379/0", backend="redis://127.0.0.1:6379/1")


@app.task
def add():
    import redis

    return redis.Redis().incr("tasks")


if __name__ == "__main__":
    from serve import serve

    serve(lambda _path: f"ok {add.delay().get(timeout=300)}")
