"""A WSGI application that says what it was asked."""


def app(environ, start_response):
    body = f"{environ['QUERY_STRING']}\n".encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
