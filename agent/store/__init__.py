"""What the device must remember through a power cut, in one SQLite file.

Owns the database (`db`: one writer thread, natural group commit, full sync), its schema and its
migrations (`schema/NNNN.sql`, `migrate`), what is done about a damaged file (`salvage`), and one file
per family of tables: `outbox` (whatever must reach the cloud), `streams` (what the tasks learned),
`cases` (escalations and their answers), `twin`, `commands`, and `audit` (a chain of hashes).
It never talks to a network, never decides what is worth sending, and never drops a row without
counting it.
"""
