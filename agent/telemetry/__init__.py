"""What the agent knows of itself: counters, events and probes of the machine.

Owns the metrics registry and its text form, the bus that carries events to local listeners, and the
probes of processor, memory, heat and disk. It never decides anything by what it measures, never
sends anything off the device, and never blocks or fails whoever reports to it: a slow listener
loses its oldest events and is told how many.
"""
