"""The HTTP gateway: images in by `POST /analyze`, tasks, devices and results out. See `app` for how it is put together."""

from streams.http_gateway.app import http_app
from streams.http_gateway.limits import HttpLimits

__all__ = ["HttpLimits", "http_app"]
