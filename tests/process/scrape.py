"""What Prometheus gets from the processes of a stack."""

import urllib.request
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families as parse

from deploy.local.processes import Process
from deploy.local.stack import Stack


@dataclass(frozen=True)
class Sample:
    name: str
    labels: dict[str, str]
    value: float


def text_of(process: Process) -> str:
    """What one process serves."""
    url = Stack.metrics_url_of(process)
    assert url is not None
    with urllib.request.urlopen(url, timeout=20) as answer:
        return answer.read().decode()


def scrape(stack: Stack) -> list[Sample]:
    """From every process that runs."""
    running = [process for process in stack.processes if process.returncode is None]
    families = (family for process in running for family in parse(text_of(process)))
    return [Sample(s.name, s.labels, s.value) for family in families for s in family.samples]


def total(samples: list[Sample], name: str, **labels: str) -> float:
    """The sum over all series of a name that have these labels."""
    return sum(s.value for s in samples if s.name == name and labels.items() <= s.labels.items())
