"""From a float model to a small one that is proved as good, packaged for devices.

Owns recipes, their evaluation, the choice between them, and the package that comes out. Runs on a
workstation, never on a device: here torch and optimum are at home. Shares with the agent its
errors, its manifest, its engines and its golden check, so that what is measured and packaged is
what devices will run. Never signs: that is `tools.fleet`.

A family (`family.Family`) knows one kind of model; everything else is the same for all of them:
`run` is the story, `auto` the choice, `measure` the stopwatch, `report` the account.
"""
