"""What was heard, as people and players read it.

Owns the forms of a transcript: plain text and subtitles. Never hears anything itself, and knows no
client's own form of an answer. Pure.
"""
