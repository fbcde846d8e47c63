"""OpenAI's interface, for clients that exist already.

Owns the paths below `/v1`: what requests mean, how answers and errors look, and answers that arrive
token by token. Never runs a model itself: it hands the request to a session that writes text, and
reads what comes.
"""
