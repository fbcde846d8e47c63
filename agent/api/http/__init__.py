"""HTTP/1.1 on a Unix socket, and nothing above it.

Owns connections, their bounds and timeouts, framing, callers and the statuses of errors. It never
knows what a route means: it finds a route's handler in a table, gives it a whole request, and sends
what it returns.
"""
