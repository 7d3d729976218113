"""Every test of a loss runs on its definition and on the compiled ops."""

import pytest

from reid_core import ops

built = pytest.mark.skipif(bool(ops.why_missing()), reason=f"no ops: {ops.why_missing()}")


@pytest.fixture(autouse=True, params=["torch", pytest.param("native", marks=built)])
def backend(request, monkeypatch):
    """What does the work where a test says nothing."""
    monkeypatch.setattr(ops, "use_native", lambda device_type, backend="auto": request.param == "native")
    return request.param
