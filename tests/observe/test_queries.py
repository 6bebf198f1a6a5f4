"""The board and the alerting rules ask for what is exposed: each metric by its name, with labels that it has."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from headgate.observe.prometheus import PrometheusObserver

DOCS = Path(__file__).parents[2] / "docs"
WORDS = {"by", "le", "max", "sum", "rate", "topk", "histogram_quantile"}
VALUES = {
    "result": {
        "allowed",
        "denied",
        "shadow_denied",
        "degraded_allowed",
        "degraded_denied",
        "error",
        "answered",
        "failed",
        "at_once",
        "turn",
        "too_late",
    },
}
"""The values of labels that have a closed set of them."""


def exposed() -> dict[str, set[str]]:
    """The labels of each series, by its name."""
    registry = CollectorRegistry()
    made = PrometheusObserver(registry)
    labels = {metric._name: set(metric._labelnames) for metric in vars(made).values() if hasattr(metric, "_labelnames")}
    found: dict[str, set[str]] = {}
    for metric in registry.collect():
        own = labels[metric.name]
        if metric.type == "histogram":
            found |= {f"{metric.name}_bucket": own | {"le"}, f"{metric.name}_sum": own, f"{metric.name}_count": own}
        else:
            found[metric.name + ("_total" if metric.type == "counter" else "")] = own
    return found


def queries() -> list[str]:
    board = json.loads((DOCS / "grafana" / "headgate.json").read_text(encoding="utf-8"))
    asked = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    alerts = (DOCS / "prometheus" / "alerts.yml").read_text(encoding="utf-8")
    folded = re.sub(r">-\n\s+", "", alerts)
    asked += [" ".join(found.split()) for found in re.findall(r"expr: (.*?)\n\s+for:", folded, re.DOTALL)]
    return asked


def test_there_are_queries_of_both() -> None:
    assert len(queries()) == 14 + 5


@pytest.mark.parametrize("query", queries())
def test_a_query_asks_for_what_is_exposed(query: str) -> None:
    series = exposed()
    names = re.findall(r"headgate_\w+", query)
    assert names
    for name in names:
        assert name in series
    has = set.intersection(*(series[name] for name in names))
    for label, operator, wanted in re.findall(r'(\w+)(=~?)"([^"]*)"', query):
        for value in wanted.split("|") if operator == "=~" else [wanted]:
            assert value in VALUES[label], f"no {label} is {value}"
    grouped = {label for labels in re.findall(r"by \(([^)]*)\)", query) for label in re.split(r",\s*", labels)}
    matched = set(re.findall(r"(\w+)=~?\"", query))
    assert grouped | matched <= has
    assert query.count("(") == query.count(")")
    bare = re.sub(r'"[^"]*"|\[[^]]*\]|\{|\}', " ", query)
    assert set(re.findall(r"[a-z_]+", bare)) <= WORDS | set(names) | has
