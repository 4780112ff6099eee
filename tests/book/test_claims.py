"""The page of claims is made of a data file, and its numbers of stored results."""

import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DATA = ROOT / "book" / "reference" / "claims.yml"
SPEC = importlib.util.spec_from_file_location("claims", ROOT / "book/_ext/claims.py")
assert SPEC is not None and SPEC.loader is not None
ledger = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(ledger)
CLAIMS = [c for topic in ledger.read_claims(DATA) for c in topic.claims]


def test_every_claim_is_there_once():
    said = [claim.said for claim in CLAIMS]
    assert len(set(said)) == len(said) >= 30


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.said[:40])
def test_no_result_is_typed(claim):
    """Numbers come from notebooks; what others report has a citation."""
    text = ledger.filled(claim.stands, ROOT / "book")
    assert not re.search(r"\{\w+:\w+\}(?!`)", text)
    typed = re.sub(r"\{[\w:]+\}(`\w+`)?|\$[^$]*\$", "", claim.stands)
    sentences = re.split(r"(?<=[.:;])\s", typed)
    of_settings = r"at 24 blocks|at 0\.2|block 0|rate is 0|36\.8|38\.4|1,202"
    numbers = [
        re.findall(r"\d[\d.,]*", re.sub(of_settings, "", s, flags=re.I))
        for s in sentences
    ]
    assert not any(numbers), typed
    assert "reported" not in claim.status or "{cite:t}" in claim.stands
    assert claim.where or set(claim.status) <= {"reported", "heuristic"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{study:no_such_name}", "nothing is glued"),
        ("{0:study_runs}", "expected one notebook 0"),
    ],
)
def test_a_number_that_is_not_there_is_an_error(text, message):
    with pytest.raises(ValueError, match=message):
        ledger.filled(text, ROOT / "book")


def test_an_unknown_status_is_an_error(tmp_path):
    bad = tmp_path / "claims.yml"
    entry = "{said: a, status: [proved], stands: b, where: []}"
    bad.write_text(f"- topic: t\n  claims:\n    - {entry}\n")
    with pytest.raises(ValueError, match=r"claims\.0\.status\.0"):
        ledger.read_claims(bad)
