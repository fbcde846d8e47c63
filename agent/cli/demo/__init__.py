"""`edge-agent demo`: the main job on one screen, with a real daemon and an embedded broker."""
