from __future__ import annotations

import pytest

from spotrunner.train.course import Course
from spotrunner.train.early import EarlyStopping


def a_course(*, epochs: int = 3, early_stopping: EarlyStopping | None = None) -> Course:
    return Course(
        epochs=epochs,
        steps_per_epoch=10,
        save_every_steps=5,
        progress_every_steps=5,
        early_stopping=early_stopping,
    )


def test_it_is_over_after_the_last_epoch() -> None:
    assert a_course().total_steps == 30
    assert not a_course().is_over([{}, {}])
    assert a_course().is_over([{}, {}, {}])


def test_an_epoch_is_open_between_its_last_step_and_its_end() -> None:
    course = a_course()
    assert not course.has_open_epoch(9, 0)
    assert course.has_open_epoch(10, 0)
    assert not course.has_open_epoch(10, 1)
    assert not course.has_open_epoch(0, 0)
    assert course.has_open_epoch(30, 2)


def test_early_stopping_ends_it_sooner() -> None:
    course = a_course(early_stopping=EarlyStopping(patience=1))
    assert not course.is_over([{"val_loss": 1.0}])
    assert course.is_over([{"val_loss": 1.0}, {"val_loss": 1.5}])


def test_a_metric_that_is_not_there_is_told_with_those_that_are() -> None:
    course = a_course(early_stopping=EarlyStopping(monitor="val_loss"))
    with pytest.raises(ValueError, match=r"'val_loss'.*accuracy, loss"):
        course.is_over([{"loss": 1.0, "accuracy": 0.5}])


def test_no_epochs_is_an_error() -> None:
    with pytest.raises(ValueError, match="epochs"):
        a_course(epochs=0)
