#!/usr/bin/env python3
"""Rounds the results.json of a sweep to five digits, for a repository: python3 tools/plot/shorten_results.py RESULTS > OUT

Whole numbers stay as they are. Needs nothing but Python's standard library.
"""

import json
import sys


def shorten(value):
    if isinstance(value, dict):
        return {key: shorten(one) for key, one in value.items()}
    if isinstance(value, list):
        return [shorten(one) for one in value]
    return float(f"{value:.5g}") if isinstance(value, float) else value


if __name__ == "__main__":
    with open(sys.argv[1], encoding="utf-8") as file:
        results = json.load(file)
    print(json.dumps(shorten(results), separators=(",", ":")))
