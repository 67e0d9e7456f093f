"""The drift alarm: silent on uniform p-values, prompt and right about since when on others."""

from __future__ import annotations

import numpy as np
import pytest

from mekiki.errors import InputError
from mekiki.judging.drift import DriftAlarm


def test_uniform_p_values_raise_hardly_any_alarm() -> None:
    rng = np.random.default_rng(0)
    alarm = DriftAlarm(average_run=1000)
    alarms = [drift for p in rng.uniform(1e-9, 1, 50_000) if (drift := alarm.add(float(p)))]
    assert len(alarms) <= 50  # one in 1,000 parts is what is allowed
    assert alarm.seen == 50_000


@pytest.mark.parametrize("smaller", [True, False])
def test_a_drift_is_told_with_its_start_and_its_direction(smaller: bool) -> None:
    rng = np.random.default_rng(1)
    after = rng.uniform(0.001, 0.2, 200) if smaller else rng.uniform(0.8, 1, 200)
    alarm = DriftAlarm()
    alarms = [drift for p in np.r_[rng.uniform(1e-9, 1, 400), after] if (drift := alarm.add(float(p)))]
    assert 360 <= alarms[0].since <= 402  # a chance run just before it counts to the drift
    assert alarms[0].at < 440
    assert alarms[0].smaller is smaller


def test_a_rare_ng_part_is_no_drift() -> None:
    rng = np.random.default_rng(2)
    p = rng.uniform(1e-9, 1, 3000)
    p[::20] = 0.001
    alarm = DriftAlarm()
    assert not any(alarm.add(float(value)) for value in p)


@pytest.mark.parametrize("p", [0.0, -1.0, 1.1, float("nan")])
def test_what_is_no_p_value_is_refused(p: float) -> None:
    with pytest.raises(InputError, match="p-value"):
        DriftAlarm().add(p)
