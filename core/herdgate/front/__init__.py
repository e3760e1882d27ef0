"""The HTTP server: Sanic parses and schedules, this package reads bodies and writes replies."""
