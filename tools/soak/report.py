"""The table of a soak."""

import time

from tools.soak.ledger import Ledger


def table(ledger: Ledger, *, seed: int, minutes: float, real_share: float) -> str:
    """Everything that was counted, as Markdown."""
    date = time.strftime("%Y-%m-%d", time.gmtime())
    rows = [
        f"{minutes:g} minutes, seed {seed}, {real_share:.0%} of the calls for real models, {date}.",
        "",
        "| what | count |",
        "|---|---:|",
        *(f"| {what} | {ledger.counts[what]:,} |" for what in sorted(ledger.counts)),
        f"| **violations** | **{len(ledger.violations)}** |",
        "",
        "| longest, or most | |",
        "|---|---:|",
        *(f"| {what} | {_rounded(most)} |" for what, most in sorted(ledger.longest.items())),
    ]
    return "\n".join(rows)


def _rounded(number: float) -> str:
    return f"{number:.0f}" if number == int(number) else f"{number:.2f}"
