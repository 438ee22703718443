"""Files from strangers: values and changes to try, and what reading them may do."""

import json
import time

from hypothesis import HealthCheck, settings

ODD = [10**400, -(10**400), 10**5000, 1e308, float("inf"), float("nan"), 2**63, -1, 0, 10**9, True]
ODD += [None, "x", [], {}, [[[]]]]

fuzzed = settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)


def refused_or_read(read, *arguments, named: str = "") -> None:
    """named: what the message must say, such as the file's name."""
    start = time.process_time()
    try:
        read(*arguments)
    except (ValueError, OSError) as error:
        assert "\n" not in str(error) and named in str(error)
    assert time.process_time() - start < 5  # not a speed: nothing here takes long unless it hangs


def paths(value, prefix=()):
    for key, each in value.items():
        yield (*prefix, key)
        if isinstance(each, dict):
            yield from paths(each, (*prefix, key))


def with_value(data: dict, path: tuple, value: object) -> dict:
    copy = json.loads(json.dumps(data))
    inner = copy
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return copy
