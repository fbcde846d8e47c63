"""The operator's half of trust and of rollouts.

Owns signing keys, and the signed repository that devices install from; and the receiving side of
what devices send. Runs on a workstation, never on a device; shares with the agent its errors, its
manifest and its rules, and nothing that holds state.
"""
