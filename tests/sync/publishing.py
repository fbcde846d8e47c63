"""Publishing in a test."""

from agent.sync.link import Link


def publish(link: Link, topic: str, payload: bytes = b"x", **options) -> list:
    """Publish; the list holds the answer once it has come."""
    answers: list = []
    assert link.publish(topic, payload, on_ack=answers.append, **options)
    return answers
