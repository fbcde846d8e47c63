"""What the device owes the cloud, and what the cloud has to say to the device, over MQTT.

Owns the one connection to a broker (`link`; `connection` beneath it, which with `client` alone knows paho),
when and how to connect again (`attempts`, pure), the topics (`topics`, pure), which row goes next
(`queue`, pure) and the draining of the outbox (`uplink`). It keeps nothing that must survive a power
cut: what is to be sent is in the outbox until the broker has acknowledged it. It never reads what a
message says.
"""
