"""One TOML file and the environment, turned into the rooms' settings.

Owns the table of sections (`settings`), reading and refusing (`read`), where in the file a key stands
(`lines`) and the commented file that `edge-agent init` writes (`template`). Never decides what a
setting means: each room defines its own settings as a frozen dataclass and checks its own values.
"""
