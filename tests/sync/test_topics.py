"""Topics: the published scheme, names made harmless, filters as the standard has them."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from paho.mqtt.client import topic_matches_sub

from agent.errors import BadConfig
from agent.sync.topics import MAX_LEVEL, Topics, level, matches


def test_the_topics_of_a_device():
    topics = Topics("edge", "press-1")
    assert topics.status == "edge/d/press-1/status"
    assert topics.telemetry("pump-1") == "edge/d/press-1/telemetry/pump-1"
    assert topics.escalation("x") == "edge/d/press-1/escalation/x"
    assert topics.answer("x") == "edge/d/press-1/escalation/x/answer"
    assert topics.report("health") == "edge/d/press-1/report/health"


def test_a_prefix_may_have_several_levels():
    assert Topics("plant-7/edge", "a").status == "plant-7/edge/d/a/status"


@pytest.mark.parametrize("prefix", ["", "/a", "a/", "a//b", "a/+", "#", "$SYS", "a\n"])
def test_a_prefix_that_mqtt_would_misunderstand_is_refused(prefix):
    with pytest.raises(BadConfig):
        Topics(prefix, "device")


@pytest.mark.parametrize("device", ["", "a/b", "a+", "#", "$a", "x" * (MAX_LEVEL + 1)])
def test_a_device_that_is_no_single_level_is_refused(device):
    with pytest.raises(BadConfig):
        Topics("edge", device)


@given(st.text())
def test_any_name_becomes_one_harmless_level(name):
    made = level(name)
    assert re.fullmatch(r"[^/+#\x00$][^/+#\x00]*", made)
    assert len(made) <= MAX_LEVEL
    assert level(made) == made


NAMES = st.lists(st.sampled_from(["a", "b", "", "$x"]), min_size=1, max_size=4).map("/".join)
FILTERS = st.tuples(
    st.lists(st.sampled_from(["a", "b", "", "+", "$x"]), min_size=1, max_size=4), st.booleans()
).map(lambda f: "/".join([*f[0], "#"] if f[1] else f[0]))


@given(FILTERS, NAMES.filter(bool))
def test_filters_match_as_another_implementation_says(topic_filter, topic):
    assert matches(topic_filter, topic) == topic_matches_sub(topic_filter, topic)


@pytest.mark.parametrize(
    ("topic_filter", "topic", "expected"),
    [
        ("sport/tennis/player1/#", "sport/tennis/player1", True),
        ("sport/#", "sport", True),
        ("#", "any/thing", True),
        ("sport/tennis/+", "sport/tennis/player1/ranking", False),
        ("sport/+", "sport", False),
        ("sport/+", "sport/", True),
        ("+/+", "/finance", True),
        ("#", "$SYS/monitor", False),
        ("+/monitor", "$SYS/monitor", False),
        ("$SYS/#", "$SYS/monitor", True),
    ],
)
def test_filters_match_as_the_standards_examples_say(topic_filter, topic, expected):
    """MQTT 5, sections 4.7.1 and 4.7.2."""
    assert matches(topic_filter, topic) is expected
