# SPDX-License-Identifier: GPL-3.0-or-later
"""
tests/lab/prometheus_text.py - the text format of metrics, read as strictly as its description allows (version 0.0.4)

parse(text) gives {name: Family}, or raises Malformed with the line that is wrong. What Prometheus itself would forgive is wrong
here, too: a family without HELP or TYPE, or in two pieces; a series twice; a histogram that doesn't add up.
"""

import re

NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
LABEL = r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\\\|\\"|\\n)*)"'
SAMPLE = re.compile(rf"({NAME})(?:\{{((?:{LABEL})(?:,{LABEL})*)\}})? (-?[0-9]+(?:\.[0-9]+)?)\Z")
HELP = re.compile(rf"# HELP ({NAME}) (.+)\Z")
TYPE = re.compile(rf"# TYPE ({NAME}) (counter|gauge|histogram)\Z")
ENDS = {"counter": ("",), "gauge": ("",), "histogram": ("_bucket", "_sum", "_count")}
ESCAPED = {"\\\\": "\\", '\\"': '"', "\\n": "\n"}


class Malformed(Exception):
    pass


class Family:
    def __init__(self, name, text):
        self.name, self.help = name, text
        self.kind = None
        self.samples = {}    # {(end of the name, ((label, value), ...)): text of the number}

    def value(self, **labels):
        """As a number; None: there is no such series."""
        text = self.samples.get(("", tuple(sorted(labels.items()))))
        return None if text is None else float(text)

    def add(self, line, name, labels, number):
        end = name.removeprefix(self.name)
        if not name.startswith(self.name) or self.kind is None or end not in ENDS[self.kind]:
            raise Malformed(f"of another family than {self.name}: {line}")
        if (end, labels) in self.samples:
            raise Malformed(f"twice: {line}")
        if self.kind != "gauge" and number.startswith("-"):
            raise Malformed(f"a {self.kind} below zero: {line}")
        self.samples[end, labels] = number


def labels_of(text):
    found = [(name, re.sub(r"\\.", lambda escape: ESCAPED[escape[0]], value)) for name, value in re.findall(LABEL, text or "")]
    if len({name for name, _ in found}) != len(found):
        raise Malformed(f"a label twice: {text}")
    return tuple(sorted(found))


def check_histogram(family):
    """Buckets of each series grow with their bounds up to +Inf, which is the count."""
    series = {}
    for (end, labels), number in family.samples.items():
        others = tuple(label for label in labels if label[0] != "le")
        series.setdefault(others, {}).setdefault(end, []).append((dict(labels).get("le"), float(number)))
    for labels, parts in series.items():
        bounds = [float(bound) for bound, _ in parts.get("_bucket", ())]
        counts = [count for _, count in parts.get("_bucket", ())]
        if sorted(parts) != ["_bucket", "_count", "_sum"] or bounds != sorted(set(bounds)) or bounds[-1] != float("inf"):
            raise Malformed(f"{family.name}{labels}: its parts or its bounds: {parts}")
        if counts != sorted(counts) or counts[-1] != parts["_count"][0][1]:
            raise Malformed(f"{family.name}{labels} does not add up: {parts}")


def parse(text):
    families, family = {}, None
    if not text.endswith("\n"):
        raise Malformed("the last line has no end")
    for line in text[:-1].split("\n"):
        if match := HELP.match(line):
            if match[1] in families:
                raise Malformed(f"a second time: {line}")
            family = families[match[1]] = Family(*match.groups())
        elif match := TYPE.match(line):
            if family is None or match[1] != family.name or family.kind or family.samples:
                raise Malformed(f"not behind its HELP: {line}")
            family.kind = match[2]
        elif (match := SAMPLE.match(line)) and family:
            family.add(line, match[1], labels_of(match[2]), match.groups()[-1])
        else:
            raise Malformed(f"no line of this format: {line}")
    for family in families.values():
        if not family.samples:
            raise Malformed(f"{family.name} has no samples")
        if (family.kind == "counter") != family.name.endswith("_total"):
            raise Malformed(f"{family.name} is a {family.kind}")
        if family.kind == "histogram":
            check_histogram(family)
    return families
