"""Counters, histograms, and the bound of the model label."""

from pool_service.metrics.values import MAX_UNLISTED, OTHER, Counter, Histogram, ModelLabels


def test_a_counter_counts_by_its_labels() -> None:
    counter = Counter()
    for labels in (("a", "x"), ("a", "y"), ("a", "x")):
        counter.add(*labels)
    assert counter.counts == {("a", "x"): 2, ("a", "y"): 1}


def test_a_bound_of_a_histogram_is_inclusive_and_what_is_larger_counts_too() -> None:
    histogram = Histogram((1.0, 2.0))
    for value in (0.0, 1.0, 1.5, 2.0, 2.1, 99.0):
        histogram.observe(value)
    assert histogram.counts == [2, 2, 2]
    assert histogram.total == 0.0 + 1.0 + 1.5 + 2.0 + 2.1 + 99.0


def test_a_listed_model_has_a_label_of_its_own_however_many_others_there_were() -> None:
    labels = ModelLabels(lambda model: model == "listed")
    others = [f"other/{number}" for number in range(MAX_UNLISTED + 5)]
    told = [labels.of(model) for model in others]
    assert told == others[:MAX_UNLISTED] + [OTHER] * 5
    assert [labels.of(model) for model in others] == told, "a label stays"
    assert labels.of("listed") == "listed"


def test_listed_models_take_no_place_of_others() -> None:
    labels = ModelLabels(lambda model: model.startswith("listed"))
    for number in range(MAX_UNLISTED + 1):
        labels.of(f"listed/{number}")
    assert labels.of("other") == "other"
