"""Run every claim and write `docs/claims.md`, its pictures and the file of published verdicts. `make claims` runs it.

What was measured before is taken from `lossary-results/`, so only what has changed is measured again.
"""

import sys
from pathlib import Path

from lossary import claims
from lossary.claims import _write

ROOT = Path(__file__).parent.parent
STORE = ROOT / "lossary-results" / "claims" / "claims.sqlite"

outcomes = []
for name in claims.names():
    outcome = claims.run(name, store=STORE)
    sys.stdout.write(f"{name}: {outcome.verdict} ({'kept' if outcome.reused else f'{outcome.seconds:.0f} s'})\n")
    sys.stdout.flush()
    outcomes.append(outcome)
_write.publish(outcomes, ROOT / "docs", claims.VERDICTS)
