"""A port that answers whether a process lives and works, and gives its metrics.

GET /health/live   200 while the process answers
GET /health/ready  200 while it does its work, 503 before and after, and while something is away that it waits for
GET /metrics       Prometheus text
"""

from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from schemas.errors import ConfigurationError


class Health:
    """The port. `ready` is set by whoever runs the work, and `waits_for` to what is away, or nothing."""

    def __init__(self, *, host: str, port: int) -> None:
        self.ready = False
        self.waits_for = ""
        self._address = (host, port)
        self._server: ThreadingHTTPServer | None = None

    def start(self) -> None:
        """Listen.

        Raises:
            ConfigurationError: the port is taken.
        """
        health = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                status, kind, body = health.answer(self.path)
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                """Probes are not worth a line each."""

        try:
            self._server = ThreadingHTTPServer(self._address, Handler)
        except OSError as error:
            raise ConfigurationError(
                f"health and metrics cannot listen on {self._address[0]}:{self._address[1]}: {error}",
                setting="worker.metrics_port",
                do="choose another port with --metrics-port",
            ) from error
        Thread(target=self._server.serve_forever, name="health", daemon=True).start()

    def stop(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()

    def answer(self, path: str) -> tuple[int, str, bytes]:
        """Status, content type and body of a GET."""
        match path.partition("?")[0]:
            case "/health/live":
                return 200, "text/plain", b"live\n"
            case "/health/ready":
                if self.ready and self.waits_for:
                    return 503, "text/plain", f"not ready: {self.waits_for}\n".encode()
                return (200, "text/plain", b"ready\n") if self.ready else (503, "text/plain", b"not ready\n")
            case "/metrics":
                return 200, CONTENT_TYPE_LATEST, generate_latest()
            case _:
                return 404, "text/plain", b"try /health/live, /health/ready or /metrics\n"
