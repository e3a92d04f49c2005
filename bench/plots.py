"""Draws the plots of a record: reads summary.json and hgrm/, writes plots/*.svg and *.png."""

import json
import pathlib
import shutil
import sys

import matplotlib

matplotlib.use("Agg")
# The same record gives the same bytes: ids from a fixed salt, no date, text as text.
matplotlib.rcParams.update({
    "figure.dpi": 120, "font.size": 9, "svg.hashsalt": "corvoy-bench", "svg.fonttype": "none"})
import matplotlib.pyplot as plt  # noqa: E402  the backend comes first

COLOURS = {
    "direct": "#9e9e9e",
    "floor": "#616161",
    "corvoy": "#d1495b",
    "nginx": "#2e933c",
    "haproxy": "#2f6690",
    "envoy": "#8f5bb5",
}


def main():
    folder = pathlib.Path(sys.argv[1])
    chapters = {c["scenario"]: c for c in json.loads((folder / "summary.json").read_text())}
    out = folder / "plots"
    shutil.rmtree(out, ignore_errors=True)  # of scenarios that are gone
    out.mkdir()
    bars(out, chapters, "cpu-per-request", "cpu_us_per_request", "CPU per request, µs",
         ["get-1", "get-64", "get-1000", "connection-per-request", "headers-20", "post-1k"])
    bars(out, chapters, "requests-per-second", "requests_per_second", "requests/s",
         ["get-1", "get-64", "get-1000", "connection-per-request", "headers-20", "post-1k"])
    bars(out, chapters, "cpu-per-mb", "cpu_us_per_mb", "CPU per MB, µs",
         ["post-1m", "answer-64k", "answer-1m", "answer-10m", "chunked"])
    bars(out, chapters, "cpu-per-request-over-tls", "cpu_us_per_request", "CPU per request, µs",
         ["tls-get-64", "tls-resumed", "tls-full-p256", "tls-full-rsa2048"])
    bars(out, chapters, "cpu-per-mb-over-tls-and-tcp", "cpu_us_per_mb", "CPU per MB, µs",
         ["tls-answer-64k", "tls-answer-1m", "tcp-64k", "tcp-1m"])
    bars(out, chapters, "memory-per-connection", "pss_kib_per_connection",
         "PSS per idle connection, KiB", ["idle-4000", "idle-15000", "tls-idle-4000"])
    bars(out, chapters, "system-calls-per-request", "syscalls_per_request",
         "system calls per request", ["syscalls"])
    bars(out, chapters, "instructions-per-request", "instructions_per_request",
         "user-space instructions per request", ["instructions"])
    bars(out, chapters, "exec-to-first-answer", "start_ms", "exec to first answer, ms", ["start"])
    bars(out, chapters, "memory-at-start", "rss_kib", "RSS at start, KiB", ["start"])
    bars(out, chapters, "cost-of-retries-and-shards", "cpu_us_per_request",
         "CPU per request, µs", ["get-64", "retries", "shards-1", "shards-2"])
    lines(out, chapters, "cost-against-routes", "cpu_us_per_request", "CPU per request, µs",
          "routes (1,000: each with its own cluster)",
          {"get-64": 1, "routes-1000": 1000, "routes-10000": 10_000})
    lines(out, chapters, "cost-against-connections", "cpu_us_per_request",
          "CPU per request, µs", "connections", {"get-1": 1, "get-64": 64, "get-1000": 1000})
    rates(out, chapters)
    percentiles(out, folder / "hgrm")


def values(chapter, figure):
    """Peer -> (median, min, max), for the peers that have the figure."""
    spreads = {row["peer"]: row["figures"].get(figure) for row in chapter["rows"]}
    return {p: (s["median"], s["min"], s["max"]) for p, s in spreads.items() if s}


def save(figure, out, name):
    figure.tight_layout()
    figure.savefig(out / f"{name}.svg", metadata={"Date": None})
    figure.savefig(out / f"{name}.png", metadata={"Software": None})
    plt.close(figure)


def bars(out, chapters, name, figure, title, scenarios):
    found = {s: values(chapters[s], figure) for s in scenarios if s in chapters}
    found = {s: v for s, v in found.items() if v}
    if not found:
        return
    peers = [p for p in COLOURS if any(p in v for v in found.values())]
    canvas, axes = plt.subplots(figsize=(max(4.5, 1.5 + 1.6 * len(found)), 3.6))
    width = 0.8 / len(peers)
    for place, peer in enumerate(peers):
        at = [i + (place - (len(peers) - 1) / 2) * width for i, v in enumerate(found.values())
              if peer in v]
        spreads = [v[peer] for v in found.values() if peer in v]
        errors = [[m - low for m, low, _ in spreads], [high - m for m, _, high in spreads]]
        axes.bar(at, [m for m, _, _ in spreads], width, color=COLOURS[peer], label=peer,
                 yerr=errors, capsize=2, error_kw={"elinewidth": 0.7})
    axes.set_xticks(range(len(found)), found)
    axes.set_ylabel(title)
    axes.legend(ncols=len(peers), fontsize=7, loc="upper center", bbox_to_anchor=(0.5, 1.13),
                frameon=False, columnspacing=1, handlelength=1)
    axes.grid(axis="y", linewidth=0.3)
    save(canvas, out, name)


def curves(axes, points):
    """Draws peer -> [(x, median, min, max)] as lines with their ranges."""
    for peer in (p for p in COLOURS if points.get(p)):
        xs, medians, lows, highs = zip(*sorted(points[peer]))
        axes.plot(xs, medians, marker="o", markersize=3, color=COLOURS[peer], label=peer)
        axes.fill_between(xs, lows, highs, color=COLOURS[peer], alpha=0.15, linewidth=0)
    axes.legend(fontsize=7)
    axes.grid(linewidth=0.3)


def lines(out, chapters, name, figure, title, label, scenarios):
    points = {}
    for scenario, x in scenarios.items():
        for peer, spread in values(chapters.get(scenario, {"rows": []}), figure).items():
            points.setdefault(peer, []).append((x, *spread))
    if not points:
        return
    canvas, axes = plt.subplots(figsize=(6, 3.6))
    curves(axes, points)
    axes.set_xscale("log")
    axes.set_xlabel(label)
    axes.set_ylabel(title)
    save(canvas, out, name)


def rates(out, chapters):
    points = {}
    for scenario, chapter in chapters.items():
        if scenario.startswith("rate-"):
            offered = values(chapter, "offered_per_second")
            for peer, spread in values(chapter, "p99_us").items():
                points.setdefault(peer, []).append((offered[peer][0], *spread))
    if not points:
        return
    canvas, axes = plt.subplots(figsize=(6, 3.6))
    curves(axes, points)
    axes.set_yscale("log")
    axes.set_xlabel("offered requests/s")
    axes.set_ylabel("p99 from the due time, µs")
    save(canvas, out, "p99-against-rate")


def percentiles(out, folder):
    tables = {}
    for file in sorted(folder.glob("*.hgrm")):
        peer = file.stem.split("-")[2]
        for line in file.read_text().splitlines():
            cells = line.split()
            if len(cells) == 4 and cells[3] not in ("inf", "1/(1-Percentile)"):
                tables.setdefault(peer, {}).setdefault(file.stem, []).append(
                    (float(cells[3]), float(cells[0]) * 1000))
    if not tables:
        return
    canvas, axes = plt.subplots(figsize=(6, 3.6))
    for peer in (p for p in COLOURS if p in tables):
        for index, rows in enumerate(tables[peer].values()):
            axes.plot(*zip(*rows), color=COLOURS[peer], alpha=0.6, linewidth=0.9,
                      label=peer if index == 0 else None)
    axes.set_xscale("log")
    axes.set_yscale("log")
    ticks = {1: "0", 2: "50", 10: "90", 100: "99", 1000: "99.9", 10000: "99.99"}
    axes.set_xticks(list(ticks), list(ticks.values()))
    axes.set_xlabel("percentile, one line a round")
    axes.set_ylabel("latency from the due time, µs")
    axes.legend(fontsize=7)
    axes.grid(linewidth=0.3)
    save(canvas, out, "latency-by-percentile")


if __name__ == "__main__":
    main()
