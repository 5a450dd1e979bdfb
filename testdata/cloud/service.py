"""What the services of the clouds for tests have in common: a server on loopback that prints its port, answers POST (and GET) by a function of each service's own, and fails as it is
told to.

POST /control with a JSON object sets what happens next: {"fail": [[STATUS, BODY, {FIELD: VALUE}], …], "delay": SECONDS, "clock": SECONDS}. What a service tells of a call goes to
standard output, a line each. It ends with its standard input.
"""

import http.server
import json
import ssl
import sys
import threading
import time
from email.utils import formatdate

control = {"fail": [], "delay": 0, "clock": 0}
_lock = threading.Lock()


def now():
    """The service's clock: seconds since 1970."""
    return time.time() + control["clock"]


class Fields(dict):
    """Names in any case."""

    def __init__(self, fields):
        super().__init__((name.lower(), value) for name, value in fields.items())

    def __getitem__(self, name):
        return super().__getitem__(name.lower())

    def get(self, name, default=None):
        return super().get(name.lower(), default)


class Refused(Exception):
    """An answer that is no success: what it says in JSON, or as it is."""

    def __init__(self, status, body, headers=()):
        super().__init__(status)
        self.status, self.body, self.headers = status, body, dict(headers)


def serve(answer, certificate=None, private_key=None):
    """`answer(method, target, fields, body)` returns status and content, or raises Refused."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_):
            pass

        def date_time_string(self, timestamp=None):
            return formatdate(now() if timestamp is None else timestamp, usegmt=True)

        def do_POST(self):
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if self.path == "/control":
                control.update(json.loads(body))
                return self.reply(200, "")
            time.sleep(control["delay"])
            with _lock:
                try:
                    if control["fail"]:
                        refused = Refused(*control["fail"].pop(0))
                        print(json.dumps({"failed": refused.status}), flush=True)
                        raise refused
                    self.reply(*answer(self.command, self.path, Fields(self.headers), body))
                except Refused as refused:
                    self.reply(refused.status, refused.body, refused.headers)

        do_GET = do_POST

        def reply(self, status, content, headers=None):
            is_text = isinstance(content, str)
            body = (content if is_text else json.dumps(content)).encode()
            self.send_response(status)
            self.send_header("Content-Type", "text/xml" if is_text else "application/json")
            self.send_header("Content-Length", str(len(body)))
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

    class Server(http.server.ThreadingHTTPServer):
        def handle_error(self, *_):
            """Whoever breaks a connection off is no matter."""

    server = Server(("127.0.0.1", 0), Handler)
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, private_key)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    print(server.server_address[1], flush=True)
    threading.Thread(target=lambda: (sys.stdin.read(), server.shutdown()), daemon=True).start()
    server.serve_forever()
