"""The status page at `/`: one file, no framework, nothing from elsewhere."""

from pathlib import Path

PAGE = (Path(__file__).parent / "page.html").read_bytes()

#: The page may run its own script and talk to this daemon, and nothing else.
PAGE_HEADERS = (
    b"Cache-Control: no-cache\r\n"
    b"Content-Security-Policy: default-src 'none'; script-src 'unsafe-inline'; "
    b"style-src 'unsafe-inline'; connect-src 'self'; img-src data:; base-uri 'none'; "
    b"form-action 'none'; frame-ancestors 'none'\r\n"
    b"X-Content-Type-Options: nosniff\r\n"
    b"Referrer-Policy: no-referrer\r\n"
)
