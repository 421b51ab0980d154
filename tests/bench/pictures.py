# SPDX-License-Identifier: GPL-3.0-or-later
"""
tests/bench/pictures.py - what came out about handoffs, to look at: a table and two pictures
"""

import datetime
import importlib.util
import os

import handoff

INK, HANDED_OFF, DIRECT, RELAYED, PROXY = "#333333", "#0b6e99", "#888888", "#c05621", "#8a5a9e"
COLOURS = [DIRECT, HANDED_OFF, RELAYED, PROXY]


def missing():
    return None if importlib.util.find_spec("matplotlib") else "matplotlib"


def _new(title, x, y):
    import matplotlib    # pylint: disable=import-outside-toplevel
    matplotlib.use("Agg")
    from matplotlib import pyplot    # pylint: disable=import-outside-toplevel
    figure, axes = pyplot.subplots(figsize=(9, 4.5), dpi=100)
    axes.set_title(title, color=INK, loc="left")
    axes.set_xlabel(x, color=INK)
    axes.set_ylabel(y, color=INK)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    return figure, axes


def _save(figure, path):
    figure.tight_layout()
    figure.savefig(path)


def _shares(values):
    """The distribution, as (value, share of those that are not longer)."""
    ordered = sorted(values)
    return ordered, [(i + 1) / len(ordered) for i in range(len(ordered))]


def stalls(path, small):
    figure, axes = _new(f"How long a client waits: calls of {handoff.CALL_BYTES} B, {handoff.WINDOW} outstanding, "
                        f"{small['handoffs']:,} handoffs", "longest time between two answers, µs", "share of handoffs")
    for key, label, colour in (("without", "as long a time, no handoff", DIRECT), ("handed_off", "around a handoff", HANDED_OFF)):
        axes.plot(*_shares(small["stalls"][key]), label=label, color=colour)
    for bar, share in ((80, 0.5), (250, 0.99)):
        axes.plot([bar], [share], marker="+", markersize=12, color=RELAYED, linestyle="none",
                  label="bars: p50 80 µs, p99 250 µs" if share == 0.5 else None)
    axes.set_xscale("log")
    axes.set_ylim(0, 1.02)
    axes.legend(frameon=False, loc="lower right")
    _save(figure, path)


def storm(path, results):
    figure, axes = _new("Reads through a storm of handoffs", "s", "MB/s")
    for (name, way), colour in zip(results["ways"].items(), COLOURS):
        times = [(i + 0.5) * results["bin_s"] for i in range(len(way["mb_per_s"]))]
        axes.plot(times, way["mb_per_s"], label=name, color=colour, linewidth=1.3)
    top = axes.get_ylim()[1]
    for i, rate in enumerate(results["rates"]):
        start = i * results["phase_s"]
        if rate:
            axes.axvspan(start, start + results["phase_s"], color=HANDED_OFF, alpha=0.04 * i, linewidth=0)
            axes.text(start + 0.1, top * 0.97, f"{rate} handoffs/s", color=INK, fontsize=8, va="top")
    axes.set_ylim(0, top)
    axes.set_xlim(0, results["phase_s"] * len(results["rates"]))
    axes.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.14), ncol=4, fontsize=8)
    _save(figure, path)


def table(path, results, options):
    rows = handoff.table_of(results)
    cells = [["" if cell is None else str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells)]
    lines = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths)) + " |" for row in cells]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    with open(path, "w", encoding="utf-8") as out:
        out.write(f"""# What came out about handoffs

Written by `make bench` on {datetime.date.today()}; [README.md](README.md) tells what is measured and what to make of it.
{os.cpu_count()} CPUs, Linux {os.uname().release}, load average {results['load_before']:.2f} before.
`--handoffs {options.handoffs} --bulk-handoffs {options.bulk_handoffs} --rounds {options.rounds} --seconds {options.seconds}`

""" + "\n".join(lines) + "\n\n![stalls](stalls.png)\n\n![storm](storm.png)\n")


def write(directory, results, options):
    if "handoff" in results:
        table(os.path.join(directory, "handoff.md"), results["handoff"], options)
        stalls(os.path.join(directory, "stalls.png"), results["handoff"]["small"])
    if "storm" in results:
        storm(os.path.join(directory, "storm.png"), results["storm"])
