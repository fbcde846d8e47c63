"""edge-agent: runs signed, quantized models on edge hardware and syncs with the cloud over MQTT.

Importing this package imports no engine, no MQTT client and no cryptography: each heavy library is
imported by the one file that owns it, when it is first needed.
"""

__version__ = "0.1.0"
