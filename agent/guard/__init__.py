"""What may come in and go out.

Owns redaction: text (`redact`) and regions of images (`images`), both pure. It never decides whether
something is sent, which the policy of whoever sends it does, and never sends or stores anything.
"""
