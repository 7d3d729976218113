"""The fused losses by themselves, for every type and instruction set, against sums in float64: with AddressSanitizer and
UBSan, and as a compiler without vectors would build them."""

from pathlib import Path

import pytest
from test_rank_sanitized import ADDRESS, PLAIN, build, run


@pytest.mark.parametrize("flags", [ADDRESS, PLAIN], ids=["address and undefined behaviour", "plain"])
def test_no_report_and_the_same_answers(flags, tmp_path):
    # No contraction, as setup.py builds it.
    source = Path(__file__).with_name("loss_rows_cases.cpp")
    assert run(build(tmp_path, [*flags, "-ffp-contract=off", f"-I{source.parent}"], source)) == ""
