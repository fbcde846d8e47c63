"""Early warnings from streams of sensor readings.

Owns what is normal for a device (`baseline`), how rows become windows (`intake`, `recent`,
`windows`), what the model's evidence means (`model`, `detector`) and when a score is worth a warning
(`alarm`). Pure: rows and a loaded model in, scores and alarms out. It never stores its state itself,
never reads a clock, and knows nothing of topics or messages.
"""

from agent.tasks.anomaly.alarm import Alarm, SensorShare
from agent.tasks.anomaly.detector import AnomalyDetector, Outcome
from agent.tasks.anomaly.settings import AnomalySettings

__all__ = ["Alarm", "AnomalyDetector", "AnomalySettings", "Outcome", "SensorShare"]
