"""Run claims, all or those named, and write `docs/claims.md`, their pictures and the published verdicts. `make claims` runs it.

What was measured before is taken from `lossary-results/`, so only what has changed is measured again.
"""

import sys
from pathlib import Path

from lossary import claims
from lossary.claims._write import publish

ROOT = Path(__file__).parent.parent
STORE = ROOT / "lossary-results" / "claims" / "claims.sqlite"

for name in sys.argv[1:] or claims.names():
    outcome = claims.run(name, store=STORE)
    sys.stdout.write(f"{name}: {outcome.verdict} ({'kept' if outcome.reused else f'{outcome.seconds:.0f} s'})\n")
    sys.stdout.flush()
    publish([outcome], ROOT / "docs", claims.VERDICTS, claims.names())
